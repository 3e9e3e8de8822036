"""Costs: how long an epoch of P trainers takes, from what its parts cost.

For a minibatch of n nodes, e edges, b_s bytes of neighbours and b_r of rows from other trainers:

    sample  s = s0 + s1 e + m (L - 1) + b_s / (h R)     m a message, L hops, h of the link's rate R
    gather  f = f0 + f1 n,  rows  w = m + b_r / (h R)
    train   c = c0 + c1 e
    sum     g = y ceil(log2 P) + 2 (P - 1) / P G / (h R)           G bytes of gradients

    none    T0 = sum of (max over trainers of (s + f + w + c) + g)
    ahead   T = M + x (T0 - M), where M is the longest of what overlaps: sum of (max c + g),
            sum of (max(f, w) + d), sum of s, bytes / (h R), work / cores

x is the share of hidden time that shows, d a decision that minibatches wait for. Where a trainer
has less than a core, all computing takes as much longer. Within a host there are no m, h and g.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import Row
from benchmarks.lab.hosts import bits_per_second
from benchmarks.scale.rows import NEEDS
from benchmarks.trainers import ID_BYTES

Amounts = NDArray[np.float64]


class Work(NamedTuple):
    """What the minibatches of k trainers need: float64 [k, T] each."""

    nodes: Amounts
    edges: Amounts
    neighbor_bytes: Amounts
    row_bytes: Amounts
    num_epochs: int
    num_hops: int

    @classmethod
    def of(cls, scale: Row, row: Row, num_hops: int) -> "Work":
        """Of a row of ``rows.scale_of``, the first epoch left out, which fills the buffer."""
        lists = [*([one[name] for one in scale["needs"]] for name in NEEDS), row["by_step"]]
        later = np.array(lists, float)[:, :, len(row["by_step"][0]) // scale["epochs"] :]
        nodes, edges, requests, replies, moved = later
        row_bytes = moved * (scale["row_bytes"] + ID_BYTES)
        return cls(nodes, edges, requests + replies, row_bytes, scale["epochs"] - 1, num_hops)


class Costs(NamedTuple):
    """sample, gather, train: seconds of a minibatch, and of one more edge or node.   message_s: m.

    link_share: h.   sum_s: y.   gradient_bytes: G.   decision_s: of one, measured.   exposed: x.
    """

    sample: tuple[float, float]
    gather: tuple[float, float]
    train: tuple[float, float]
    message_s: float = 0.0
    link_share: float = 1.0
    sum_s: float = 0.0
    gradient_bytes: float = 0.0
    decision_s: float = 0.0
    exposed: float = 0.0

    def epoch(
        self,
        work: Work,
        count: int,
        cores: float,
        rate: str | None,
        decision_s: float = 0.0,
        sync: bool = False,
    ) -> dict[str, float]:
        """Seconds of an epoch: of ``none``, of all that is ``ahead``, and of what may be longest.

        count: P.   cores: of a trainer.   rate: of its link, ``200mbit``; None: all on one host.
        decision_s: for which each minibatch waits if ``sync``, else of a thread that always thinks.
        """
        slow, bits = max(1.0, 1.0 / cores), bits_per_second(rate or "none")
        costed = [(self.sample, work.edges), (self.gather, work.nodes), (self.train, work.edges)]
        sample, gather, train = (slow * (once + each * amount) for (once, each), amount in costed)
        computing, wait_s = sample + gather + train, decision_s if sync else 0.0
        thinking = 0.0 if sync else min(decision_s, float(computing.mean()))
        per_byte, message, sum_s = 0.0, 0.0, 0.0
        if bits is not None:
            per_byte, message, sum_s = 8 / (self.link_share * bits), self.message_s, self.sum_s
        gradients = 2 * (count - 1) / count * self.gradient_bytes
        summing = sum_s * math.ceil(math.log2(count)) + per_byte * gradients
        carried = per_byte * (work.neighbor_bytes + work.row_bytes + gradients)
        sample = sample + message * (work.num_hops - 1) + per_byte * work.neighbor_bytes
        rows = message + per_byte * work.row_bytes
        parts = {
            "train": (worst(train, count) + summing).sum(),
            "fetch": worst((np.maximum(gather, rows) + wait_s).sum(axis=1), count),
            "sample": worst(sample.sum(axis=1), count),
            "links": worst(carried.sum(axis=1), count),
            "cores": (computing + thinking).sum(axis=1).mean() / slow / cores,
        }
        none = (worst(sample + gather + rows + wait_s + train, count) + summing).sum()
        longest = max(parts.values())
        parts |= {"none": none, "ahead": longest + self.exposed * max(none - longest, 0.0)}
        return {name: float(seconds) / work.num_epochs for name, seconds in parts.items()}


def worst(amounts: Amounts, count: int) -> Amounts:
    """Of the slowest of ``count`` trainers, from k of them: [k, ...] to [...].

    Where fewer are known it lies where the largest of so many normals is expected (Blom).
    """
    known, mean = len(amounts), amounts.mean(axis=0)
    if known == count:
        return np.asarray(amounts.max(axis=0))
    far = NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
    spread = amounts.std(axis=0, ddof=1) / np.maximum(mean, 1e-30) if known > 1 else np.zeros(1)
    return np.asarray(mean * (1 + far * spread.mean()))
