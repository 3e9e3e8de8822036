"""The model's arithmetic on inputs made by hand: limits, bounds, and what it is fitted to."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.model.calibrate import Known, calibrate, line
from benchmarks.model.costs import Cluster, Costs, Variant, Work, slowest_of
from benchmarks.model.measured import Measured, Place
from benchmarks.model.pipeline import Stages, epoch_seconds, step_ends

COSTS = Costs(
    sample_s=1e-3,
    sample_edge_s=1e-7,
    fetch_s=2e-3,
    fetch_row_s=1e-7,
    train_s=4e-3,
    train_edge_s=1e-6,
    exchange_s=1e-3,
    link_share=0.9,
    ahead_share=0.9,
    queue=0.0,
    sum_s=5e-4,
    gradient_bytes=1e5,
    decision_s=0.02,
)
NONE, OVERLAP = Variant(ahead=False), Variant()
DECIDING = Variant(window=2, decides=True)
SYNC = dataclasses.replace(DECIDING, sync=True)


def make_work(ranks: int = 4, steps: int = 24, seed: int = 0, scale: float = 1.0) -> Work:
    rng = np.random.default_rng(seed)

    def amounts(mean: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return mean * scale * rng.uniform(0.7, 1.3, (ranks, steps))

    return Work(
        nodes=amounts(30_000),
        edges=amounts(50_000),
        neighbor_bytes=amounts(1e5),
        row_bytes=amounts(5e6),
        steps_per_epoch=6,
    )


def constant(sample: float, carry: float, train: float, steps: int = 12, ranks: int = 2) -> Stages:
    return Stages(
        sample=np.full((ranks, steps), sample),
        fetch=np.zeros((ranks, steps)),
        carry=np.full((ranks, steps), carry),
        train=np.full((ranks, steps), train),
        together=np.zeros(steps),
    )


def cluster(ranks: int = 4, link: float | None = 1e8, cores: float | None = None) -> Cluster:
    """With cores enough for all threads, unless told otherwise."""
    return Cluster(ranks=ranks, cores=4.0 * ranks if cores is None else cores, link=link)


@pytest.mark.parametrize(
    ("stages", "slowest"), [((3, 1, 1), 3), ((1, 3, 1), 3), ((1, 1, 3), 3), ((2, 2, 2), 2)]
)
def test_a_pipeline_goes_as_its_slowest_stage(
    stages: tuple[float, float, float], slowest: float
) -> None:
    sample, carry, _ = stages
    ends = step_ends(constant(*stages), ahead=2)
    # The first minibatch is handed on when the rows of the second have been asked for.
    assert ends[0] == sum(stages) + max(sample - carry, 0)
    np.testing.assert_allclose(np.diff(ends)[:-1], slowest)
    np.testing.assert_allclose(np.diff(step_ends(constant(*stages), ahead=0)), sum(stages))


def test_a_pipeline_by_hand() -> None:
    stages = Stages(
        sample=np.array([[1.0, 1.0, 1.0]]),
        fetch=np.zeros((1, 3)),
        carry=np.array([[2.0, 5.0, 1.0]]),
        train=np.array([[4.0, 1.0, 1.0]]),
        together=np.array([0.5, 0.5, 0.5]),
    )
    # Asked for at 1, 2, 3 and there at 3, 8, 9; trained from 3 to 7.5, 8 to 9.5, 9.5 to 11.
    assert step_ends(stages, ahead=2).tolist() == [7.5, 9.5, 11.0]
    assert step_ends(stages, ahead=0).tolist() == [7.5, 15.0, 18.5]
    # Nothing is asked for before all three are sampled.
    assert step_ends(stages, ahead=2, window=2).tolist() == [9.5, 11.5, 13.0]


def test_rows_are_asked_for_before_those_of_the_minibatch_before_have_come() -> None:
    # Computing of a fetch that takes as long as its rows are on the way costs nothing more ...
    stages = constant(0.0, 3.0, 1.0)
    both = dataclasses.replace(stages, fetch=stages.carry)
    assert step_ends(both, ahead=2).tolist() == step_ends(stages, ahead=2).tolist()
    # ... and one after the other would: 12 minibatches of 3 + 3.
    assert step_ends(both, ahead=2)[-1] == 12 * 3.0 + 1.0
    # But no more than one minibatch is asked for before those before it are handed on.
    late = constant(0.0, 0.0, 0.0, steps=3, ranks=1)
    fetch, carry = late.fetch.copy(), late.carry.copy()
    fetch[0, 0], carry[0, 2] = 10.0, 5.0
    late = dataclasses.replace(late, fetch=fetch, carry=carry)
    assert step_ends(late, ahead=2).tolist() == [10.0, 10.0, 15.0]


def test_stages_are_ahead_by_no_more_than_their_queues() -> None:
    # Fetching is quick at first and slow at last: what is kept in front runs out after three.
    stages = constant(0.0, 0.0, 1.0, steps=8, ranks=1)
    carry = stages.carry.copy()
    carry[0, 5] = 10.0
    ends = step_ends(dataclasses.replace(stages, carry=carry), ahead=2)
    # Minibatch 3 left the fetch stage when 1 was taken, at 1; then 5 was asked for, there at 11.
    assert ends.tolist() == [1, 2, 3, 4, 5, 12, 13, 14]


def test_steps_wait_for_the_slowest_rank() -> None:
    stages = constant(0.0, 0.0, 1.0, steps=4)
    train = stages.train.copy()
    train[0, 0] = train[1, 1] = 3.0
    for ahead in (0, 2):
        ends = step_ends(dataclasses.replace(stages, train=train), ahead)
        assert ends.tolist() == [3.0, 6.0, 7.0, 8.0]


def test_an_epoch_is_the_median_after_the_first() -> None:
    assert epoch_seconds(np.array([9.0, 10.0, 11.0, 12.0, 15.0, 19.0]), 2) == (2.0 + 7.0) / 2
    assert epoch_seconds(np.array([9.0, 10.0]), 2) == 10.0


@pytest.mark.parametrize("variant", [NONE, OVERLAP, DECIDING])
def test_with_infinite_links_only_computing_is_left(variant: Variant) -> None:
    work = make_work()
    free = dataclasses.replace(COSTS, exchange_s=0.0, sum_s=0.0)
    endless = free.epoch_s(work, cluster(link=1e18), variant)
    assert endless == pytest.approx(free.epoch_s(work, cluster(link=None), variant))


def test_without_computing_only_communication_is_left() -> None:
    work = make_work()
    names = ("sample_s", "sample_edge_s", "fetch_s", "fetch_row_s", "train_s", "train_edge_s")
    wires = dataclasses.replace(COSTS, **dict.fromkeys(names, 0.0), exchange_s=0.0, sum_s=0.0)
    where = cluster(link=1e7)
    epoch = wires.epoch_s(work, where, OVERLAP)
    carried = (work.neighbor_bytes + work.row_bytes).sum(1).max() / 4 + 6 * 1.5 * 1e5
    # No less than the bytes of the busiest rank, no more than if nothing overlapped.
    assert carried / 1e7 <= epoch <= wires.epoch_s(work, where, NONE)
    assert wires.epoch_s(work, cluster(link=5e6), OVERLAP) == pytest.approx(2 * epoch)


@pytest.mark.parametrize("link", [1e6, 1e7, 1e8, 1e9, None])
@pytest.mark.parametrize("cores", [2.0, 4.0, 64.0])
def test_orders(link: float | None, cores: float) -> None:
    """Ahead is never slower than in turn, async never than sync, a buffer never than none."""
    work, where = make_work(), cluster(link=link, cores=cores)
    none, overlap = (COSTS.epoch_s(work, where, each) for each in (NONE, OVERLAP))
    assert overlap <= none * (1 + 1e-9)
    deciding, sync = (COSTS.epoch_s(work, where, each) for each in (DECIDING, SYNC))
    assert deciding <= sync * (1 + 1e-9)
    fewer = dataclasses.replace(work, row_bytes=0.5 * work.row_bytes)
    assert COSTS.epoch_s(fewer, where, OVERLAP) <= overlap
    slower = cluster(link=None if link is None else link / 2, cores=cores)
    assert COSTS.epoch_s(work, slower, OVERLAP) >= overlap
    assert COSTS.epoch_s(work, cluster(link=link, cores=cores / 2), OVERLAP) >= overlap


def test_a_decision_that_hides_and_one_that_shows() -> None:
    work, where = make_work(), cluster(link=1e8)
    instant = dataclasses.replace(COSTS, decision_s=0.0)
    hidden = COSTS.epoch_s(work, where, DECIDING)
    assert hidden == pytest.approx(instant.epoch_s(work, where, DECIDING))
    slow = dataclasses.replace(COSTS, decision_s=1.0)
    assert slow.epoch_s(work, where, SYNC) > 6.0 > slow.epoch_s(work, where, DECIDING)


def test_cores_are_shared() -> None:
    work = make_work(ranks=8)
    alone = COSTS.epoch_s(work, cluster(8, link=None), NONE)
    few = cluster(8, link=None, cores=2)
    # Those that have less to do make room for the slowest, which is alone at the end.
    assert 3 * alone < COSTS.epoch_s(work, few, NONE) <= 4 * alone
    # What overlaps on cores of its own is in turn where there are none.
    busy = epoch_seconds(np.cumsum(COSTS.busy_seconds(work, few, OVERLAP)), 6)
    assert COSTS.epoch_s(work, few, OVERLAP) == pytest.approx(busy)


def test_threads_beyond_cores_take_from_each_other() -> None:
    crowding = dataclasses.replace(COSTS, crowding=0.1)
    for ranks, factor in ((2, 1.0), (8, 1.3)):
        work, here = make_work(ranks=ranks), cluster(ranks, link=None, cores=2)
        ours, plain = (each.busy_seconds(work, here, OVERLAP) for each in (crowding, COSTS))
        np.testing.assert_allclose(ours, factor * plain)


def test_jitter_adds_the_slowest() -> None:
    work, where = make_work(), cluster(link=None)
    shaken = dataclasses.replace(COSTS, jitter=0.1)
    for variant, exposed in ((NONE, ("sample", "fetch", "train")), (OVERLAP, ("train",))):
        calm, late = COSTS.stages(work, where, variant), shaken.stages(work, where, variant)
        mean = sum(getattr(calm, name).mean(axis=0) for name in exposed)
        np.testing.assert_allclose(late.together, 0.1 * slowest_of(4) * mean)
        assert shaken.epoch_s(work, where, variant) > COSTS.epoch_s(work, where, variant)


def test_a_line_is_found_again() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1e4, 1e5, 400)
    y = 0.01 + 2e-7 * x
    fixed, slope = line(x, y)
    assert fixed == pytest.approx(0.01, rel=1e-3)
    assert slope == pytest.approx(2e-7, rel=1e-3)
    # What grows with less work is noise; neither part is ever negative.
    assert line(x, 1.0 - 1e-6 * x)[1] == 0.0
    assert line(x, 1e-6 * x - 1e-3)[0] == 0.0


def test_costs_are_found_again() -> None:
    costs = dataclasses.replace(COSTS, ahead_share=0.8, queue=0.6, crowding=0.2)

    def known(place: Place, work: Work, variant: Variant = NONE) -> Known:
        cluster = Cluster(ranks=place.ranks, cores=2, link=place.link)
        stages = costs.stages(work, cluster, variant)
        arrivals = stages.sample + stages.fetch + stages.carry + stages.train
        waited = arrivals.max(axis=0) - arrivals + stages.together
        times = {
            "sample_s": stages.sample,
            "fetch_s": stages.fetch + stages.carry,
            "train_s": stages.train + waited,
        }
        summary = {"epoch_time_s": costs.epoch_s(work, cluster, variant)}
        run = Measured(place=place, summary=summary, times=times)
        return Known(run=run, work=work)

    here, there = Place.read("2", "at"), Place.read("2@400mbit", "at")
    many = known(Place.read("6", "at"), make_work(6, steps=60, seed=4), OVERLAP)
    found = calibrate(
        [known(here, make_work(2, steps=60)), known(here, make_work(2, seed=1, scale=0.2))],
        known(there, make_work(2, steps=60, seed=2)),
        known(there, make_work(2, steps=60, seed=3), OVERLAP),
        many,
        costs.gradient_bytes,
        costs.decision_s,
        cores=2.0,
    )
    assert 0.0 <= found.jitter < 0.06
    for name, value in dataclasses.asdict(dataclasses.replace(costs, jitter=found.jitter)).items():
        # A step's edges are those of the rank with most, its time that of who came last.
        loose = name in ("train_s", "train_edge_s", "sum_s", "queue")
        # The few bytes of neighbours are taken for none.
        shared = name in ("link_share", "ahead_share", "crowding")
        close = 0.35 if loose or name == "exchange_s" else 0.05 if shared else 1e-6
        assert getattr(found, name) == pytest.approx(value, rel=close), name


def test_requests_queue_behind_rows() -> None:
    work, where = make_work(), cluster(link=1e7)
    queued = dataclasses.replace(COSTS, ahead_share=0.45, queue=0.5)
    before, after = COSTS.stages(work, where, OVERLAP), queued.stages(work, where, OVERLAP)
    rows = work.row_bytes.mean(axis=0) / 1e7
    np.testing.assert_allclose(after.together - before.together, 0.5 * rows)
    np.testing.assert_allclose(after.sample - before.sample, [0.5 * rows] * 4)
    np.testing.assert_allclose(after.carry - 1e-3, 2 * (before.carry - 1e-3))
    # One at a time there is nothing to wait behind, nor is there within a host.
    assert queued.epoch_s(work, where, NONE) == COSTS.epoch_s(work, where, NONE)
    here = cluster(link=None)
    assert queued.epoch_s(work, here, OVERLAP) == COSTS.epoch_s(work, here, OVERLAP)


def test_places() -> None:
    assert Place.read("4@200mbit", "at") == Place(4, "200mbit")
    assert Place.read("4@200mbit", "at").link == 25e6
    assert Place.read("8", "at").link is None
    assert [str(Place.read(text, "at")) for text in ("8", "2@1gbit")] == ["8", "2@1gbit"]
    for text in ("1", "four", "4@fast", "@1gbit"):
        with pytest.raises(ValueError, match=r"--at|--rate"):
            Place.read(text, "at")
    json.dumps(dataclasses.asdict(COSTS))
