"""Gradients over uneven ranks equal those of one process on the joint batch."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.graph import Graph
from minidist.moment import Moment
from minidist.sampling.loader import Loader
from minidist.training.gradients import GradientSum
from minidist.training.models import GNN, build_model, loss_sum
from tests.parts import split_graph


def make_model(graph_features: int = 8) -> GNN:
    """A fixed model without dropout, in double precision."""
    torch.manual_seed(3)
    return build_model(
        "sage", num_features=graph_features, hidden=8, num_classes=4, num_layers=2, dropout=0.0
    ).double()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_sum_is_the_mean_over_the_joint_batch(
    power_law_graph: Callable[..., Graph], tmp_path: Path, size: int
) -> None:
    """Ranks take batches of different sizes."""
    graph = power_law_graph(300, 3000)
    parts = split_graph(graph, size, tmp_path / "p", even=False)
    model = make_model()

    def step(world: World) -> list[tuple[torch.Tensor, list[torch.Tensor], Any]]:
        own = copy.deepcopy(model)
        gradients = GradientSum(own, world.group)
        loader = Loader.open(world, parts, fanouts=(3, 2), batch_size=5)
        steps: list[tuple[torch.Tensor, list[torch.Tensor], Any]] = []
        for batch in loader.run(1):
            data = copy.copy(batch)
            object.__setattr__(data, "x", batch.x.double())
            loss = loss_sum(own(data), data.y) / data.num_global_seeds if data.batch_size else None
            own.zero_grad()
            total = gradients.backward(loss, batch.moment)
            steps.append((total, [p.grad.clone() for p in own.parameters()], data))  # type: ignore[union-attr]
        return steps

    ranks = run_in_threads(step, size)
    for parallel in zip(*ranks, strict=True):
        joint = copy.deepcopy(model)
        losses = [loss_sum(joint(data), data.y) for _, _, data in parallel if data.batch_size]
        mean = sum(losses) / sum(data.batch_size for _, _, data in parallel)
        mean.backward()
        for total, gradients, _ in parallel:
            assert float(total) == pytest.approx(float(mean), abs=1e-9)
            for mine, parameter in zip(gradients, joint.parameters(), strict=True):
                assert parameter.grad is not None
                assert torch.allclose(mine, parameter.grad, atol=1e-9)


def test_every_rank_takes_rank_0s_parameters() -> None:
    def start(world: World) -> torch.Tensor:
        model = torch.nn.Linear(2, 2)
        with torch.no_grad():
            model.weight.fill_(world.rank + 1)
        GradientSum(model, world.group)
        return model.weight.detach()

    weights = run_in_threads(start, 3)
    assert all(torch.equal(weight, torch.ones(2, 2)) for weight in weights)


def test_a_rank_without_seeds_takes_part() -> None:
    def step(world: World) -> float:
        model = torch.nn.Linear(1, 1, bias=False)
        gradients = GradientSum(model, world.group)
        loss = model(torch.ones(1, 1)).sum() * 0 + 2.0 if world.rank == 0 else None
        return float(gradients.backward(loss, Moment(0, 0)))

    assert run_in_threads(step, 2) == [2.0, 2.0]


def test_a_model_with_nothing_to_train_is_refused() -> None:
    def start(world: World) -> None:
        model = torch.nn.Linear(1, 1)
        gradients = GradientSum(model, world.group)
        model.requires_grad_(False)
        for begin in (lambda: GradientSum(model, world.group), lambda: gradients.backward(None)):
            with pytest.raises(ValueError, match="no parameter to train"):
                begin()

    run_in_threads(start, 1)


def zero_to_none(model: torch.nn.Module, adam: torch.optim.Optimizer, step: Any) -> None:
    for number in range(6):
        adam.zero_grad()
        step(number)
        adam.step()


def zero_to_zeros(model: torch.nn.Module, adam: torch.optim.Optimizer, step: Any) -> None:
    for number in range(6):
        model.zero_grad(set_to_none=False)
        step(number)
        adam.step()


def accumulate(model: torch.nn.Module, adam: torch.optim.Optimizer, step: Any) -> None:
    for number in range(6):
        step(number)
        if number % 2:
            adam.step()
            for parameter in model.parameters():
                parameter.grad = None


def clip_and_schedule(model: torch.nn.Module, adam: torch.optim.Optimizer, step: Any) -> None:
    schedule = torch.optim.lr_scheduler.StepLR(adam, 2, 0.1)
    for number in range(6):
        adam.zero_grad()
        step(number)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        adam.step()
        schedule.step()


def freeze_and_unfreeze(model: torch.nn.Module, adam: torch.optim.Optimizer, step: Any) -> None:
    first = next(model.children())
    for number in range(6):
        first.requires_grad_(number in (0, 4, 5))
        adam.zero_grad()
        step(number)
        adam.step()


def cast(model: torch.nn.Module, adam: torch.optim.Optimizer, step: Any) -> None:
    for number in range(6):
        adam.zero_grad()
        step(number)
        adam.step()
        if number == 2:
            list(model.children())[1].float()  # two dtypes from here on
            adam.state.clear()


LOOPS = [zero_to_none, zero_to_zeros, accumulate, clip_and_schedule, freeze_and_unfreeze, cast]


class Tower(torch.nn.Module):
    """Two layers, one that no loss depends on, and what a user may wrap around them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.one(x.to(self.one.weight.dtype))
        out: torch.Tensor = self.two(hidden.to(self.two.weight.dtype))
        return out


