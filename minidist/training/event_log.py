"""EventLog: what happened on one rank, one JSON object a line."""

import json
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rudder.cli.whole_file import not_written


class EventLog:
    """Appends to ``events-rank<r>.jsonl`` in a folder; without a folder, events are dropped.

    Each line holds ``time`` (seconds since the epoch), ``event`` and the event's own fields. Lines
    are written whole, so a killed run leaves a log that reads to its last event. Raises NotWritten.
    """

    def __init__(self, folder: Path | None, rank: int) -> None:
        path = None if folder is None else folder / f"events-rank{rank}.jsonl"
        self._file = None if path is None else path.open("a", buffering=1)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event. Fields must be JSON values."""
        if self._file is not None:
            record = {"time": time.time(), "event": event, **fields}
            try:
                self._file.write(json.dumps(record) + "\n")
            except OSError as error:
                raise not_written(Path(self._file.name), error) from error

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What a full disk does not take must not hide the error that there was.
        with suppress(OSError) if error is not None else nullcontext():
            if error is not None:
                self.write("failed", error=f"{type(error).__name__}: {error}")
            if self._file is not None:
                self._file.close()
