"""The loader: every seed once an epoch, PyG's fields, stages that end when they should."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.nn import GraphSAGE

from benchmarks.lab.jobs import run, torchrun
from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.graph import Graph
from minidist.moment import Moment
from minidist.prefetch import steer
from minidist.sampling.batch import MiniBatch
from minidist.sampling.loader import Loader
from minidist.sampling.pipeline import Run
from minidist.sampling.seeds import SeedSchedule
from minidist.store.partition_dir import Parts
from rudder.buffer.index import Ids
from rudder.config import SteerConfig
from rudder.feature_store import FeatureStore, Fetch, Place, When
from tests.parts import split_graph

MakeGraph = Callable[..., Graph]


class Watched(FeatureStore):
    """A store in front of another; ``on_request(number)`` is called first, from 1 on."""

    def __init__(self, inner: FeatureStore, on_request: Callable[[int], object]) -> None:
        self.inner, self.on_request = inner, on_request
        self.window, self.num_requests = inner.window, 0

    def foresee(self, ids: Ids) -> None:
        self.inner.foresee(ids)

    def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
        self.num_requests += 1
        self.on_request(self.num_requests)
        return self.inner.request(ids, place, moment)


def test_schedule_takes_each_training_node_once_and_every_step() -> None:
    num_train = [10, 3, 7]
    schedules = [
        SeedSchedule(np.arange(100 * rank, 100 * rank + count), num_train, rank, 3, seed=1)
        for rank, count in enumerate(num_train)
    ]
    assert {schedule.num_steps for schedule in schedules} == {4}
    for rank, schedule in enumerate(schedules):
        for epoch in range(2):
            moments = [Moment(epoch, step) for step in range(4)]
            seeds = np.concatenate([schedule.seeds(moment) for moment in moments])
            assert sorted(seeds) == list(range(100 * rank, 100 * rank + num_train[rank]))
        assert max(len(schedule.seeds(Moment(0, step))) for step in range(4)) <= 3
    for step in range(4):
        taken = sum(len(schedule.seeds(Moment(0, step))) for schedule in schedules)
        assert taken == schedules[0].num_global_seeds(step)
    assert schedules[0].seeds(Moment(0, 0)).tolist() != schedules[0].seeds(Moment(1, 0)).tolist()


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 2])
def test_minibatches_do_not_depend_on_the_stages(
    power_law_graph: MakeGraph, tmp_path: Path, size: int, ahead: int
) -> None:
    parts = split_graph(power_law_graph(300, 3000), size, tmp_path / "p")
    graph = parts.graph()

    def load(world: World) -> None:
        loaders = [
            Loader.open(world, parts, fanouts=(3, 2), batch_size=8, seed=5, ahead=depth)
            for depth in (0, ahead)
        ]
        plain, staged = (list(loader.run(2, Moment(0, 1))) for loader in loaders)
        assert len(plain) == len(staged) == 2 * len(loaders[0]) - 1
        for one, other in zip(plain, staged, strict=True):
            assert one.moment == other.moment
            assert torch.equal(one.n_id, other.n_id)
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.sources, other.sources)
            assert np.array_equal(one.x.numpy(), graph.x[one.n_id.numpy()])
            seeds = one.n_id[: one.batch_size].numpy()
            assert one.y.tolist() == graph.y[seeds].tolist()

    run_in_threads(load, size)


@pytest.mark.parametrize("share_hosts", [True, False])
def test_minibatches_do_not_depend_on_the_workers(
    power_law_graph: MakeGraph, tmp_path: Path, share_hosts: bool
) -> None:
    parts = split_graph(power_law_graph(300, 3000), 2, tmp_path / "p")

    def load(world: World) -> None:
        loaders = [
            Loader.open(world, parts, fanouts=(3, 2), batch_size=8, sample_threads=threads)
            for threads in (1, 2, 5)
        ]
        assert [loader.num_workers for loader in loaders] == [1, 2, 5]
        for one, *others in zip(*(loader.run(3) for loader in loaders), strict=True):
            for other in others:
                assert one.moment == other.moment
                assert torch.equal(one.n_id, other.n_id)
                assert torch.equal(one.sources, other.sources)
                assert torch.equal(one.x, other.x)

    run_in_threads(load, 2, hosts=None if share_hosts else range(2))


def test_pyg_data_has_neighbor_loaders_fields(power_law_graph: MakeGraph, tmp_path: Path) -> None:
    """A PyG model gives the same seeds' output with and without trimming to each layer."""
    parts = split_graph(power_law_graph(300, 3000), 1, tmp_path / "p")

    def load(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(4, 3), batch_size=16)
        data = next(loader.run(1)).to_data()
        assert data.num_nodes == sum(data.num_sampled_nodes) == len(data.n_id)
        assert data.edge_index.shape == (2, sum(data.num_sampled_edges))
        torch.manual_seed(0)
        model = GraphSAGE(8, 16, num_layers=2, out_channels=4).eval()
        full = model(data.x, data.edge_index)[: data.batch_size]
        trimmed = model(
            data.x,
            data.edge_index,
            num_sampled_nodes_per_hop=data.num_sampled_nodes,
            num_sampled_edges_per_hop=data.num_sampled_edges,
        )[: data.batch_size]
        assert torch.allclose(full, trimmed, atol=1e-6)

    run_in_threads(load, 1)


