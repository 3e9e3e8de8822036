"""Prefetching: what a run may do about remote rows besides fetching them.

A buffer, its decisions, a trace. ``minidist.steered`` makes one out of ``rudder``, and
``minidist.train`` hands it in.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class Prefetching(Protocol):
    """One rank's; made for a loader, whose ``use`` it has called."""

    def report(self) -> Any:
        """Our figures so far; can be pickled."""
        ...

    def summarize(self, reports: Sequence[Any]) -> dict[str, Any]:
        """What the summary says, of all ranks' reports."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps."""
        ...

    def load(self, state: dict[str, NDArray[Any]]) -> bool:
        """Go on from ``state()``; False where it is of other settings, and we start afresh."""
        ...

    def finish(self) -> None:
        """All minibatches were served."""
        ...

    def close(self) -> None:
        """Let go of threads and files, whether or not the run got to its end."""
        ...


class NoPrefetching:
    """Nothing stands between the loader and the owners of rows."""

    def report(self) -> None:
        return None

    def summarize(self, reports: Sequence[None]) -> dict[str, Any]:
        return {"buffer": None, "decisions": None}

    def state(self) -> dict[str, NDArray[Any]]:
        return {}

    def load(self, state: dict[str, NDArray[Any]]) -> bool:
        return not state

    def finish(self) -> None:
        return

    def close(self) -> None:
        return
