"""Gradients over uneven ranks equal those of one process on the joint batch."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.graph import Graph
from minidist.moment import Moment
from minidist.sampling.loader import Loader
from minidist.training.gradients import GradientSum
from minidist.training.models import build_model, loss_sum
from tests.parts import split_graph


@pytest.mark.parametrize("size", [1, 2, 3])
def test_sum_is_the_mean_over_the_joint_batch(
    power_law_graph: Callable[..., Graph], tmp_path: Path, size: int
) -> None:
    """Ranks take batches of different sizes."""
    parts = split_graph(power_law_graph(300, 3000), size, tmp_path / "p", even=False)
    shape = {"num_features": 8, "hidden": 8, "num_classes": 4, "num_layers": 2}
    model = build_model("sage", **shape, dropout=0.0).double()

    def steps(world: World) -> list[tuple[Tensor, list[Tensor | None], Any]]:
        own = copy.deepcopy(model)
        gradients, found = GradientSum(own, world.group), []
        for batch in Loader.open(world, parts, fanouts=(3, 2), batch_size=5).run(1):
            data = replace(batch, x=batch.x.double())
            loss = loss_sum(own(data), data.y) / data.num_global_seeds if data.batch_size else None
            own.zero_grad()
            total = gradients.backward(loss, batch.moment)
            found.append((total, [parameter.grad for parameter in own.parameters()], data))
        return found

    for parallel in zip(*run_in_threads(steps, size), strict=True):
        model.zero_grad()
        losses = [loss_sum(model(data), data.y) for _, _, data in parallel if data.batch_size]
        mean = sum(losses, torch.zeros(())) / sum(data.batch_size for _, _, data in parallel)
        mean.backward()  # type: ignore[no-untyped-call]
        expected = (mean.detach(), [parameter.grad for parameter in model.parameters()])
        for total, grads, _ in parallel:
            torch.testing.assert_close((total, grads), expected, rtol=0, atol=1e-9)


def test_every_rank_takes_rank_0s_parameters() -> None:
    def start(world: World) -> Tensor:
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, world.rank + 1)
        GradientSum(model, world.group)
        return model.weight.detach()

    for weight in run_in_threads(start, 3):
        assert torch.equal(weight, torch.ones(2, 2))


def test_a_model_with_nothing_to_train_is_refused() -> None:
    def start(world: World) -> None:
        model = torch.nn.Linear(1, 1)
        gradients = GradientSum(model, world.group)
        model.requires_grad_(False)
        for begin in (lambda: GradientSum(model, world.group), lambda: gradients.backward(None)):
            with pytest.raises(ValueError, match="no parameter to train"):
                begin()

    run_in_threads(start, 1)


class Tower(torch.nn.Module):
    """Two layers, and one that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.one(x.to(self.one.weight.dtype))
        out: Tensor = self.two(hidden.to(self.two.weight.dtype))
        return out


def forget_by_hand(model: Tower, *_: object) -> None:
    for parameter in model.parameters():
        parameter.grad = None


torch.manual_seed(0)
TOWER, DATA = Tower().double(), torch.randn(6, 3, 4, 3, dtype=torch.float64)
# What users do before the backward of step k.
HABITS: dict[str, Callable[[Tower, torch.optim.Optimizer, int], object]] = {
    "optimizer to None": lambda model, sgd, k: sgd.zero_grad(),
    "optimizer to zeros": lambda model, sgd, k: sgd.zero_grad(set_to_none=False),
    "model to None": lambda model, sgd, k: model.zero_grad(),
    "model to zeros": lambda model, sgd, k: model.zero_grad(set_to_none=False),
    "by hand": forget_by_hand,
    "accumulate": lambda model, sgd, k: None if k % 2 else sgd.zero_grad(),
    "freeze": lambda model, sgd, k: (model.one.requires_grad_(k in (0, 4, 5)), sgd.zero_grad()),
    "float32": lambda model, sgd, k: (model.float(), sgd.zero_grad()),
    "two dtypes": lambda model, sgd, k: (model.two.float() if k > 2 else None, sgd.zero_grad()),
    "compile": lambda model, sgd, k: sgd.zero_grad(),
    "autocast": lambda model, sgd, k: sgd.zero_grad(),
}


