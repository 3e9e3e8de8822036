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


@pytest.mark.parametrize(("kinds", "told"), [((), "none"), (("float32", "float64"), "float64 on")])
def test_parameters_that_no_one_message_carries(kinds: tuple[str, ...], told: str) -> None:
    model = torch.nn.ModuleList(torch.nn.Linear(1, 1).to(getattr(torch, kind)) for kind in kinds)

    def start(world: World) -> None:
        with pytest.raises(ValueError, match=told):
            GradientSum(model, world.group)

    run_in_threads(start, 1)
