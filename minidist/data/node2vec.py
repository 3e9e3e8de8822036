"""Node2vec: features of a graph that has none, from biased walks and skip-gram.

N nodes, D dimensions, W walks of L nodes.

Walks are second order: from v, having come from t, the next node x is taken with weight 1/p if
x = t, 1 if x is a neighbour of t, and 1/q otherwise (drawn by rejection, so no table per edge).
Skip-gram with negative sampling then runs over the walks in one thread, so that one seed gives one
result. Sources: Grover and Leskovec, "node2vec", 2016; Mikolov et al., "Distributed
representations of words", 2013; Yang et al., "KnightKing", 2019, for rejection.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray
from tqdm import tqdm

from minidist.counter_rng import MASK, mix, mix_plain, uniform, uniform_plain
from minidist.graph import Array

Vectors = NDArray[np.float32]
WALKS_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Node2vec:
    """How to embed; ``embed`` does it.

    dimensions D; p, q: return and in-out weights; num_walks from each node, of walk_length nodes;
    window: nodes to each side that a node predicts; negatives per prediction; learning_rate, which
    falls linearly to a hundredth. The walks are fewer and shorter than in Rudder's graphs of
    10^4 nodes (10 of 80, window 10): work grows as N * num_walks * walk_length * window.
    Measured on one core: 204 us a node at 8 dimensions and 4 walks (200k nodes), 69 us at 128
    dimensions and 1 walk (15k nodes); larger graphs miss the cache more often.
    Raises ValueError naming the field that makes no sense.
    """

    dimensions: int
    p: float = 1.0
    q: float = 1.0
    num_walks: int = 4
    walk_length: int = 20
    window: int = 3
    negatives: int = 5
    learning_rate: float = 0.025

    def __post_init__(self) -> None:
        for field in ("dimensions", "num_walks", "window", "negatives"):
            if getattr(self, field) < 1:
                raise ValueError(f"node2vec: {field} must be at least 1")
        if self.walk_length < 2 or min(self.p, self.q, self.learning_rate) <= 0:
            raise ValueError(
                "node2vec: walk_length must be at least 2, and p, q and learning_rate positive"
            )

    def embed(
        self, indptr: NDArray[np.int64], indices: Array, seed: int = 0, progress: bool = False
    ) -> Vectors:
        """float32 [N, D] of the graph with these sorted rows of neighbours (int64 [N + 1], [E])."""
        rng = np.random.default_rng(seed)
        num_nodes = len(indptr) - 1
        vectors = rng.random((num_nodes, self.dimensions), np.float32)
        vectors = (vectors - np.float32(0.5)) / np.float32(self.dimensions)
        contexts = np.zeros_like(vectors)
        keep = np.maximum(np.diff(indptr), 1).astype(np.float32) ** -0.25
        total, done = num_nodes * self.num_walks, 0
        with tqdm(total=total, desc="node2vec", unit=" walks", disable=not progress) as bar:
            for _ in range(self.num_walks):
                starts = rng.permutation(num_nodes)
                for first in range(0, num_nodes, WALKS_AT_ONCE):
                    batch = starts[first : first + WALKS_AT_ONCE]
                    key = mix_plain(seed ^ mix_plain(done))
                    walks = walk(
                        indptr, indices, batch, self.walk_length, self.p, self.q, uint64(key)
                    )
                    rate = self.learning_rate * max(0.01, 1 - done / total)
                    train(
                        walks, vectors, contexts, indices, keep, self.window, self.negatives,
                        np.float32(rate), uint64(mix_plain(key)),
                    )  # fmt: skip
                    done += len(batch)
                    bar.update(len(batch))
        return vectors


def walk_plain(
    rows: list[list[int]], starts: list[int], length: int, p: float, q: float, key: int
) -> list[list[int]]:
    """Plain twin of ``walk``; ``rows`` holds each node's neighbours, ascending."""
    largest, walks = max(1 / p, 1.0, 1 / q), []
    for i, start in enumerate(starts):
        state, path = mix_plain(key ^ mix_plain(i)), [start]
        while len(path) < length and rows[path[-1]]:
            row = rows[path[-1]]
            while True:
                state = mix_plain((state + 1) & MASK)
                x = row[int(uniform_plain(state) * len(row))]
                if len(path) == 1 or len(row) == 1:
                    break
                t = path[-2]
                weight = 1 / p if x == t else 1.0 if x in rows[t] else 1 / q
                state = mix_plain((state + 1) & MASK)
                if uniform_plain(state) * largest < weight:
                    break
            path.append(x)
        walks.append(path + [-1] * (length - len(path)))
    return walks


