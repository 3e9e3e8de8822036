"""Dataset: examples as arrays to learn from, and which of them to hold back.

n moments; F inputs. Neighbouring moments of a run resemble each other and share the minibatches
that their labels were counted over, so whole runs are held back, never rows at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.deciders.classifier import TRENDS
from rudder.deciders.inputs import inputs
from rudder.learn.examples import Example

LABELS = ("counterfactual", "paper")
# Of the runs, or of the blocks of a single run, one in so many is held back.
_HELD_BACK = 4
_BLOCKS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Moments and what either decision led to there.

    x: float32 [n, F]. replace: bool [n], whether replacing was right. hits: int8 [n, 2], where
    %-Hits went if the buffer was kept, and if rows were replaced, as places in ``TRENDS``.
    rows: int64 [n, 2], moved over the horizon if kept, and if replaced. run: str [n].
    position: float32 [n], share of its run that was over.
    """

    x: NDArray[np.float32]
    replace: NDArray[np.bool_]
    hits: NDArray[np.int8]
    rows: NDArray[np.int64]
    run: NDArray[np.str_]
    position: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: NDArray[Any]) -> "Dataset":
        """Some of the moments, by mask or number."""
        return Dataset(**{name: array[rows] for name, array in vars(self).items()})


def dataset_of(examples: Sequence[Example], label: str = "counterfactual") -> Dataset:
    """Examples as arrays.

    label: ``counterfactual``, the example's own, or ``paper``: replacing was right where the gain
    of %-Hits (points) outweighed that of communication (percent), before against after.
    """
    assert label in LABELS
    right = [
        one.replace
        if label == "counterfactual"
        else one.replaced.hits_change > one.replaced.moved_change
        for one in examples
    ]
    latest = [one.context.latest for one in examples]
    return Dataset(
        x=np.stack([inputs(one.context) for one in examples]),
        replace=np.array(right, bool),
        hits=np.array(
            [[TRENDS.index(one.kept.hits), TRENDS.index(one.replaced.hits)] for one in examples],
            np.int8,
        ),
        rows=np.array([[one.kept.rows, one.replaced.rows] for one in examples], np.int64),
        run=np.array([one.run for one in examples]),
        position=np.array([now.minibatch / now.num_minibatches for now in latest], np.float32),
    )


def split(data: Dataset, seed: int) -> tuple[Dataset, Dataset, str]:
    """(to learn from, held back, what was held back in words)."""
    runs = np.unique(data.run)
    if len(runs) > 1:
        count = max(len(runs) // _HELD_BACK, 1)
        some = np.sort(np.random.default_rng(seed).permutation(runs)[:count])
        held = np.isin(data.run, some)
        note = f"held back {count} of {len(runs)} runs: {', '.join(some)}"
    else:
        block = np.minimum((_BLOCKS * data.position).astype(int), _BLOCKS - 1)
        held = block % _HELD_BACK == 1
        note = (
            f"one run only: held back {_BLOCKS // _HELD_BACK} of {_BLOCKS} blocks of its "
            "minibatches, which resemble the others; for other runs and graphs expect less"
        )
    if held.all() or not held.any():
        raise ValueError(f"{len(data)} examples are too few to hold some back: add --traces")
    return data.take(~held), data.take(held), note