torch.manual_seed(0)
TOWER, DATA = Tower().double(), torch.randn(6, 3, 9, 3, dtype=torch.float64)


def run_loop(loop: Any, world: World | None, compiled: bool, amp: bool) -> list[torch.Tensor]:
    """Train a tower on one process or one rank; every rank's share of step k has k + rank rows."""
    model = copy.deepcopy(TOWER)
    group = None if world is None else GradientSum(model, world.group)
    forward = torch.compile(model, backend="eager") if compiled else model

    def losses(number: int, rank: int) -> torch.Tensor | None:
        rows = DATA[number, rank, : (number + 2 * rank) % 4]
        if not len(rows):
            return None
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            out: torch.Tensor = forward(rows)
        return out.double().square().sum() / 10

    def step(number: int) -> None:
        if group is not None:
            assert world is not None
            group.backward(losses(number, world.rank), Moment(0, number))
            group.check()
            return
        for rank in range(run_loop.size):  # type: ignore[attr-defined]
            loss = losses(number, rank)
            if loss is not None:
                loss.backward()

    loop(model, torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1), step)
    assert model.unused.weight.grad is None
    return [parameter.detach().double() for parameter in model.parameters()]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_usual_loops_learn_what_one_process_learns(loop: Any, size: int) -> None:
    run_loop.size = size  # type: ignore[attr-defined]
    expected = run_loop(loop, None, compiled=False, amp=False)
    for found in run_in_threads(lambda world: run_loop(loop, world, False, False), size):
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("compiled", "amp"), [(True, False), (False, True)])
def test_compiled_models_and_autocast(compiled: bool, amp: bool) -> None:
    run_loop.size = 2  # type: ignore[attr-defined]
    expected = run_loop(zero_to_none, None, compiled, amp)
    ranks = run_in_threads(lambda world: run_loop(zero_to_none, world, compiled, amp), 2)
    for found in ranks:
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-9)


def test_running_statistics_are_the_mean_of_the_ranks_with_seeds() -> None:
    def step(world: World) -> list[torch.Tensor]:
        norm = torch.nn.BatchNorm1d(2)
        gradients = GradientSum(norm, world.group)
        rows = torch.full((4, 2), float(world.rank)) + torch.arange(8.0).view(4, 2)
        gradients.backward(norm(rows).sum() if world.rank else None)
        gradients.check()
        return [buffer.clone() for buffer in norm.buffers()]

    alone = [torch.nn.BatchNorm1d(2) for _ in range(2)]
    for rank, norm in enumerate(alone, 1):
        norm(torch.full((4, 2), float(rank)) + torch.arange(8.0).view(4, 2))
    expected = [sum(pair) / 2 for pair in zip(*(norm.buffers() for norm in alone), strict=True)]
    for found in run_in_threads(step, 3):
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.allclose(mine.float(), theirs.float())


@pytest.mark.parametrize("change", ["value", "requires_grad"])
def test_the_check_names_what_differs(change: str) -> None:
    def step(world: World) -> None:
        model = Tower()
        gradients = GradientSum(model, world.group)
        gradients.check()
        if world.rank == 1 and change == "value":
            with torch.no_grad():
                model.two.weight[0, 0] += 1
        elif world.rank == 1:
            model.two.weight.requires_grad_(False)
        with pytest.raises(ValueError, match=r"ranks 0 and 1 do not hold 'two.weight' alike"):
            gradients.check(Moment(3))

    run_in_threads(step, 2)