def test_leaving_the_loop_stops_the_stages(power_law_graph: MakeGraph, tmp_path: Path) -> None:
    parts = split_graph(power_law_graph(300, 3000), 1, tmp_path / "p")

    def load(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(3,), batch_size=4)
        batches = loader.run(50)
        next(batches)
        batches.close()

    run_in_threads(load, 1)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("minidist-sample", "minidist-fetch"))]


def test_a_failing_stage_is_raised_in_the_loop(graph12: Graph, tmp_path: Path) -> None:
    parts = split_graph(graph12, 1, tmp_path / "p")

    class Broken(FeatureStore):
        def request(self, ids: Ids, place: Place, moment: When) -> Fetch:
            raise OSError("the wire is cut")

    def load(world: World) -> list[MiniBatch]:
        loader = Loader.open(world, parts, fanouts=(2,), batch_size=2)
        loader.use(Broken())
        with pytest.raises(OSError, match="the wire is cut"):
            list(loader.run(1))
        with pytest.raises(RuntimeError, match=r"the wire is cut.*: make a new one"):
            loader.run(1)
        raise OSError("the wire is cut")

    with pytest.raises(OSError, match="the wire is cut"):
        run_in_threads(load, 1)


@contextmanager
def steered(world: World, parts: Parts, prefetch: str | None, ahead: int = 2) -> Iterator[Loader]:
    """A loader whose remote rows come through a small buffer, or through none."""
    loader = Loader.open(world, parts, fanouts=(3, 2), batch_size=6, ahead=ahead)
    if prefetch is None:
        yield loader
        return
    decider = "always" if prefetch == "rudder" else None
    config = SteerConfig(prefetch=prefetch, decider=decider, buffer_rows=30)
    with closing(steer(config, world, parts, loader, num_epochs=4)):
        yield loader


def leave_by_break(loader: Loader, check: Callable[[MiniBatch], None]) -> None:
    for batch in loader:
        check(batch)
        if batch.moment.step == 2:
            break


def leave_by_an_error_that_is_kept(loader: Loader, check: Callable[[MiniBatch], None]) -> None:
    kept = []
    try:
        for batch in loader:
            check(batch)
            if batch.moment.step == 2:
                raise KeyError("a user's own")
    except KeyError as error:
        kept.append(error)  # and with its traceback the loop's iterator
    for batch in loader.run(1):
        check(batch)
    assert kept


PREFETCH = [None, "rudder", "fixed", "lfu", "lru", "lookahead"]


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("leave", [leave_by_break, leave_by_an_error_that_is_kept])
@pytest.mark.parametrize("prefetch", PREFETCH)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_are_exact_after_a_loop_was_left(
    power_law_graph: MakeGraph,
    tmp_path: Path,
    size: int,
    prefetch: str | None,
    leave: Callable[..., None],
    ahead: int,
) -> None:
    parts = split_graph(power_law_graph(300, 3000), size, tmp_path / "p")
    graph = parts.graph()

    def load(world: World) -> None:
        def check(batch: MiniBatch) -> None:
            assert np.array_equal(batch.x.numpy(), graph.x[batch.n_id.numpy()])

        with steered(world, parts, prefetch, ahead) as loader:
            leave(loader, check)
            batches = list(loader)
            for batch in batches:
                check(batch)
            epoch = 1 if leave is leave_by_break else 2
            assert [batch.moment for batch in batches] == [
                Moment(epoch, step) for step in range(len(loader))
            ], "a whole epoch, the next one"

    run_in_threads(load, size, hosts=range(size))


@pytest.mark.parametrize("prefetch", PREFETCH)
def test_an_epoch_a_loop_is_one_loop_of_epochs(
    power_law_graph: MakeGraph, tmp_path: Path, prefetch: str | None
) -> None:
    parts = split_graph(power_law_graph(300, 3000), 2, tmp_path / "p")

    def load(world: World) -> None:
        runs = []
        for epochs in ([3], [1, 1, 1], [None, 2]):
            with steered(world, parts, prefetch) as loader:
                runs.append(
                    [
                        (batch.moment, batch.n_id, batch.x)
                        for number in epochs
                        for batch in (loader if number is None else loader.run(number))
                    ]
                )
        for one, *others in zip(*runs, strict=True):
            for other in others:
                assert one[0] == other[0]
                assert torch.equal(one[1], other[1])
                assert torch.equal(one[2], other[2])

    run_in_threads(load, 2, hosts=range(2))


