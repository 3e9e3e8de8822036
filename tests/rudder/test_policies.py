"""Each policy equals its plain twin, minibatch by minibatch, and keeps the buffer consistent."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rudder.belady import belady_rows
from rudder.policies.base import Ids, Policy, Prior, no_ids
from rudder.policies.choose import WORST, keep_best, largest, plain_keep_best
from rudder.policies.demand import LfuPolicy, LruPolicy, PlainDemand
from rudder.policies.lookahead import LookaheadPolicy, PlainLookahead
from rudder.policies.massivegnn import MassiveGNNPolicy
from rudder.policies.score import FLOOR, PlainScore, ScorePolicy
from rudder.policies.static import (
    DegreePolicy,
    VipPolicy,
    hubs,
    most_asked_for,
    plain_hubs,
    plain_most_asked_for,
)
from tests.rudder.streams import make_stream

NUM_IDS, SIZE = 150, 40
CAPACITIES = [0, 1, 13, 60, 400]
SCORES = {"increment": 1.0, "decay": 0.9, "threshold": 0.95}


class Slots:
    """Which id lies in which slot, by a dictionary."""

    def __init__(self, capacity: int) -> None:
        self.held: dict[int, int] = {}  # slot -> id
        self.capacity = capacity

    def look_up(self, ids: Ids) -> Ids:
        where = {id_: slot for slot, id_ in self.held.items()}
        return np.array([where.get(id_, -1) for id_ in ids.tolist()], np.int64)

    def assign(self, slots: Ids, ids: Ids) -> None:
        assert len(slots) == len(ids)
        assert len(set(slots.tolist())) == len(slots)
        assert len(set(ids.tolist())) == len(ids)
        assert not set(ids.tolist()) & set(self.held.values()), "a row that is held comes in"
        assert all(0 <= slot < self.capacity for slot in slots.tolist())
        self.held.update(zip(slots.tolist(), ids.tolist(), strict=True))


def observed(ids: Ids, slots: Ids) -> tuple[Ids, Ids, Ids]:
    """What ``observe`` is told of these ids."""
    return slots, np.flatnonzero(slots < 0), ids[slots < 0]


def prior(seed: int = 0) -> Prior:
    rng = np.random.default_rng(seed)
    halo = np.flatnonzero(rng.random(NUM_IDS) < 0.6)
    frequent = np.sort(rng.permutation(NUM_IDS)[:70])
    return Prior(
        halo=halo,
        halo_degrees=rng.integers(1, 9, len(halo)),
        frequent=frequent,
        frequencies=rng.integers(1, 5, len(frequent)),
    )


def compare(policy: Policy, twin: Any, slots: Slots, num: int = 80, seed: int = 0) -> int:
    """Run both on one stream; returns the rows swapped."""
    rng = np.random.default_rng(seed + 9)
    stream, foreseen, swapped = make_stream(num, NUM_IDS, SIZE, seed), 0, 0
    for number, ids in enumerate(stream):
        while foreseen < min(number + policy.window + 1, num):
            policy.foresee(stream[foreseen])
            if policy.window:
                twin.foresee(stream[foreseen])
            foreseen += 1
        found = slots.look_up(ids)
        policy.observe(*observed(ids, found))
        twin.observe(ids, found)
        if isinstance(twin, PlainScore):
            assert (policy.stale, policy.candidates) == (len(twin.stale_slots()), len(twin.missed))
            assert policy.proven == twin.proven()
        replace = bool(rng.random() < 0.4)
        proposed, expected = policy.propose(replace), twin.propose(replace)
        np.testing.assert_array_equal(proposed[0], expected[0])
        np.testing.assert_array_equal(proposed[1], expected[1])
        if isinstance(twin, PlainScore):
            assert policy.stale == len(twin.stale_slots())
        slots.assign(*proposed)
        swapped += len(proposed[0])
    return swapped


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("increment", [1.0, 0.0])
def test_score(capacity: int, increment: float, seed: int) -> None:
    settings = {**SCORES, "increment": increment}
    policy, twin = ScorePolicy(capacity, NUM_IDS, **settings), PlainScore(capacity, **settings)
    assert policy.stale == capacity
    assert (compare(policy, twin, Slots(capacity), seed=seed) > 0) == (capacity > 0)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_massivegnn(capacity: int) -> None:
    policy = MassiveGNNPolicy(capacity, NUM_IDS, prior(), interval=5, decay=0.9)
    twin = PlainScore(capacity, increment=0.0, decay=0.9, threshold=0.9**4.5)
    start, slots = policy.start(), Slots(capacity)
    twin.fill(start)
    slots.assign(np.arange(len(start)), start)
    assert (compare(policy, twin, slots) > 0) == (capacity > 0)


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("recent", [True, False])
def test_demand(capacity: int, recent: bool) -> None:
    policy = (LruPolicy if recent else LfuPolicy)(capacity, NUM_IDS)
    twin = PlainDemand(capacity, recent)
    assert (compare(policy, twin, Slots(capacity)) > 0) == (capacity > 0)


@pytest.mark.parametrize("window", [1, 3, 16, 200])
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_lookahead(capacity: int, window: int) -> None:
    policy = LookaheadPolicy(capacity, NUM_IDS, window=window)
    twin = PlainLookahead(capacity, window)
    assert (compare(policy, twin, Slots(capacity)) > 0) == (capacity > 0)


@pytest.mark.parametrize("num", [0, 1, 20, 80, 500])
def test_static(num: int) -> None:
    np.testing.assert_array_equal(hubs(prior(), num), plain_hubs(prior(), num))
    np.testing.assert_array_equal(most_asked_for(prior(), num), plain_most_asked_for(prior(), num))
    for policy in (DegreePolicy(num, NUM_IDS, prior()), VipPolicy(num, NUM_IDS, prior())):
        start = policy.start()
        assert len(start) == min(num, len(prior().halo)) or policy.name == "vip"
        policy.observe(*observed(start[:3], np.arange(3)[: len(start)]))
        assert len(policy.propose(True)[0]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_choosing_equals_sorting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ties = rng.permutation(200)
    for keys in (rng.integers(0, 6, 200).astype(np.float32), rng.integers(0, 500, 200)):
        for k in (0, 1, 7, 64, 65, 199, 200, 230):
            ranked = sorted(range(200), key=lambda i: (-keys[i], ties[i]))
            np.testing.assert_array_equal(largest(keys, ties, k), sorted(ranked[:k]))
    slot_keys = rng.integers(0, 5, rng.integers(1, 40)).astype(np.int32)
    slot_keys[rng.random(len(slot_keys)) < 0.2] = WORST
    miss_keys = rng.integers(0, 5, rng.integers(0, 60)).astype(np.int32)
    scratch = np.zeros(4 * (WORST + 1), np.int32)
    for ours, plain in zip(
        keep_best(slot_keys, miss_keys, scratch), plain_keep_best(slot_keys, miss_keys), strict=True
    ):
        np.testing.assert_array_equal(ours, plain)


MAKERS: dict[str, Callable[[], Policy]] = {
    "score": lambda: ScorePolicy(30, NUM_IDS, **SCORES),
    "massivegnn": lambda: MassiveGNNPolicy(30, NUM_IDS, prior(), interval=5, decay=0.9),
    "lru": lambda: LruPolicy(30, NUM_IDS),
    "lfu": lambda: LfuPolicy(30, NUM_IDS),
    "lookahead": lambda: LookaheadPolicy(30, NUM_IDS, window=4),
    "degree": lambda: DegreePolicy(30, NUM_IDS, prior()),
    "vip": lambda: VipPolicy(30, NUM_IDS, prior()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_loaded_policy_goes_on(name: str) -> None:
    stream, policy, slots = make_stream(60, NUM_IDS, SIZE), MAKERS[name](), Slots(30)
    start = policy.start()
    slots.assign(np.arange(len(start)), start)
    again = None
    foreseen = 0
    for number, ids in enumerate(stream):
        if number == 33:
            again = MAKERS[name]()
            again.load(policy.state())
            for known in stream[number:foreseen]:
                again.foresee(known)
        while foreseen < min(number + policy.window + 1, len(stream)):
            for each in [policy, again] if again else [policy]:
                each.foresee(stream[foreseen])
            foreseen += 1
        found = slots.look_up(ids)
        policy.observe(*observed(ids, found))
        proposed = policy.propose(number % 4 == 0)
        if again is not None:
            again.observe(*observed(ids, found))
            for ours, theirs in zip(again.propose(number % 4 == 0), proposed, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert (again.stale, again.candidates) == (policy.stale, policy.candidates)
            assert again.proven == policy.proven
        slots.assign(*proposed)


@pytest.mark.parametrize("capacity", [10, 40, 80])
@pytest.mark.parametrize("seed", range(3))
def test_lookahead_of_16_is_within_2_percent_of_the_optimum(capacity: int, seed: int) -> None:
    stream = make_stream(300, 400, 60, seed)
    policy, slots, moved, foreseen = (
        LookaheadPolicy(capacity, 400, window=16),
        Slots(capacity),
        0,
        0,
    )
    for number, ids in enumerate(stream):
        while foreseen < min(number + 17, len(stream)):
            policy.foresee(stream[foreseen])
            foreseen += 1
        found = slots.look_up(ids)
        moved += int((found < 0).sum())
        policy.observe(*observed(ids, found))
        slots.assign(*policy.propose(False))
    best = belady_rows(stream, capacity)
    assert best <= moved <= 1.02 * best


def test_a_window_without_keys_is_an_error() -> None:
    with pytest.raises(ValueError, match="lookahead:5000: expected a window up to"):
        LookaheadPolicy(3, 10, window=5000)


def test_lfu_tells_large_counts_apart() -> None:
    policy = LfuPolicy(2, 10)
    counts = {"held": [1, 2], "often": [9000, 5000], "count_at": [3, 4], "count": [5000, 4999]}
    policy.load({name: np.array(array) for name, array in counts.items()})
    policy.observe(*observed(np.array([4, 3]), np.array([-1, -1])))
    slots, ids = policy.propose(False)
    assert (slots.tolist(), ids.tolist()) == ([1], [3])


def test_lru_tells_old_rows_apart() -> None:
    policy = LruPolicy(2, 10)
    policy.load({"last": np.array([8, 7], np.int32), "now": np.array(50_000)})
    policy.observe(*observed(np.array([3]), np.array([-1])))
    assert policy.propose(False)[0].tolist() == [1]


def test_scores_stay_clear_of_denormal_numbers() -> None:
    policy, nothing = ScorePolicy(2, 10, **SCORES), no_ids()
    policy.observe(*observed(np.array([3]), np.array([-1])))
    policy.propose(True)
    for _ in range(3000):
        policy.observe(nothing, nothing, nothing)
    assert policy.state()["score"].tolist() == [FLOOR, 0]
    policy.observe(*observed(np.array([4]), np.array([-1])))
    assert policy.propose(True)[0].tolist() == [1], "a free slot goes first"


def test_an_interval_that_makes_no_row_stale_is_an_error() -> None:
    with pytest.raises(ValueError, match="--interval 2000: expected --score-decay"):
        MassiveGNNPolicy(3, NUM_IDS, prior(), interval=2000, decay=0.9)
