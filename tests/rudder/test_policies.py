"""Each policy equals its plain twin, minibatch by minibatch, and keeps the buffer consistent."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from rudder.buffer.index import MOST, Buffer, Found, Ids, Resize, no_ids
from rudder.policies.base import Policy, Prior, Proposal
from rudder.policies.choose import BLOCK, WORST, keep_best, largest, plain_keep_best
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
from rudder.replay.belady import belady_rows
from tests.rudder.streams import make_stream

NUM_IDS, SIZE = 150, 40
CAPACITIES = [0, 1, 13, 60, 400]
SCORES = {"increment": 1.0, "decay": 0.9, "threshold": 0.95}


def buffer(capacity: int, num_ids: int = NUM_IDS) -> Buffer:
    return Buffer(capacity, num_ids, np.arange(0, num_ids, 3))


def swap(policy: Policy, ids: Ids, proposal: Proposal) -> None:
    """Carry a proposal out, if it may be."""
    new = proposal.ids
    assert len(proposal.slots) == len(proposal.places) == len(proposal.tallies) == len(new)
    assert proposal.num_extra == (proposal.places < 0).sum()
    assert len(set(proposal.slots.tolist())) == len(set(new.tolist())) == len(new)
    assert not np.isin(new, policy.buffer.ids).any(), "a row that is held comes in"
    assert ((proposal.slots >= 0) & (proposal.slots < policy.capacity)).all()
    where = {id_: place for place, id_ in enumerate(ids.tolist())}
    assert proposal.places.tolist() == [where.get(id_, -1) for id_ in new.tolist()]
    policy.buffer.assign(proposal.slots, new, proposal.tallies)


def start(policy: Policy) -> Ids:
    """Fill the buffer as the policy says."""
    ids = policy.start()
    policy.buffer.fill(np.arange(len(ids)), ids)
    return ids


def observe(policy: Policy, ids: Ids) -> Found:
    """A minibatch; returns where the buffer has it."""
    found = policy.buffer.look_up(ids)
    policy.observe(ids, found)
    return found


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


def compare(
    policy: Policy, twin: Any, num: int = 80, seed: int = 0, resizes: Sequence[int] = ()
) -> int:
    """Run both on one stream, of these sizes in turn; returns the rows swapped."""
    rng = np.random.default_rng(seed + 9)
    stream, foreseen, swapped = make_stream(num, NUM_IDS, SIZE, seed), 0, 0
    for number, ids in enumerate(stream):
        while foreseen < min(number + policy.window + 1, num):
            policy.foresee(stream[foreseen])
            if policy.window:
                twin.foresee(stream[foreseen])
            foreseen += 1
        if number % 10 == 5 and resizes:
            capacity, *resizes = resizes
            policy.resize(capacity)
            twin.resize(capacity)
            assert policy.buffer.ids.tolist() == twin.held
            assert policy.buffer.filled == np.count_nonzero(policy.buffer.ids >= 0)
        found = observe(policy, ids)
        twin.observe(ids, np.maximum(found.slots, -1))
        if isinstance(twin, PlainScore):
            assert (policy.stale, policy.candidates) == (len(twin.stale_slots()), len(twin.missed))
            assert policy.proven == twin.proven()
        replace = bool(rng.random() < 0.4)
        proposed, expected = policy.propose(replace), twin.propose(replace)
        np.testing.assert_array_equal(proposed.slots, expected[0])
        np.testing.assert_array_equal(proposed.ids, expected[1])
        if isinstance(twin, PlainScore):
            assert policy.stale == len(twin.stale_slots())
        swap(policy, ids, proposed)
        swapped += len(proposed.ids)
    return swapped


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("increment", [1.0, 0.0])
def test_score(capacity: int, increment: float, seed: int) -> None:
    settings = {**SCORES, "increment": increment}
    policy, twin = ScorePolicy(buffer(capacity), **settings), PlainScore(capacity, **settings)
    assert policy.stale == capacity
    assert (compare(policy, twin, seed=seed) > 0) == (capacity > 0)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_massivegnn(capacity: int) -> None:
    policy = MassiveGNNPolicy(buffer(capacity), prior(), interval=5, decay=0.9)
    twin = PlainScore(capacity, increment=0.0, decay=0.9, threshold=0.9**4.5)
    twin.fill(start(policy))
    assert (compare(policy, twin) > 0) == (capacity > 0)


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("recent", [True, False])
def test_demand(capacity: int, recent: bool) -> None:
    policy = (LruPolicy if recent else LfuPolicy)(buffer(capacity))
    twin = PlainDemand(capacity, recent)
    assert (compare(policy, twin) > 0) == (capacity > 0)


@pytest.mark.parametrize("window", [1, 3, 16, 200])
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_lookahead(capacity: int, window: int) -> None:
    policy = LookaheadPolicy(buffer(capacity), window=window)
    twin = PlainLookahead(capacity, window)
    assert (compare(policy, twin) > 0) == (capacity > 0)


@pytest.mark.parametrize("window", [1, 5, 40])
def test_lookahead_of_a_new_size(window: int) -> None:
    policy, twin = LookaheadPolicy(buffer(13), window=window), PlainLookahead(13, window)
    assert compare(policy, twin, num=120, resizes=[60, 20, 0, 1, 400, 9, 13, 90, 91, 50]) > 0


def test_the_size_of_other_buffers_is_fixed() -> None:
    with pytest.raises(ValueError, match="--prefetch lru: the size of its buffer is fixed"):
        LruPolicy(buffer(13)).resize(14)
    with pytest.raises(ValueError, match="a buffer of -1 rows"):
        buffer(3).resize(Resize(-1, no_ids(), no_ids()))


@pytest.mark.parametrize("num", [0, 1, 20, 80, 500])
def test_static(num: int) -> None:
    np.testing.assert_array_equal(hubs(prior(), num), plain_hubs(prior(), num))
    np.testing.assert_array_equal(most_asked_for(prior(), num), plain_most_asked_for(prior(), num))
    for policy in (DegreePolicy(buffer(num), prior()), VipPolicy(buffer(num), prior())):
        first = start(policy)
        assert len(first) == min(num, len(prior().halo)) or policy.name == "vip"
        observe(policy, first[:3])
        assert len(policy.propose(True).ids) == 0


@pytest.mark.parametrize("seed", range(20))
def test_choosing_equals_sorting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for keys in (rng.integers(0, 6, 200).astype(np.float32), rng.integers(0, 500, 200)):
        for k in (0, 1, 7, 64, 65, 199, 200, 230):
            ranked = sorted(range(200), key=lambda i: -keys[i])
            np.testing.assert_array_equal(largest(keys, k), sorted(ranked[:k]))
    for length in (BLOCK * 40, BLOCK * 50 + 7):
        for most in (3, 60, 10**6):
            many = rng.integers(0, most, length).astype(np.int32)
            for k in (1, 2, 7, 33, 63, 64, 65):
                order = np.argsort(-many, kind="stable")
                np.testing.assert_array_equal(largest(many, k), np.sort(order[:k]))
    slot_keys = rng.integers(0, 5, rng.integers(1, 40)).astype(np.int32)
    slot_keys[rng.random(len(slot_keys)) < 0.2] = WORST
    miss_keys = rng.integers(0, 5, rng.integers(0, 60)).astype(np.int32)
    scratch = np.zeros(4 * (WORST + 1), np.int32)
    for ours, plain in zip(
        keep_best(slot_keys, miss_keys, scratch), plain_keep_best(slot_keys, miss_keys), strict=True
    ):
        np.testing.assert_array_equal(ours, plain)


MAKERS: dict[str, Callable[[], Policy]] = {
    "score": lambda: ScorePolicy(buffer(30), **SCORES),
    "massivegnn": lambda: MassiveGNNPolicy(buffer(30), prior(), interval=5, decay=0.9),
    "lru": lambda: LruPolicy(buffer(30)),
    "lfu": lambda: LfuPolicy(buffer(30)),
    "lookahead": lambda: LookaheadPolicy(buffer(30), window=4),
    "degree": lambda: DegreePolicy(buffer(30), prior()),
    "vip": lambda: VipPolicy(buffer(30), prior()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_loaded_policy_goes_on(name: str) -> None:
    stream, policy = make_stream(60, NUM_IDS, SIZE), MAKERS[name]()
    start(policy)
    again = None
    foreseen = 0
    for number, ids in enumerate(stream):
        if number == 33:
            again = MAKERS[name]()
            again.buffer.load(policy.buffer.state())
            again.load(policy.state())
            for known in stream[number:foreseen]:
                again.foresee(known)
        both = [policy, again] if again else [policy]
        while foreseen < min(number + policy.window + 1, len(stream)):
            for each in both:
                each.foresee(stream[foreseen])
            foreseen += 1
        proposals = []
        for each in both:
            observe(each, ids)
            proposals.append(each.propose(number % 4 == 0))
            swap(each, ids, proposals[-1])
        if again is not None:
            for ours, theirs in zip(*proposals, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert (again.stale, again.candidates) == (policy.stale, policy.candidates)
            assert again.proven == policy.proven
            np.testing.assert_array_equal(again.buffer.entries, policy.buffer.entries)


@pytest.mark.parametrize("capacity", [10, 40, 80])
@pytest.mark.parametrize("seed", range(3))
def test_lookahead_of_16_is_within_2_percent_of_the_optimum(capacity: int, seed: int) -> None:
    stream = make_stream(300, 400, 60, seed)
    policy, moved, foreseen = LookaheadPolicy(buffer(capacity, 400), window=16), 0, 0
    for number, ids in enumerate(stream):
        while foreseen < min(number + 17, len(stream)):
            policy.foresee(stream[foreseen])
            foreseen += 1
        moved += len(observe(policy, ids).misses)
        swap(policy, ids, policy.propose(False))
    best = belady_rows(stream, capacity)
    assert best <= moved <= 1.02 * best


def test_a_window_without_keys_is_an_error() -> None:
    with pytest.raises(ValueError, match="lookahead:5000: expected a window up to"):
        LookaheadPolicy(buffer(3), window=5000)


def test_lfu_tells_large_counts_apart() -> None:
    policy = LfuPolicy(buffer(2))
    known = {"ids": [1, 2], "tallied": [3, 4], "tallies": [5000, 4999]}
    policy.buffer.load({name: np.array(array) for name, array in known.items()})
    policy.load({"often": np.array([9000, 5000])})
    observe(policy, np.array([4, 3]))
    slots, ids, *_ = policy.propose(False)
    assert (slots.tolist(), ids.tolist()) == ([1], [3])


def test_tallies_end_at_the_largest() -> None:
    for policy in (LfuPolicy(buffer(1)), ScorePolicy(buffer(1), **SCORES)):
        policy.buffer.load(
            {"ids": np.array([1]), "tallied": np.array([3]), "tallies": np.array([MOST])}
        )
        observe(policy, np.array([3, 4]))
        assert policy.buffer.state()["tallies"][0] == MOST


def test_a_score_beyond_all_tallies_leaves_the_largest() -> None:
    policy = ScorePolicy(buffer(1), increment=1e6, decay=0.95, threshold=9.6e5)
    for ids in ([3], [3], [4]):
        observe(policy, np.array(ids))
        swap(policy, np.array(ids), policy.propose(True))
    assert policy.buffer.ids.tolist() == [4]
    assert policy.buffer.state()["tallies"].tolist() == [MOST]


def test_lru_tells_old_rows_apart() -> None:
    policy = LruPolicy(buffer(2))
    policy.load({"last": np.array([8, 7], np.int32), "now": np.array(50_000)})
    observe(policy, np.array([3]))
    assert policy.propose(False).slots.tolist() == [1]


def test_scores_stay_clear_of_denormal_numbers() -> None:
    policy = ScorePolicy(buffer(2), **SCORES)
    observe(policy, np.array([3]))
    swap(policy, np.array([3]), policy.propose(True))
    for _ in range(3000):
        observe(policy, no_ids())
    assert policy.state()["score"].tolist() == [FLOOR, 0]
    observe(policy, np.array([4]))
    assert policy.propose(True).slots.tolist() == [1], "a free slot goes first"


def test_an_interval_that_makes_no_row_stale_is_an_error() -> None:
    with pytest.raises(ValueError, match="--interval 2000: expected --score-decay"):
        MassiveGNNPolicy(buffer(3), prior(), interval=2000, decay=0.9)
