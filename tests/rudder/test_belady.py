"""The bound is the optimum: it equals an exhaustive search, and its twin on larger streams."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from rudder.buffer.index import Ids
from rudder.replay.belady import belady_rows, plain_belady_rows
from tests.rudder.streams import make_stream


def fewest_rows(minibatches: list[Ids], capacity: int) -> int:
    """Every way to keep rows, tried out."""
    sets = [frozenset(minibatch.tolist()) for minibatch in minibatches]

    @cache
    def best(number: int, held: frozenset[int]) -> int:
        if number == len(sets):
            return 0
        pool = sorted(held | sets[number])
        keeps = combinations(pool, min(capacity, len(pool)))
        later = min(best(number + 1, frozenset(keep)) for keep in keeps)
        return len(sets[number] - held) + later

    return best(0, frozenset())


@pytest.mark.parametrize("capacity", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_optimum(seed: int, capacity: int) -> None:
    rng = np.random.default_rng(seed)
    stream = [rng.permutation(6)[: rng.integers(0, 4)] for _ in range(7)]
    assert belady_rows(stream, capacity) == fewest_rows(stream, capacity)


@pytest.mark.parametrize("capacity", [0, 1, 10, 50, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_its_plain_twin(seed: int, capacity: int) -> None:
    stream = make_stream(40, 120, 30, seed)
    assert belady_rows(stream, capacity) == plain_belady_rows(stream, capacity)


def test_nothing_to_do() -> None:
    assert belady_rows([], 5) == 0
    assert belady_rows([np.zeros(0, np.int64)], 5) == 0