def test_an_older_loop_says_that_another_has_begun(
    power_law_graph: MakeGraph, tmp_path: Path
) -> None:
    parts = split_graph(power_law_graph(300, 3000), 1, tmp_path / "p")

    def load(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(3,), batch_size=4)
        older, newer = iter(loader), None
        next(older)
        newer = iter(loader)
        assert next(newer).moment == Moment(1, 0)
        with pytest.raises(RuntimeError, match="another run of this loader has begun"):
            next(older)
        assert next(newer).moment == Moment(1, 1)

    run_in_threads(load, 1)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ahead", [0, 2])
def test_a_loop_is_left_at_one_point_whatever_the_timing(
    power_law_graph: MakeGraph, tmp_path: Path, ahead: int, workers: int
) -> None:
    parts = split_graph(power_law_graph(300, 3000), 1, tmp_path / "p")

    def num_requests(world: World, training_s: float, fetching_s: float) -> int:
        loader = Loader.open(
            world, parts, fanouts=(3,), batch_size=4, ahead=ahead, sample_threads=workers
        )
        store = Watched(loader.store.remote, lambda _: time.sleep(fetching_s))
        loader.use(store)
        for batch in loader.run(20):
            time.sleep(training_s)
            if batch.moment.step == 2:
                break
        return store.num_requests

    def load(world: World) -> None:
        assert num_requests(world, 0.1, 0) == num_requests(world, 0, 0.02)

    run_in_threads(load, 1)


@pytest.mark.parametrize("leave", [Run.close, lambda loop: None])
@pytest.mark.parametrize("error", [OSError("the wire is cut"), KeyboardInterrupt("the user's")])
def test_an_error_while_a_loop_is_left_is_raised_in_the_next(
    power_law_graph: MakeGraph, tmp_path: Path, error: BaseException, leave: Callable[[Run], None]
) -> None:
    parts = split_graph(power_law_graph(300, 3000), 1, tmp_path / "p")

    def load(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(3,), batch_size=4, sample_threads=1)
        left = threading.Event()

        def fail(number: int) -> None:
            if number > 3 and left.wait():
                raise error

        loader.use(Watched(loader.store.remote, fail))
        loop = loader.run(20)
        next(loop)
        left.set()
        with suppress(KeyboardInterrupt):
            leave(loop)
        with suppress(KeyboardInterrupt), pytest.raises(RuntimeError, match=f"{error}.*a new one"):
            loader.run(1)
        with pytest.raises(RuntimeError, match=f"{error}.*: make a new one"):
            loader.run(1)

    run_in_threads(load, 1)


def test_a_loop_that_a_stage_collects_ends_with_the_next(
    power_law_graph: MakeGraph, tmp_path: Path
) -> None:
    """A loop in a cycle of references is freed by whichever thread the collector runs in."""
    parts = split_graph(power_law_graph(300, 3000), 1, tmp_path / "p")

    def load(world: World) -> None:
        loader = Loader.open(world, parts, fanouts=(3,), batch_size=4, sample_threads=1)
        dropped, collected = threading.Event(), threading.Event()

        def collect(number: int) -> None:
            if number == 4 and dropped.wait():
                gc.collect()
                collected.set()

        loader.use(Watched(loader.store.remote, collect))
        cycle: list[object] = [loader.run(20)]
        cycle.append(cycle)
        del cycle
        dropped.set()
        assert collected.wait(30)
        assert len(list(loader)) == len(loader)

    run_in_threads(load, 1)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("minidist-sample", "minidist-fetch"))]


def test_a_store_that_hides_what_is_foreseen_is_refused(
    power_law_graph: MakeGraph, tmp_path: Path
) -> None:
    parts = split_graph(power_law_graph(300, 3000), 2, tmp_path / "p")

    def load(world: World) -> None:
        with steered(world, parts, "lookahead") as loader:
            loader.use(Watched(loader.store.remote, lambda _: None))
            loader.store.remote.window = 0
            with pytest.raises(RuntimeError, match="ids, but 0 were foreseen"):
                next(loader.run(1))

    run_in_threads(load, 2)


def test_ranks_in_lockstep_leave_a_loop_together(
    power_law_graph: MakeGraph, tmp_path: Path
) -> None:
    split_graph(power_law_graph(300, 3000), 2, tmp_path / "p")
    program = str(Path(__file__).parent / "mpi" / "programs" / "leaving.py")
    output = run([*torchrun(2), program, str(tmp_path / "p")])
    assert output.count("is content") == 4
