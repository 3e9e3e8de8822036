"""Static policies: chosen once, before the first minibatch.

degree    the halo's hubs, as PaGraph and MassiveGNN's start
vip       the rows that pre-sampled minibatches asked for most, as SALIENT++ (its VIP analysis
          computes the same frequencies from the graph); hubs fill what is left
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.buffer.index import Buffer, Found, Ids
from rudder.policies.base import NOTHING, Policy, Prior, Proposal
from rudder.policies.choose import largest


def hubs(prior: Prior, num: int) -> Ids:
    """The ``num`` halo nodes of highest degree, ascending; among equal ones, the smaller ids."""
    return prior.halo[largest(prior.halo_degrees, num)]


def plain_hubs(prior: Prior, num: int) -> Ids:
    """The plain twin of ``hubs``."""
    ranked = sorted(zip(-prior.halo_degrees, prior.halo, strict=True))
    return np.array(sorted(int(id_) for _, id_ in ranked[:num]), np.int64)


def most_asked_for(prior: Prior, num: int) -> Ids:
    """The ``num`` most frequent ids, ascending; hubs where fewer were pre-sampled."""
    chosen = prior.frequent[largest(prior.frequencies, num)]
    left = num - len(chosen)
    rest = ~np.isin(prior.halo, chosen)
    others = Prior(halo=prior.halo[rest], halo_degrees=prior.halo_degrees[rest])
    return np.concatenate([chosen, hubs(others, left)])


def plain_most_asked_for(prior: Prior, num: int) -> Ids:
    """The plain twin of ``most_asked_for``."""
    ranked = sorted(zip(-prior.frequencies, prior.frequent, strict=True))
    chosen = sorted(int(id_) for _, id_ in ranked[:num])
    by_degree = sorted(zip(-prior.halo_degrees, prior.halo, strict=True))
    rest = [int(id_) for _, id_ in by_degree if int(id_) not in chosen]
    return np.array(chosen + sorted(rest[: num - len(chosen)]), np.int64)


class _StaticPolicy(Policy):
    """Starts with given ids and proposes nothing."""

    def observe(self, ids: Ids, found: Found) -> None:
        return

    def propose(self, replace: bool) -> Proposal:
        return NOTHING

    def state(self) -> dict[str, NDArray[Any]]:
        return {}

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        return


class DegreePolicy(_StaticPolicy):
    """The halo's hubs."""

    name = "degree"

    def __init__(self, buffer: Buffer, prior: Prior) -> None:
        super().__init__(buffer)
        self._prior = prior

    def start(self) -> Ids:
        return hubs(self._prior, self.capacity)


class VipPolicy(_StaticPolicy):
    """The rows most often asked for."""

    name = "vip"

    def __init__(self, buffer: Buffer, prior: Prior) -> None:
        super().__init__(buffer)
        self._prior = prior

    def start(self) -> Ids:
        return most_asked_for(self._prior, self.capacity)
