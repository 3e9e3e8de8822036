"""MassiveGNNPolicy: starts with the halo's hubs and replaces what was not asked for in a while.

Sarkar et al., MassiveGNN (2024): a row's score starts at 1, decays in each minibatch that does not
ask for it and never recovers; after ``interval`` such minibatches it is stale. The schedule, every
``interval`` minibatches, is its preset's decider.
"""

import numpy as np

from rudder.buffer.index import Buffer, Ids
from rudder.policies.base import Prior
from rudder.policies.score import FLOOR, ScorePolicy
from rudder.policies.static import hubs


class MassiveGNNPolicy(ScorePolicy):
    """Scores as in MassiveGNN; interval: its delta, decay: its gamma.

    Raises ValueError where no row would ever be stale, because scores end at ``FLOOR``.
    """

    name = "massivegnn"

    def __init__(self, buffer: Buffer, prior: Prior, *, interval: int, decay: float) -> None:
        if decay**interval < FLOOR:
            raise ValueError(
                f"--interval {interval}: expected --score-decay ** interval of at least {FLOOR:.0e}"
            )
        # Half a decay above the score after ``interval`` of them, for rounding's sake.
        super().__init__(buffer, increment=0.0, decay=decay, threshold=decay ** (interval - 0.5))
        self._prior = prior

    def start(self) -> Ids:
        ids = hubs(self._prior, self.capacity)
        self._score[: len(ids)] = np.float32(1)
        self._stale = self.capacity - len(ids)
        return ids
