"""GradientSum: gradients of the mean over the global batch, exact with uneven ranks.

    rank 0: sum of its seeds' losses / seeds of all ranks --backward--\
    rank 1: sum of its seeds' losses / seeds of all ranks --backward--- sum over ranks = the mean

Averaging each rank's own mean, as DistributedDataParallel does, would weigh a seed of a small
batch more than one of a large batch.
"""

import torch
from torch import Tensor, nn

from minidist.comm.group import Group
from minidist.moment import OUTSIDE, Moment


class GradientSum:
    """Sums the gradients of a model over all ranks, in one message.

    The parameters' ``grad`` become views of one flat tensor, whose last entry carries the loss.
    On construction every rank takes rank 0's parameters and buffers; raises PeerTimeout, or
    ValueError where no parameter is to be trained or they differ in dtype or device.
    """

    def __init__(self, model: nn.Module, group: Group) -> None:
        self._group = group
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        kinds = sorted({f"{p.dtype} on {p.device}" for p in self._parameters})
        if len(kinds) != 1:
            raise ValueError(
                f"parameters to train are {' and '.join(kinds) or 'none'}; their gradients are "
                "summed in one message, of one dtype on one device: see model.to(...)"
            )
        with torch.no_grad():
            for tensor in [*model.parameters(), *model.buffers()]:
                # A broadcast, as a sum in which only rank 0 has a say.
                if group.rank != 0:
                    tensor.zero_()
                group.all_reduce(tensor.data, "sharing rank 0's parameters", OUTSIDE)
        first = self._parameters[0]
        count = sum(p.numel() for p in self._parameters)
        self._flat = torch.zeros(count + 1, device=first.device, dtype=first.dtype)
        start = 0
        for parameter in self._parameters:
            end = start + parameter.numel()
            parameter.grad = self._flat[start:end].view_as(parameter)
            start = end

    def backward(self, loss: Tensor | None, moment: Moment = OUTSIDE) -> Tensor:
        """Fill every ``grad`` with the sum over ranks; returns the summed loss, detached.

        loss: the sum over this rank's seeds divided by the seeds of all ranks; None where this
        rank has no seeds. Replaces ``zero_grad`` and ``loss.backward()``. Raises PeerTimeout.
        """
        self._flat.zero_()
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
            self._flat[-1] = loss.detach()
        self._group.all_reduce(self._flat, "summing gradients", moment)
        return self._flat[-1].clone()
