"""RowCounts: remote rows by what became of them, the one record that every layer counts in."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class RowCounts:
    """Rows of one minibatch, or of all so far.

    remote: distinct remote rows that minibatches needed = hits + misses.   replacements: rows moved
    for the buffer alone, those it starts with among them.   replaced: rows written to the buffer,
    whether they were misses anyway or not.   shared: hits on rows that come for another rank of the
    host in the same step.   halo_remote, halo_hits: those of the remote rows and of the hits whose
    node is in the halo.   received: rows moved that owners on other hosts sent; received_bytes,
    mapped_bytes: of the rows moved, those that owners sent and those read from their memory maps;
    only who moves rows knows these three.
    """

    remote: int = 0
    hits: int = 0
    misses: int = 0
    replacements: int = 0
    replaced: int = 0
    shared: int = 0
    halo_remote: int = 0
    halo_hits: int = 0
    received: int = 0
    received_bytes: int = 0
    mapped_bytes: int = 0

    @property
    def moved(self) -> int:
        """Rows that crossed between partitions."""
        return self.misses + self.replacements

    def by_cause(self) -> dict[str, int]:
        """The counts that summaries and event logs show."""
        return {name: getattr(self, name) for name in ("remote", "hits", "misses", "replacements")}

    def hit_shares(self) -> dict[str, float | None]:
        """%-Hits: of all remote rows, and of those in the halo; None where there were none."""
        return {
            "hits_pct": 100.0 * self.hits / self.remote if self.remote else None,
            "halo_hits_pct": 100.0 * self.halo_hits / self.halo_remote
            if self.halo_remote
            else None,
        }

    def __iadd__(self, other: "RowCounts") -> "RowCounts":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self
