"""Heartbeats: how ranks find out which of them is silent.

A collective that times out does not say who was missing. So a thread of each rank writes a sign of
life, and how many collectives it has entered, to the store in rank 0's process once a second.
Whoever times out has its thread read everybody's for a few seconds: a store that does not answer
means rank 0; else it names the ranks whose signs stopped, else those that entered fewer.

Only that thread talks to the store: a client of a stopped store blocks for ever, whatever timeout
it was given, and so would whoever asks.
"""

import json
import threading
import time
from dataclasses import dataclass, field

from torch.distributed import Store  # type: ignore[attr-defined]

from minidist.comm.transport.base import PeerTimeout
from minidist.moment import Moment

_BEAT_S = 1.0
# Long enough to see the third sign after the first. One that is the same for more than the second
# of these is of a rank that is stopped, not just busy.
_LOOK_S, _STALE_S = 3.5, 2.5
_JOIN_S = 2.0


@dataclass
class _Sign:
    """The latest sign of a rank. changed: when it last was a new one, by our clock."""

    text: bytes = b""
    changed: float = 0.0
    entered: dict[str, int] = field(default_factory=dict)


class Heartbeats:
    """Writes this rank's signs of life; knows the others'.

    store: a client of its own to the store that rank 0's process keeps.
    """

    def __init__(self, rank: int, size: int, store: Store) -> None:
        self.rank, self.size, self._store = rank, size, store
        self._entered: dict[str, int] = {}
        self._signs = [_Sign() for _ in range(size)]
        self._last_answer = time.monotonic()
        self._looking = self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="minidist-heartbeat", daemon=True)
        self._thread.start()

    def enter(self, channel: str) -> None:
        """Count a collective of this channel, so that those who did not come can be told."""
        self._entered[channel] = self._entered.get(channel, 0) + 1

    def _run(self) -> None:
        count = 0
        while not self._stopping:
            count += 1
            try:
                self._store.set(f"sign/{self.rank}", json.dumps([count, dict(self._entered)]))
                self._store.check([f"sign/{self.rank}"])
                self._last_answer = time.monotonic()
                if self._looking:
                    self._look()
            except RuntimeError:
                return  # rank 0's process is gone: its store will not answer again
            self._wake.wait(_BEAT_S)
            self._wake.clear()

    def _look(self) -> None:
        there = [peer for peer in range(self.size) if self._store.check([f"sign/{peer}"])]
        texts = self._store.multi_get([f"sign/{peer}" for peer in there])
        now = time.monotonic()
        for peer, text in zip(there, texts, strict=True):
            if text != self._signs[peer].text:
                self._signs[peer] = _Sign(text, now, json.loads(text)[1])

    def keeper_is_silent(self, limit: float) -> bool:
        """Whether rank 0's process has not answered for ``limit`` seconds, and for a few beats.

        Its store answers from a thread of its own, even while rank 0's Python is busy in METIS.
        """
        return time.monotonic() - self._last_answer > max(limit, _STALE_S)

    def missing(self, channel: str) -> list[int]:
        """The ranks that keep a collective from ending, as far as can be told; takes 3.5 s."""
        self._looking = True
        self._wake.set()
        time.sleep(_LOOK_S)
        if self.keeper_is_silent(_STALE_S):
            return [0]
        others = [peer for peer in range(self.size) if peer != self.rank]
        now, entered = self._last_answer, self._entered.get(channel, 0)
        stale = [peer for peer in others if now - self._signs[peer].changed > _STALE_S]
        behind = [peer for peer in others if self._signs[peer].entered.get(channel, 0) < entered]
        return stale or behind or others

    def timed_out(self, channel: str, operation: str, moment: Moment, began: float) -> PeerTimeout:
        """The error of a collective that began then (monotonic clock) and failed now."""
        waited = time.monotonic() - began
        peers = ", ".join(map(str, self.missing(channel)))
        return PeerTimeout(self.rank, peers, operation, moment, waited)

    def close(self) -> None:
        """Stop the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join(_JOIN_S)
