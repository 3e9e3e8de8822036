"""Run: a run folder (``minidist.train --out``), read for a page.

    DIR/summary.json           what the run said at its end
        events-rank<r>.jsonl   what each rank wrote down on the way

A run that did not finish has no summary, or an earlier run's: its figures come from the events.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rudder.pages.minibatches import Minibatches
from rudder.pages.numerals import is_number
from rudder.pages.runlog import Decided, Exchange, RunLog, Times
from rudder.pages.unfinished import summary_so_far
from rudder.presets import PLAIN, SELF_STEERED


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run. summary: its own, or what its events say where it did not finish.

    times: by epoch, of the rank whose epoch took longest.   decisions: of all ranks, in order.
    notes: what a reader should know of the folder.
    """

    name: str
    finished: bool
    summary: dict[str, Any]
    config: dict[str, Any]
    minibatches: Minibatches
    times: dict[int, Times]
    scores: list[dict[str, Any]]
    decisions: list[Decided]
    exchange: Exchange | None
    failures: list[str]
    notes: list[str]

    @property
    def prefetch(self) -> str:
        """The preset, ``unknown`` where the run left no settings."""
        return str(self.config.get("prefetch", "unknown"))

    @property
    def kind(self) -> str:
        """The preset without its argument."""
        return self.prefetch.partition(":")[0]

    @property
    def decider(self) -> str | None:
        """Who decides, where anyone is asked."""
        asked = self.summary.get("decisions")
        return str(asked["decider"]) if asked else None

    @property
    def label(self) -> str:
        """What it did about remote rows: ``rudder · llm``."""
        return f"{self.prefetch} · {self.decider}" if self.decider else self.prefetch

    @property
    def has_buffer(self) -> bool:
        return self.kind not in PLAIN

    @property
    def steers_itself(self) -> bool:
        return self.kind in SELF_STEERED

    @property
    def rows(self) -> dict[str, int]:
        """remote, hits, misses, replacements over the run."""
        rows = self.summary.get("rows") or {}
        return {key: int(rows.get(key, 0)) for key in ("remote", "hits", "misses", "replacements")}

    @property
    def moved(self) -> int:
        """Rows that crossed between partitions."""
        return self.rows["misses"] + self.rows["replacements"]

    @property
    def moved_pct(self) -> float | None:
        """Those as a share of what no buffer would have moved."""
        return 100.0 * self.moved / self.rows["remote"] if self.rows["remote"] else None

    @property
    def hits_pct(self) -> float | None:
        return 100.0 * self.rows["hits"] / self.rows["remote"] if self.rows["remote"] else None

    def figure(self, name: str) -> float | None:
        """A number of the summary; None where it has none."""
        return _number(self.summary, name)

    def decided(self, name: str) -> float | None:
        """A number of the summary's ``decisions``."""
        return _number(self.summary.get("decisions") or {}, name)


def _number(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if is_number(value) else None  # type: ignore[arg-type]


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises ValueError where there is no run in it, or none can be read."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name one that minidist.train --out wrote")
    summary = _read_summary(folder / "summary.json")
    paths = {
        int(digits): path
        for path in folder.glob("events-rank*.jsonl")
        if (digits := path.stem.removeprefix("events-rank")).isdigit()
    }
    if summary is None and not paths:
        raise ValueError(
            f"{folder}: no run there, neither summary.json nor events-rank*.jsonl; "
            f"`python -m minidist.train --out {folder}` makes one"
        )
    logs = [RunLog.read(paths[rank], rank) for rank in sorted(paths)]
    begun = [log for log in logs if log.config is not None]
    # Rank 0 writes the summary, when all ranks are done; their last words may come after it.
    finished = summary is not None and all(log.finished for log in begun[:1])
    config: dict[str, Any] = (begun[0].config or {}) if begun and not finished else {}
    config = config or (summary or {}).get("config") or {}
    per_epoch = (summary or {}).get("steps_per_epoch") or _steps_per_epoch(logs)
    if summary is None or not finished:
        summary = summary_so_far(logs, config, per_epoch)
    decisions = [made for log in logs for made in log.decisions.values()]
    exchanges = [log.exchange for log in logs if log.exchange is not None]
    return Run(
        name=folder.resolve().name,
        finished=finished,
        summary=summary,
        config=config,
        minibatches=Minibatches.of(logs, per_epoch),
        times=_slowest(logs),
        scores=[logs[0].scores[epoch] for epoch in sorted(logs[0].scores)] if logs else [],
        decisions=sorted(decisions, key=lambda made: (made.minibatch, made.rank)),
        exchange=max(exchanges, key=lambda exchange: exchange.minibatch, default=None),
        failures=[f"rank {log.rank}: {text}" for log in logs for text in log.failures],
        notes=_notes(logs, finished, config, summary),
    )


def _read_summary(path: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a run's summary: {error}") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("rows"), dict):
        raise ValueError(f"{path}: not the summary of a minidist.train run")
    return summary


def _steps_per_epoch(logs: list[RunLog]) -> int:
    return max((step + 1 for log in logs for _, step in log.steps), default=1)


def _slowest(logs: list[RunLog]) -> dict[int, Times]:
    epochs = sorted(set.intersection(*(set(log.epochs) for log in logs))) if logs else []
    return {
        epoch: max((log.epochs[epoch] for log in logs), key=lambda times: times.epoch_time_s)
        for epoch in epochs
    }


def _notes(
    logs: list[RunLog], finished: bool, config: dict[str, Any], summary: dict[str, Any]
) -> list[str]:
    notes = []
    if not finished:
        notes.append(
            "This run did not finish (it left no summary): the figures are what its events say "
            "of the minibatches that every rank completed."
        )
    notes += [f"Rank {log.rank} failed: {log.error}" for log in logs if log.error]
    if finished and config.get("resume"):
        notes.append(
            "This run was resumed. The figures at the top are of the minibatches since then; the "
            "charts show the earlier ones too."
        )
    ranks = summary.get("world_size", len(logs))
    if len(logs) != ranks:
        notes.append(f"The events of {len(logs)} of {ranks} ranks are in the folder.")
    broken = sum(log.broken for log in logs)
    if broken:
        notes.append(f"Lines of the event logs that could not be read: {broken:,}.")
    return notes
