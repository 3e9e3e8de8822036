"""Trace: which remote rows each minibatch of a rank asked for, on disk.

    DIR/rank0/meta.json      version, facts, the run's settings and counters
              ids.npy        int64: remote ids of all minibatches, one after the other
              offsets.npy    int64 [T + 1]: minibatch t is ids[offsets[t]:offsets[t + 1]]
              halo.npy, halo_degrees.npy, frequent.npy, frequencies.npy     the Prior, int64
              replace.npy    bool [T]: whether the decider had a replacement carried out at t
    DIR/rank1/ ...

T minibatches. A rank's folder appears whole, when its run ends.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.buffer.index import Ids
from rudder.cli.whole_file import whole_folder
from rudder.observations import Facts
from rudder.policies.base import Prior

VERSION = 1
_PRIOR = ("halo", "halo_degrees", "frequent", "frequencies")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """One rank's recorded minibatches.

    facts: of the run, with the capacity its own buffer had.   num_ids: ids are below it.
    replace: bool [T], where the run's decider had a replacement carried out (all False without a
    buffer).   run: the run's settings (``prefetch``, ``decider``, ``seed``, ...), rank, dataset,
    and its ``counters`` of rows (remote, hits, misses, replacements).
    """

    name: str
    facts: Facts
    num_ids: int
    ids: Ids
    offsets: Ids
    prior: Prior
    replace: NDArray[np.bool_]
    run: dict[str, Any]

    @property
    def num_minibatches(self) -> int:
        return len(self.offsets) - 1

    def minibatch(self, number: int) -> Ids:
        """The distinct remote ids of a minibatch."""
        return self.ids[self.offsets[number] : self.offsets[number + 1]]

    @property
    def minibatches(self) -> list[Ids]:
        """The distinct remote ids of every minibatch."""
        return [self.minibatch(number) for number in range(self.num_minibatches)]

    @property
    def mean_remote(self) -> float:
        """b: remote rows of a minibatch, on average."""
        return len(self.ids) / max(self.num_minibatches, 1)

    def write(self, folder: Path) -> None:
        """Write one rank's folder, whole or not at all; a folder of an earlier run is replaced."""
        arrays = {name: getattr(self.prior, name) for name in _PRIOR}
        arrays |= {"ids": self.ids, "offsets": self.offsets, "replace": self.replace}
        facts = asdict(self.facts)
        meta = {"version": VERSION, "num_ids": self.num_ids, "facts": facts, "run": self.run}
        with whole_folder(folder) as staging:
            for name, array in arrays.items():
                np.save(staging / f"{name}.npy", array)
            (staging / "meta.json").write_text(json.dumps(meta, indent=1))

    @classmethod
    def read(cls, folder: Path) -> "Trace":
        """Read one rank's folder. Raises ValueError where it is not one, or of another version."""
        try:
            meta = json.loads((folder / "meta.json").read_text())
            arrays = {
                name: np.load(folder / f"{name}.npy", allow_pickle=False)
                for name in (*_PRIOR, "ids", "offsets", "replace")
            }
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} cannot be read as a trace: {error}") from None
        if meta.get("version") != VERSION:
            raise ValueError(
                f"{folder} is a trace of version {meta.get('version')}, expected {VERSION}: "
                "record it anew"
            )
        return cls(
            name=f"{folder.parent.name}/{folder.name}",
            facts=Facts(**meta["facts"]),
            num_ids=meta["num_ids"],
            prior=Prior(**{name: arrays.pop(name) for name in _PRIOR}),
            run=meta["run"],
            **arrays,
        )


def read_traces(folder: Path) -> list[Trace]:
    """All ranks of a run, in order. Raises ValueError where there is none or one is missing."""
    folders = sorted(folder.glob("rank*"), key=lambda path: int(path.name[4:]))
    if not folders:
        raise ValueError(f"{folder}: no trace there; `python -m minidist.train --trace {folder}`")
    traces = [Trace.read(path) for path in folders]
    num_ranks = traces[0].facts.num_parts
    if len(traces) != num_ranks:
        raise ValueError(f"{folder}: {len(traces)} of {num_ranks} ranks are there: record it anew")
    return traces


def make_trace(
    name: str,
    minibatches: Sequence[Ids],
    *,
    facts: Facts,
    num_ids: int,
    prior: Prior,
    replace: Sequence[bool] = (),
    run: dict[str, Any] | None = None,
) -> Trace:
    """A trace of minibatches in memory."""
    return Trace(
        name=name,
        facts=facts,
        num_ids=num_ids,
        ids=np.concatenate([np.zeros(0, np.int64), *minibatches]),
        offsets=np.cumsum([0, *map(len, minibatches)], dtype=np.int64),
        prior=prior,
        replace=np.array([*replace, *[False] * (len(minibatches) - len(replace))], bool),
        run=run or {},
    )
