"""The whole pipeline in one process and in plain Python, to read from top to bottom.

python examples/plain_pipeline.py

Two ranks take turns: partition, sample, fetch through the paper's score buffer, train, and sum the
gradients. It is slow and short where minidist and rudder are fast; its samples, the rows it moves
and its losses are theirs to the bit, which a test holds.
"""

import itertools
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

from minidist.counter_rng import GOLDEN, MASK, mix_plain
from minidist.data.datasets import load_dataset
from minidist.graph import Graph
from minidist.moment import Moment
from minidist.sampling.batch import MiniBatch, StageSeconds
from minidist.training.models import build_model
from rudder.row_counts import RowCounts

RANKS, FANOUTS, BATCH, HIDDEN, EPOCHS, SEED, SHARE = 2, (5, 5), 20, 16, 3, 0, 0.25


def partition(graph: Graph) -> tuple[Graph, list[int]]:
    """Deal nodes to parts; new ids, so that part p owns ids offsets[p] to offsets[p + 1]."""
    rng = np.random.default_rng(SEED)
    order = rng.permutation(graph.num_nodes)
    degrees = np.diff(graph.indptr)
    # Training nodes first, then by degree: each RANKS in a row go to different parts.
    order = order[np.lexsort((-degrees[order], ~graph.train_mask[order]))]
    hands = np.tile(np.arange(RANKS), (-(-graph.num_nodes // RANKS), 1))
    part = np.empty(graph.num_nodes, int)
    part[order] = rng.permuted(hands.astype(np.int32), axis=1).reshape(-1)[: graph.num_nodes]
    old = np.argsort(part, kind="stable")
    new = np.argsort(old)
    rows = [sorted(new[graph.indices[graph.indptr[v] : graph.indptr[v + 1]]]) for v in old]
    relabelled = Graph(
        name=graph.name,
        indptr=np.cumsum([0, *map(len, rows)]),
        indices=np.array(list(itertools.chain(*rows)), np.int32),
        x=graph.x[old],
        y=graph.y[old],
        train_mask=graph.train_mask[old],
        val_mask=graph.val_mask[old],
        test_mask=graph.test_mask[old],
        num_classes=graph.num_classes,
    )
    return relabelled, [0, *np.cumsum(np.bincount(part))]


def key(*parts: int) -> int:
    """Everything random follows from such a key, and from nothing before it."""
    value = 0
    for part in parts:
        value = mix_plain((value + part) & MASK)
    return value


def draw(row: list[int], node: int, hop_key: int, fanout: int) -> list[int]:
    """``fanout`` of a node's in-neighbours without replacement (Floyd's algorithm)."""
    if len(row) <= fanout:
        return row
    counter, slots = mix_plain((hop_key + node * GOLDEN) & MASK), list[int]()
    for top in range(len(row) - fanout, len(row)):
        slot = ((mix_plain(counter) >> 32) * (top + 1)) >> 32
        counter = (counter + GOLDEN) & MASK
        slots.append(top if slot in slots else slot)
    return [row[slot] for slot in slots]


def sample(
    graph: Graph, seeds: list[int], moment: Moment, rank: int
) -> tuple[list[int], MiniBatch]:
    """The nodes of a minibatch, and the minibatch as yet without rows."""
    nodes, start = [int(seed) for seed in seeds], 0
    places = {node: place for place, node in enumerate(nodes)}
    sources, ends, num_nodes, num_edges = list[int](), [0], [len(seeds)], list[int]()
    for hop, fanout in enumerate(FANOUTS):
        frontier, start = nodes[start:], len(nodes)
        before = len(sources)
        for node in frontier:
            row = graph.indices[graph.indptr[node] : graph.indptr[node + 1]].tolist()
            for neighbour in draw(row, node, key(SEED, *moment, rank, hop), fanout):
                if neighbour not in places:
                    places[neighbour] = len(nodes)
                    nodes.append(neighbour)
                sources.append(places[neighbour])
            ends.append(len(sources))
        num_nodes.append(len(nodes) - start)
        num_edges.append(len(sources) - before)
    batch = MiniBatch(
        moment=moment,
        n_id=torch.tensor(nodes, dtype=torch.int64),
        x=torch.empty(0),
        y=torch.from_numpy(graph.y[seeds]),
        indptr=torch.tensor(ends),
        sources=torch.tensor(sources, dtype=torch.int64),
        num_sampled_nodes=tuple(num_nodes),
        num_sampled_edges=tuple(num_edges),
        num_global_seeds=0,
        rows=RowCounts(),
        seconds=StageSeconds(),
    )
    return nodes, batch


class ScoreBuffer:
    """The paper's policy, replacing after every minibatch: stale rows out, missed ones in."""

    def __init__(self, capacity: int) -> None:
        self.slots: list[int | None] = [None] * capacity
        self.score = np.zeros(capacity, np.float32)
        self.count: Counter[int] = Counter()  # in 512ths, as rudder keeps them
        self.candidates: dict[int, None] = {}
        self.rows: Counter[str] = Counter()

    def serve(self, ids: list[int], replace: bool) -> None:
        """Count hits and misses of a minibatch's remote ids, then swap."""
        held = {node: slot for slot, node in enumerate(self.slots) if node is not None}
        misses = [node for node in ids if node not in held]
        for node, slot in held.items():
            asked = node in ids
            self.score[slot] += np.float32(1) if asked else 0
            self.score[slot] *= np.float32(1) if asked else np.float32(0.95)
        self.count.update(dict.fromkeys(misses, 512))
        ranked = [*misses, *(node for node in self.candidates if node not in misses)]
        self.candidates |= dict.fromkeys(misses)
        self.rows.update(remote=len(ids), hits=len(ids) - len(misses), misses=len(misses))
        stale = [slot for slot in np.argsort(self.score, kind="stable") if self.score[slot] < 0.95]
        num = min(len(stale), len(ranked)) if replace else 0
        if num == 0:
            return
        best = set(sorted(ranked, key=lambda node: -self.count[node])[:num])
        entering = [node for node in ranked if node in best]
        for slot, node in zip(sorted(stale[:num]), entering, strict=True):
            leaving = self.slots[slot]
            if leaving is not None:
                self.count[leaving] = int(self.score[slot] * 512)
            self.slots[slot], self.score[slot] = node, np.float32(self.count[node]) / 512
            self.rows["replacements"] += node not in misses  # moved for the buffer alone
        self.candidates.clear()


def train() -> tuple[list[float], dict[str, int]]:
    """The loss of every step, and rows by cause over both ranks."""
    graph, offsets = partition(load_dataset("synthetic:tiny"))
    train_ids = [first + np.flatnonzero(graph.train_mask[first:last]) for first, last in
                 itertools.pairwise(offsets)]  # fmt: skip
    steps = max(-(-len(ids) // BATCH) for ids in train_ids)
    torch.manual_seed(SEED)
    sizes = {"num_features": graph.num_features, "num_classes": graph.num_classes}
    model = build_model("sage", **sizes, hidden=HIDDEN, num_layers=len(FANOUTS), dropout=0.5)
    adam = torch.optim.Adam(model.parameters(), lr=0.003)
    buffers, losses = [], list[float]()
    for first, last in itertools.pairwise(offsets):
        sources = set(graph.indices[graph.indptr[first] : graph.indptr[last]].tolist())
        buffers.append(ScoreBuffer(round(SHARE * len(sources - set(range(first, last))))))
    for epoch, step in itertools.product(range(EPOCHS), range(steps)):
        shares = []
        for rank, ids in enumerate(train_ids):
            seed = np.random.SeedSequence([SEED, epoch, rank])
            order = np.random.Generator(np.random.Philox(seed)).permutation(ids)
            shares.append(order[len(ids) * step // steps : len(ids) * (step + 1) // steps].tolist())
        gradients, total = [], torch.zeros(())
        for rank, seeds in enumerate(shares):
            nodes, batch = sample(graph, seeds, Moment(epoch, step), rank)
            first, last = offsets[rank], offsets[rank + 1]
            remote = [node for node in nodes if not first <= node < last]
            buffers[rank].serve(remote, replace=(epoch, step) > (0, 0))
            object.__setattr__(batch, "x", torch.from_numpy(graph.x[nodes]))
            model.reseed(key(SEED, epoch, step, rank, -1))  # the hop that no sampler uses: dropout
            loss = F.cross_entropy(model(batch), batch.y, reduction="sum") / sum(map(len, shares))
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            gradients.append([parameter.grad for parameter in model.parameters()])
            total += loss.detach()
        for parameter, *parts in zip(model.parameters(), *gradients, strict=True):
            parameter.grad = parts[0] + parts[1]
        adam.step()
        losses.append(float(total))
    return losses, dict(sum((buffer.rows for buffer in buffers), Counter()))


if __name__ == "__main__":
    losses, rows = train()
    print(f"loss {losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} steps; rows {rows}")