def train(habit: str, size: int, world: World | None = None) -> list[Tensor]:
    """The losses and the parameters learnt by one of ``size`` ranks, or by one process for all.

    In step k rank r has (k + 2 r) % 4 rows, so at times none.
    """
    model = copy.deepcopy(TOWER)
    group = GradientSum(model, world.group) if world else None
    forward = torch.compile(model, backend="eager") if habit == "compile" else model
    sgd = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, 2, 0.5)
    totals = []

    def loss_of(k: int, rank: int) -> Tensor | None:
        rows = DATA[k, rank, : (k + 2 * rank) % 4]
        with torch.autocast("cpu", torch.bfloat16, enabled=habit == "autocast"):
            return forward(rows).double().square().sum() / 10 if len(rows) else None

    for k in range(6):
        HABITS[habit](model, sgd, k)
        if world and group:
            totals.append(group.backward(loss_of(k, world.rank), Moment(0, k)).double())
            group.check()
        else:
            losses = [loss for rank in range(size) if (loss := loss_of(k, rank)) is not None]
            for loss in losses:
                loss.backward()  # type: ignore[no-untyped-call]
            totals.append(sum(losses, torch.zeros(())).detach().double())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        if habit != "accumulate" or k % 2:
            sgd.step()
            schedule.step()
    assert model.unused.weight.grad is None
    return [*totals, *(parameter.detach().double() for parameter in model.parameters())]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("habit", HABITS)
def test_usual_loops_learn_what_one_process_learns(habit: str, size: int) -> None:
    expected = train(habit, size)
    for found in run_in_threads(lambda world: train(habit, size, world), size):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_sparse_gradients_are_summed() -> None:
    def step(world: World) -> Tensor:
        table = torch.nn.Embedding(4, 1, sparse=True)
        GradientSum(table, world.group).backward(table(torch.tensor([0, world.rank])).sum())
        assert table.weight.grad is not None
        return table.weight.grad.flatten()

    for found in run_in_threads(step, 3):
        assert found.tolist() == [4, 1, 1, 0]


def test_running_statistics_are_the_mean_of_the_ranks_with_seeds() -> None:
    def rows(rank: int) -> Tensor:
        return torch.full((4, 2), float(rank)) + torch.arange(8.0).view(4, 2)

    def step(world: World) -> list[Tensor]:
        norm = torch.nn.BatchNorm1d(2)
        gradients = GradientSum(norm, world.group)
        gradients.backward(norm(rows(world.rank)).sum() if world.rank else None)
        gradients.check()
        return list(norm.buffers())

    alone = [torch.nn.BatchNorm1d(2) for _ in range(2)]
    for rank, norm in enumerate(alone, 1):
        norm(rows(rank))
    pairs = zip(*(norm.buffers() for norm in alone), strict=True)
    expected = [((one + two) / 2).to(one.dtype) for one, two in pairs]
    for found in run_in_threads(step, 3):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("with_seeds", [(0, 1, 2), (1,), ()])
def test_other_buffers_stay_as_they_are(with_seeds: tuple[int, ...]) -> None:
    values = (1_700_000_001, 0.1, float("-inf"), True, 1 + 2j)
    buffers = [*map(torch.tensor, values), torch.tensor(0.1, dtype=torch.float64)]

    def step(world: World) -> list[Tensor]:
        model = torch.nn.Linear(1, 1, dtype=torch.bfloat16)
        for number, buffer in enumerate(buffers):
            model.register_buffer(f"buffer{number}", buffer.clone())
        loss = model(torch.ones(1, 1, dtype=torch.bfloat16)).sum()
        GradientSum(model, world.group).backward(loss if world.rank in with_seeds else None)
        return list(model.buffers())

    for found in run_in_threads(step, 3):
        torch.testing.assert_close(found, buffers, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: model.two.weight.data.add_(1), "'two.weight' of ranks 1, 2 .* in value"),
        (lambda model: model.two.requires_grad_(False), "'two.weight' .* in requires_grad "),
        (lambda model: model.append(torch.nn.Linear(1, 1)), "'2.weight' of ranks 1, 2 differs"),
    ],
)
def test_the_check_names_what_differs(change: Callable[[Any], object], told: str) -> None:
    def step(world: World) -> None:
        model = torch.nn.Sequential(
            OrderedDict(one=torch.nn.Linear(1, 1), two=torch.nn.Linear(1, 1))
        )
        gradients = GradientSum(model, world.group)
        gradients.check()
        if world.rank:
            change(model)
        with pytest.raises(ValueError, match=told + r".*\(epoch 3\)"):
            gradients.check(Moment(3))

    run_in_threads(step, 3)
