"""GradientSum: gradients of the mean over the global batch, exact with uneven ranks.

    rank 0: sum of its seeds' losses / seeds of all ranks --backward--\
    rank 1: sum of its seeds' losses / seeds of all ranks --backward--- sum over ranks = the mean

Averaging each rank's own mean, as DistributedDataParallel does, would weigh a seed of a small
batch more than one of a large batch.
"""

import hashlib

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

    def backward(
        self, loss: Tensor | None, moment: Moment = OUTSIDE, leaving: bool = False
    ) -> Tensor:
        """Add the gradient of the summed loss to every ``grad``; returns that loss, detached.

        loss: the sum over this rank's seeds divided by the seeds of all ranks; None where this
        rank has no seeds. As ``loss.backward()`` it adds to what ``grad`` holds, so call
        ``optimizer.zero_grad()`` first. A parameter that no rank's loss depends on keeps its grad.
        leaving: whether this rank was asked to end; ``num_leaving`` then tells every rank how many
        were, so that all can end after the same step. Raises PeerTimeout.
        """
        trained = self._trained()
        if self._group.size == 1:
            if loss is not None:
                loss.backward()  # type: ignore[no-untyped-call]
            self.num_leaving = trained[0].new_tensor(float(leaving))
            return trained[0].new_zeros(()) if loss is None else loss.detach()
        before = [parameter.grad for parameter in trained]
        for parameter in trained:
            parameter.grad = None
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        sums = self._sum(trained, loss, leaving, moment)
        self.num_leaving = sums[1]
        self._average_buffers(loss is not None, moment)
        for parameter, grad in zip(trained, before, strict=True):
            if parameter.grad is None:
                parameter.grad = grad
            elif grad is not None:
                parameter.grad = grad.add_(parameter.grad)
        return sums[0]

    @torch.no_grad()
    def _sum(
        self, trained: list[nn.Parameter], loss: Tensor | None, leaving: bool, moment: Moment
    ) -> Tensor:
        """Replace each fresh grad by the sum of all ranks'; returns the sums of loss and leaving.

        One message for each dtype and device, in the usual case one: the gradients, whether we have
        each, the loss, and whether we leave.
        """
        own = trained[0].new_tensor([0.0, leaving])
        if loss is not None:
            own[0] = loss.detach()
        totals: list[Tensor] = []
        by_kind: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in trained:
            by_kind.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for (dtype, device), alike in by_kind.items():
            sent = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in alike]
            has = torch.tensor([p.grad is not None for p in alike], device=device)
            flat = torch.cat([t.reshape(-1).to(device, dtype) for t in (*sent, has, own)])
            self._group.all_reduce(flat, "summing gradients", moment)
            *grads, counts, total = torch.split(flat, [t.numel() for t in (*sent, has, own)])
            # What we have ourselves needs no look at the counts, for which a GPU would be waited.
            have_all = all(p.grad is not None for p in alike)
            touched = [True] * len(alike) if have_all else (counts > 0).tolist()
            for parameter, grad, is_touched in zip(alike, grads, touched, strict=True):
                parameter.grad = grad.view_as(parameter) if is_touched else None
            totals.append(total.clone())
        return totals[0]

    @torch.no_grad()
    def _average_buffers(self, had_seeds: bool, moment: Moment) -> None:
        """Buffers become their mean over the ranks that had seeds; whole numbers are rounded.

        In float64, a message of its own: whole numbers outgrow the gradients' dtype, and constants
        would be rounded to it. Where no rank had seeds, nothing changes.
        """
        buffers = [
            torch.view_as_real(buffer) if buffer.is_complex() else buffer
            for buffer in self._model.buffers()
            if buffer.numel()
        ]
        if not buffers:
            return
        device = buffers[0].device
        own = torch.cat([buffer.reshape(-1).to(device, torch.float64) for buffer in buffers])
        flat = torch.cat([own, own.new_ones(1)])
        if not had_seeds:
            flat.zero_()
        self._group.all_reduce(flat, "averaging buffers", moment)
        means = torch.where(flat[-1] > 0, flat[:-1] / flat[-1], own)
        parts = torch.split(means, [buffer.numel() for buffer in buffers])
        for buffer, mean in zip(buffers, parts, strict=True):
            mean = mean.view_as(buffer)
            buffer.copy_(mean if buffer.is_floating_point() else mean.round())

    def check(self, moment: Moment = OUTSIDE) -> None:
        """Raise ValueError naming the first parameter or buffer that differs between ranks.

        Freezing counts as a difference, as do dtype and shape. Raises PeerTimeout.
        """
        named = [*self._model.named_parameters(), *self._model.named_buffers()]
        everyone = self._group.all_gather(
            {name: _features(tensor) for name, tensor in named}, "comparing parameters", moment
        )
        for name in dict.fromkeys(name for features in everyone for name in features):
            held = [features.get(name, {}) for features in everyone]
            odd = [rank for rank, features in enumerate(held) if features != held[0]]
            if odd:
                kinds = max(held, key=len)
                what = [k for k in kinds if len({features.get(k) for features in held}) > 1]
                raise ValueError(
                    f"{name!r} of rank{'s' * (len(odd) > 1)} {', '.join(map(str, odd))} differs "
                    f"from rank 0's in {' and '.join(what)} ({moment}): train, freeze and load the "
                    "same on every rank, and sum gradients by GradientSum.backward"
                )


def _features(tensor: Tensor) -> dict[str, str]:
    """What ranks compare of a parameter or buffer."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return {
        "requires_grad": str(tensor.requires_grad),
        "dtype": str(tensor.dtype),
        "shape": str(tuple(tensor.shape)),
        "value": hashlib.blake2b(values.numpy().tobytes(), digest_size=8).hexdigest(),
    }
