"""BlockModel: a degree-corrected, nested community model whose edges are drawn one by one.

N nodes by position (communities are contiguous ranges of positions), K communities, S stubs.

Each node has some stubs (half edges). A stub's other end is drawn from its owner's community, its
class, its region (some neighbouring classes) or the whole graph, so that both METIS and a GNN find
structure. Draws are weighted by degree; inside a community the weight is clipped, because a hub
would otherwise meet each of its few hundred neighbours many times over.
Source: Karrer and Newman, "Stochastic blockmodels and community structure", 2011, with nesting.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from minidist.counter_rng import MASK, mix, mix_plain, uniform, uniform_plain

COMMUNITY, CLASS, REGION, ANYWHERE = range(4)
NUM_TRIES = 64  # per level; a community of one node can only fail, and then its class is tried


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockModel:
    """Everything a draw depends on.

    stub_ptr: int64 [N + 1]; position v owns the stubs ``stub_ptr[v]:stub_ptr[v + 1]``.
    community: int32 [N], ascending.
    ranges: int64 [K, 4, 2], first position and one past the last of each community, its class, its
    region and the graph.
    levels: float64 [3], the cumulative share of stubs that end in the community, class and region.
    clip: degree above which a node draws no more edges inside its community.
    seed: 64-bit key.
    """

    stub_ptr: NDArray[np.int64]
    community: NDArray[np.int32]
    ranges: NDArray[np.int64]
    levels: NDArray[np.float64]
    clip: int
    seed: int

    @property
    def owners(self) -> NDArray[np.int32]:
        """Position that owns each stub, int32 [S]."""
        num_nodes = len(self.community)
        return np.repeat(np.arange(num_nodes, dtype=np.int32), np.diff(self.stub_ptr))

    def draw(self, owners: NDArray[np.int32]) -> NDArray[np.int32]:
        """Position at the other end of each stub, int32 [S]; never the owner itself (N >= 2)."""
        others: NDArray[np.int32] = _draw(
            owners, self.stub_ptr, self.community, self.ranges, self.levels, self.clip, self.seed
        )
        return others


def draw_plain(model: BlockModel, owners: NDArray[np.int32]) -> list[int]:
    """``BlockModel.draw`` in plain Python."""
    return [_end_plain(model, owners, stub) for stub in range(len(owners))]


def _end_plain(model: BlockModel, owners: NDArray[np.int32], stub: int) -> int:
    u, ptr, num_nodes = int(owners[stub]), model.stub_ptr, len(model.community)
    degrees = np.diff(ptr)
    key = mix_plain(model.seed ^ mix_plain(stub))
    share = uniform_plain(key)
    local = float(model.levels[0]) * min(1.0, model.clip / degrees[u])
    inner = [local, *map(float, model.levels[1:])]
    level = next((i for i, edge in enumerate(inner) if share < edge), ANYWHERE)
    while level <= ANYWHERE:
        first, last = (int(p) for p in model.ranges[model.community[u], level])
        for _ in range(NUM_TRIES):
            key = mix_plain((key + 1) & MASK)
            if level == COMMUNITY:
                v = first + int(uniform_plain(key) * (last - first))
                key = mix_plain((key + 1) & MASK)
                accepted = uniform_plain(key) * model.clip < degrees[v]
            else:
                v = int(
                    owners[int(ptr[first] + int(uniform_plain(key) * (ptr[last] - ptr[first])))]
                )
                accepted = True
            if accepted and v != u:
                return v
        level += 1
    return (u + 1) % num_nodes


@njit(cache=True, nogil=True)
def _draw(owners, ptr, community, ranges, levels, clip, seed):  # type: ignore[no-untyped-def]
    others = np.empty(len(owners), np.int32)
    for stub in range(len(owners)):
        u = owners[stub]
        key = mix(uint64(seed) ^ mix(uint64(stub)))
        share = uniform(key)
        local = levels[0] * min(1.0, clip / (ptr[u + 1] - ptr[u]))
        if share < local:
            level = COMMUNITY
        elif share < levels[1]:
            level = CLASS
        else:
            level = REGION if share < levels[2] else ANYWHERE
        others[stub] = (u + 1) % len(community)
        found = False
        while level <= ANYWHERE and not found:
            first, last = ranges[community[u], level]
            for _ in range(NUM_TRIES):
                key = mix(key + uint64(1))
                accepted = True
                if level == COMMUNITY:
                    v = first + int(uniform(key) * (last - first))
                    key = mix(key + uint64(1))
                    accepted = uniform(key) * clip < ptr[v + 1] - ptr[v]
                else:
                    v = owners[ptr[first] + int(uniform(key) * (ptr[last] - ptr[first]))]
                if accepted and v != u:
                    others[stub] = v
                    found = True
                    break
            level += 1
    return others
