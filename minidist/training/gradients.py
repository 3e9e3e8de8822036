"""GradientSum: gradients of the mean over the global batch, exact with uneven ranks.

    rank 0: sum of its seeds' losses / seeds of all ranks --backward--\
    rank 1: sum of its seeds' losses / seeds of all ranks --backward--- sum over ranks = the mean

Averaging each rank's own mean, as DistributedDataParallel does, would weigh a seed of a small
batch more than one of a large batch.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minidist.comm.group import Group
from minidist.moment import OUTSIDE, Moment


class GradientSum:
    """``backward`` for a model that all ranks train alike.

    Written as any PyTorch loop: ``zero_grad()`` in every form, accumulation over several
    ``backward``s, clipping, schedulers, freezing, unfreezing and casting do what they do in one
    process. Running statistics (BatchNorm's) become the mean over the ranks that had seeds.

    On construction every rank takes rank 0's parameters and buffers. Raises PeerTimeout, and
    ValueError where no parameter is to be trained.
    """

    def __init__(self, model: nn.Module, group: Group) -> None:
        self._model, self._group = model, group
        self._trained()
        with torch.no_grad():
            for tensor in [*model.parameters(), *model.buffers()]:
                # A broadcast, as a sum in which only rank 0 has a say.
                if group.rank != 0:
                    tensor.zero_()
                group.all_reduce(tensor.data, "sharing rank 0's parameters", OUTSIDE)

    def _trained(self) -> list[nn.Parameter]:
        """The parameters to train as they are now."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        if not trained:
            raise ValueError("the model has no parameter to train: each has requires_grad=False")
        return trained

    def backward(self, loss: Tensor | None, moment: Moment = OUTSIDE) -> Tensor:
        """Add the gradient of the summed loss to every ``grad``; returns that loss, detached.

        loss: the sum over this rank's seeds divided by the seeds of all ranks; None where this
        rank has no seeds. As ``loss.backward()`` it adds to what ``grad`` holds, so call
        ``optimizer.zero_grad()`` first. A parameter that no rank's loss depends on keeps its grad.
        Raises PeerTimeout.
        """
        trained = self._trained()
        if self._group.size == 1:
            if loss is not None:
                loss.backward()  # type: ignore[no-untyped-call]
            return trained[0].new_zeros(()) if loss is None else loss.detach()
        before = [parameter.grad for parameter in trained]
        for parameter in trained:
            parameter.grad = None
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        total = self._sum(trained, loss, moment)
        for parameter, grad in zip(trained, before, strict=True):
            if parameter.grad is None:
                parameter.grad = grad
            elif grad is not None:
                parameter.grad = grad.add_(parameter.grad)
        return total

    @torch.no_grad()
    def _sum(self, trained: list[nn.Parameter], loss: Tensor | None, moment: Moment) -> Tensor:
        """Replace each fresh grad, and each buffer, by that of all ranks; returns the loss's sum.

        One message for each dtype and device, in the usual case one: the gradients, whether we have
        each, the buffers, whether we had seeds, and the loss.
        """
        buffers = [buffer for buffer in self._model.buffers() if buffer.numel()]
        had_seeds = loss is not None
        total = trained[0].new_zeros(()) if loss is None else loss.detach()
        by_kind: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in trained:
            by_kind.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for number, ((dtype, device), alike) in enumerate(by_kind.items()):
            extra = [total, *buffers] if number == 0 else []
            sent = [torch.zeros_like(p) if p.grad is None else p.grad for p in alike]
            has = torch.tensor([p.grad is not None for p in alike] + [had_seeds], device=device)
            scaled = [tensor * had_seeds for tensor in extra]
            flat = torch.cat([t.reshape(-1).to(dtype) for t in (*sent, *scaled, has)])
            self._group.all_reduce(flat, "summing gradients", moment)
            *grads, counts = torch.split(flat, [t.numel() for t in (*sent, *scaled, has)])
            # What we have ourselves needs no look at the counts, for which a GPU would be waited.
            have_all = all(p.grad is not None for p in alike)
            touched = [True] * len(alike) if have_all else (counts[:-1] > 0).tolist()
            for parameter, grad, is_touched in zip(alike, grads, touched, strict=False):
                parameter.grad = grad.view_as(parameter) if is_touched else None
            if number == 0:
                total = grads[len(alike)].reshape(()).clone()
                self._average(buffers, grads[len(alike) + 1 :], counts[-1])
        return total

    def _average(self, buffers: list[Tensor], sums: Sequence[Tensor], count: Tensor) -> None:
        """Buffers become the mean over the ranks that had seeds; whole numbers are rounded."""
        for buffer, summed in zip(buffers, sums, strict=True):
            mean = summed.view_as(buffer) / count
            buffer.copy_(mean if buffer.is_floating_point() else mean.round())

    def check(self, moment: Moment = OUTSIDE) -> None:
        """Raise ValueError naming the first parameter or buffer that ranks do not hold alike."""
        named = [*self._model.named_parameters(), *self._model.named_buffers()]
        mine = [
            (name, tensor.requires_grad, str(tensor.dtype), _digest(tensor))
            for name, tensor in named
        ]
        everyone = self._group.all_gather(mine, "comparing parameters", moment)
        for rank, theirs in enumerate(everyone):
            for ours, other in zip(everyone[0], theirs, strict=False):
                if ours != other:
                    raise ValueError(
                        f"ranks 0 and {rank} do not hold {ours[0]!r} alike ({moment}): train, "
                        "freeze and load the same on every rank, and sum gradients by "
                        "GradientSum.backward"
                    )


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=8).hexdigest()
