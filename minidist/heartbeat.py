"""Heartbeats: how ranks find out which of them is silent.

A collective that times out does not say who was missing. So a thread of each rank writes a sign of
life, and the step it works on, to the job's key-value store once a second; whoever times out reads
them all, and names the ranks whose last sign is old, or else those that are behind.
"""

import threading
import time
from datetime import timedelta

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from minidist.transport.base import OUTSIDE, Moment, PeerTimeout

_BEAT_S = 1.0
# A sign of life older than this is from a rank that is stopped, not just busy.
_STALE_S = 4.0
_LOOK_S = 2.0


class Heartbeats:
    """Writes this rank's signs of life; reads the others'.

    address, port: of the job's TCPStore. keeper: the rank whose process holds it, or None where a
    launcher does.
    """

    def __init__(self, rank: int, size: int, address: str, port: int, keeper: int | None) -> None:
        self.rank, self.size, self._keeper = rank, size, keeper
        self._address, self._port = address, port
        self.moment = OUTSIDE
        self._stop = threading.Event()
        self._beat = self._connect()
        self._thread = threading.Thread(target=self._run, name="minidist-heartbeat", daemon=True)
        self._thread.start()

    def _connect(self) -> Store:
        return TCPStore(
            self._address,
            self._port,
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=_LOOK_S),
        )

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(_BEAT_S if count else 0):
            count += 1
            try:
                self._beat.set(f"beat/{self.rank}", f"{count} {self.moment[0]} {self.moment[1]}")
            except RuntimeError:
                return  # the store is gone, and with it the job

    def silent(self) -> str:
        """The ranks that seem to be missing, as text; takes a few seconds."""
        try:
            store = self._connect()
            first = self._read(store)
            time.sleep(_STALE_S)
            second = self._read(store)
        except RuntimeError:
            return "0, which does not answer" if self._keeper is None else str(self._keeper)
        others = [peer for peer in range(self.size) if peer != self.rank]
        stopped = [peer for peer in others if first[peer][0] == second[peer][0]]
        if not stopped:
            latest = max(moment for _, moment in second)
            stopped = [peer for peer in others if second[peer][1] < latest] or others
        return ", ".join(map(str, stopped))

    def _read(self, store: Store) -> list[tuple[int, Moment]]:
        found = []
        for peer in range(self.size):
            count, epoch, step = map(int, store.get(f"beat/{peer}").split())
            found.append((count, Moment(epoch, step)))
        return found

    def timed_out(self, operation: str, moment: Moment, began: float) -> PeerTimeout:
        """The error of a collective that failed ``began`` seconds (monotonic clock) ago."""
        waited = time.monotonic() - began
        return PeerTimeout(self.rank, self.silent(), operation, moment, waited)

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join(_LOOK_S)
