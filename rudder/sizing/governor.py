"""Governor: has the ranks of a host choose one size and window together, while they train.

    prefetch thread    Watch: ids of coming minibatches, rows and seconds of fetches
    training thread    each step: seconds of computing
                       each EVERY steps: View -> all ranks' views -> ``choose`` -> the store

All ranks take the same steps, so the views are exchanged at the same moment, by the group that sums
gradients, and each rank of a host comes to the same choice by itself. The size changes when the
prefetch thread plans its next minibatch.
"""

import json
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rudder.feature_store import When
from rudder.sizing.choice import WINDOWS, Choice, View, choose, shares_up_to
from rudder.sizing.watch import Link, Watch

# Steps between two choices: 32 is how many losses a GPU may owe, which are read at once.
EVERY = 32
# Steps of a run that compile and warm up.
_WARM_UP = 4


@dataclass(frozen=True, kw_only=True)
class Host:
    """How the ranks of a host come to one choice.

    agree: given our view and the moment, the views of all ranks; every rank calls it at the same
    steps.   ranks: those of our host.   most_bytes: that the buffer of each of them may hold.
    """

    agree: Callable[[View, When], Sequence[View]]
    ranks: Sequence[int]
    most_bytes: float


class Governor:
    """One rank's. halo_rows, row_bytes: of its part.   windows: to choose from.

    resize: sets the store's capacity in rows and its window.   log: ``log(event, **fields)``.
    """

    def __init__(
        self,
        host: Host,
        watch: Watch,
        resize: Callable[[int, int], None],
        halo_rows: int,
        row_bytes: int,
        windows: Sequence[int],
        log: Callable[..., None],
    ) -> None:
        self._host, self._watch, self._resize, self._log = host, watch, resize, log
        self._halo_rows, self._row_bytes, self._windows = halo_rows, row_bytes, windows
        self._shares = shares_up_to(host.most_bytes / max(halo_rows * row_bytes, 1))
        self._steps: deque[float] = deque(maxlen=EVERY)
        self._num_steps = 0
        self.choice = Choice(share=0.0, window=windows[-1])
        self.changes: list[dict[str, Any]] = []

    @property
    def capacity(self) -> int:
        """Rows of the choice."""
        return self._rows(self.choice.share)

    def _rows(self, share: float) -> int:
        return round(share * self._halo_rows)

    def after_step(self, compute_s: float, moment: When) -> str | None:
        """A step was trained in so many seconds. Returns what was chosen anew and why, if anything.

        Every rank calls it after every step. Raises what ``Host.agree`` does.
        """
        self._num_steps += 1
        if self._num_steps > _WARM_UP:
            self._steps.append(compute_s)
        if self._num_steps % EVERY:
            return None
        capacities = [self._rows(share) for share in self._shares]
        link, seconds = self._watch.seconds(capacities, self._windows)
        views = self._host.agree(View(statistics.fmean(self._steps), seconds), moment)
        slowest_s = min(view.compute_s for view in views)
        of_host = [views[rank] for rank in self._host.ranks]
        chosen = choose(of_host, slowest_s, self._shares, self._windows, self.choice)
        same = (chosen.share, chosen.window) == (self.choice.share, self.choice.window)
        if same and self.changes:
            return None
        self.choice = chosen
        self._resize(self.capacity, chosen.window)
        text = self._text(link)
        self.changes.append({"step": self._num_steps, **asdict(chosen), "capacity": self.capacity})
        self._log("buffer size", **self.changes[-1], **link._asdict(), text=text)
        return text

    def _text(self, link: Link) -> str:
        choice, megabytes = self.choice, self.capacity * self._row_bytes / 2**20
        what = "no buffer (overlap)"
        if choice.share:
            what = (
                f"a buffer of {choice.share:.1%} of the halo ({self.capacity:,} rows, "
                f"{megabytes:,.1f} MiB), window {choice.window}"
            )
        why = "hidden behind" if choice.hidden else "more than"
        rate = self._row_bytes / link.row_s / 1e6 if link.row_s else float("inf")
        most = "" if choice.hidden else "; no size that memory allows moves fewer rows to speak of"
        return (
            f"step {self._num_steps}: {what}: a fetch takes {1e3 * choice.fetch_s:.1f} ms, {why} "
            f"{1e3 * choice.compute_s:.1f} ms of computing; link {rate:,.0f} MB/s, latency "
            f"{1e3 * link.latency_s:.1f} ms{most}"
        )

    def state(self) -> str:
        """For a checkpoint."""
        return json.dumps({"choice": asdict(self.choice), "changes": self.changes})

    def load(self, state: str) -> None:
        """Go on from ``state()``; the first choice of this run may differ."""
        known = json.loads(state)
        self.choice, self.changes = Choice(**known["choice"]), known["changes"]
        self._resize(self.capacity, self.choice.window)


def windows_up_to(most: int, is_free: bool) -> tuple[int, ...]:
    """The windows to choose from: one alone unless the choice is free."""
    return tuple(window for window in WINDOWS if window < most) * is_free + (most,)
