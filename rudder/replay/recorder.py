"""Recorder: writes a run's trace as it goes (see ``trace`` for the files)."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rudder.buffer.index import Ids
from rudder.observations import Facts
from rudder.policies.base import Prior
from rudder.replay.trace import Trace


class Recorder:
    """Records one rank; the ids pass through a temporary file, not through memory.

    folder: where ``write`` puts the trace, as ``folder/rank<rank>`` and whole; rank 0 clears an
    earlier trace there. None: the trace is only read, by ``trace``.
    Raises ValueError where the folder cannot be written.
    """

    def __init__(self, folder: Path | None, rank: int) -> None:
        self._folder = None if folder is None else folder / f"rank{rank}"
        self._lengths: list[int] = []
        self._replace: list[bool] = []
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            if folder is not None and rank == 0:
                # An earlier trace may be of more ranks than this one.
                for old in folder.glob("rank*"):
                    shutil.rmtree(old, ignore_errors=True)
            self._ids = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise ValueError(f"--trace {folder}: cannot be written: {error.strerror}") from None

    def record(self, ids: Ids, replace: bool) -> None:
        """A minibatch asked for these remote ids; whether its decider had rows replaced."""
        self._ids.write(np.ascontiguousarray(ids, np.int64).data)
        self._lengths.append(len(ids))
        self._replace.append(replace)

    def trace(self, facts: Facts, num_ids: int, prior: Prior, run: dict[str, Any]) -> Trace:
        """What was recorded so far."""
        self._ids.seek(0)
        return Trace(
            name=f"rank{run['rank']}",
            facts=facts,
            num_ids=num_ids,
            ids=np.fromfile(self._ids, np.int64),
            offsets=np.cumsum([0, *self._lengths], dtype=np.int64),
            prior=prior,
            replace=np.array(self._replace, bool),
            run=run,
        )

    def write(self, trace: Trace) -> None:
        """Leave the trace of a run that is over in its folder, where it has one."""
        if self._folder is not None:
            trace.write(self._folder)

    def close(self) -> None:
        """Let go of the temporary file; a trace that was not finished leaves nothing."""
        self._ids.close()