@njit(cache=True, nogil=True)
def walk(indptr, indices, starts, length, p, q, key):  # type: ignore[no-untyped-def]
    """int32 [W, L]: a walk from each of ``starts``; -1 after a node without neighbours."""
    walks = np.full((len(starts), length), -1, np.int32)
    largest = max(1 / p, 1.0, 1 / q)
    for i in range(len(starts)):
        state = mix(key ^ mix(uint64(i)))
        walks[i, 0] = starts[i]
        for step in range(1, length):
            v = walks[i, step - 1]
            first, degree = indptr[v], indptr[v + 1] - indptr[v]
            if degree == 0:
                break
            while True:
                state = mix(state + uint64(1))
                x = indices[first + int(uniform(state) * degree)]
                if step == 1 or degree == 1:
                    break
                t = walks[i, step - 2]
                weight = 1.0
                if x == t:
                    weight = 1 / p
                elif q != 1:
                    row = indices[indptr[t] : indptr[t + 1]]
                    at = np.searchsorted(row, x)
                    if at == len(row) or row[at] != x:
                        weight = 1 / q
                state = mix(state + uint64(1))
                if uniform(state) * largest < weight:
                    break
            walks[i, step] = x
    return walks


def train_plain(
    walks: list[list[int]], vectors: Vectors, contexts: Vectors, indices: Array, keep: Vectors,
    window: int, negatives: int, rate: float, key: int,
) -> None:  # fmt: skip
    """Plain twin of ``train``, equal to it up to float32 rounding."""
    for i, path in enumerate(walks):
        state, nodes = mix_plain(key ^ mix_plain(i)), [v for v in path if v >= 0]
        for j, center in enumerate(nodes):
            for k in range(max(0, j - window), min(len(nodes), j + window + 1)):
                if k == j:
                    continue
                gradient = np.zeros_like(vectors[center])
                for n in range(negatives + 1):
                    target = nodes[k]
                    while n > 0:
                        state = mix_plain((state + 1) & MASK)
                        target = int(indices[int(uniform_plain(state) * len(indices))])
                        state = mix_plain((state + 1) & MASK)
                        if uniform_plain(state) < keep[target]:
                            break
                    score = 1 / (1 + np.exp(-float(vectors[center] @ contexts[target])))
                    push = np.float32(rate * ((n == 0) - score))
                    gradient += push * contexts[target]
                    contexts[target] += push * vectors[center]
                vectors[center] += gradient


@njit(cache=True, nogil=True)
def train(  # type: ignore[no-untyped-def]
    walks, vectors, contexts, indices, keep, window, negatives, rate, key
):
    """One pass of skip-gram over the walks, in place.

    Negatives are drawn by degree to the power 3/4: the end of a random edge comes with weight
    degree, and is kept with chance ``keep`` = degree ** -1/4 (float32 [N]).
    """
    gradient = np.empty(vectors.shape[1], np.float32)
    for i in range(len(walks)):
        state = mix(key ^ mix(uint64(i)))
        length = 0
        while length < walks.shape[1] and walks[i, length] >= 0:
            length += 1
        for j in range(length):
            center = vectors[walks[i, j]]
            for k in range(max(0, j - window), min(length, j + window + 1)):
                if k == j:
                    continue
                gradient[:] = 0
                for n in range(negatives + 1):
                    target = walks[i, k]
                    while n > 0:
                        state = mix(state + uint64(1))
                        target = indices[int(uniform(state) * len(indices))]
                        state = mix(state + uint64(1))
                        if uniform(state) < keep[target]:
                            break
                    context = contexts[target]
                    product = np.float32(0)
                    for d in range(len(center)):
                        product += center[d] * context[d]
                    push = np.float32(rate * ((n == 0) - 1 / (1 + np.exp(-product))))
                    for d in range(len(center)):
                        gradient[d] += push * context[d]
                        context[d] += push * center[d]
                for d in range(len(center)):
                    center[d] += gradient[d]
