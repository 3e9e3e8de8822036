"""Streams of remote ids with hot nodes, as minibatches have them, and the settings to try."""

import numpy as np
from numpy.typing import NDArray

from rudder.observations import Facts
from rudder.policies.base import Prior
from rudder.replay.trace import Trace, make_trace

# Every preset that has a buffer, with a decider that replaces now and then.
BUFFERED = (
    *(("fixed", None), ("massivegnn", None), ("rudder", "random:0.3"), ("rudder", "never")),
    *(("degree", None), ("vip", None), ("lru", None), ("lfu", None)),
    *(("lookahead", None), ("lookahead:3", None)),
)


def make_stream(
    num_minibatches: int, num_ids: int, size: int, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Distinct ids a minibatch, hot ones in most of them; sizes differ, some are empty."""
    rng = np.random.default_rng(seed)
    weight = 1.0 / (1.0 + rng.permutation(num_ids))
    stream = []
    for _ in range(num_minibatches):
        count = 0 if rng.random() < 0.05 else int(rng.integers(size // 2, size + 1))
        stream.append(rng.choice(num_ids, count, replace=False, p=weight / weight.sum()))
    return stream


def make_test_trace(
    num_minibatches: int = 60, num_ids: int = 200, size: int = 40, seed: int = 0
) -> Trace:
    """One rank's trace of such a stream; half of the ids are in the halo."""
    rng = np.random.default_rng(seed + 1)
    stream = make_stream(num_minibatches, num_ids, size, seed)
    halo = np.flatnonzero(rng.random(num_ids) < 0.5)
    frequent, frequencies = np.unique(
        np.concatenate(make_stream(20, num_ids, size, seed + 2)), return_counts=True
    )
    return make_trace(
        f"stream{seed}/rank0",
        stream,
        facts=Facts(
            num_nodes=num_ids,
            num_edges=10 * num_ids,
            part_nodes=num_ids,
            part_edges=5 * num_ids,
            num_parts=1,
            halo_rows=len(halo),
            capacity=0,
            row_bytes=16,
            batch_size=8,
            num_minibatches=num_minibatches,
            minibatches_per_epoch=10,
        ),
        num_ids=num_ids,
        prior=Prior(
            halo=halo,
            halo_degrees=rng.integers(1, 50, len(halo)),
            frequent=frequent,
            frequencies=frequencies,
        ),
    )
