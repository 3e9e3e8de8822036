"""Parts: a partitioned graph on disk, memory-mapped by every rank of a host.

    DIR/
      meta.json            version, sizes, offsets, statistics; dtype, shape, bytes, crc32 per file
      part0/
        indptr.npy         int64 [n + 1]   in-edges of the owned nodes
        indices.npy        int32 [e]       their sources, ascending within a row
        x.npy              float32 [n, D]  features
        y.npy              int64 [n] or uint8 [n, C]
        train_ids.npy      int64           val_ids.npy, test_ids.npy likewise
        node_ids.npy       int64 [n]       original ids
        halo.npy           int64 [h]       remote sources of the in-edges; halo_degrees.npy likewise
        far_ids.npy        int64 [f]       remote nodes whose in-edges are kept, far_indptr.npy
                                           int64 [f + 1] and far_indices.npy int32
      part1/ ...

It appears whole or not at all: everything is written to ``DIR.tmp-<pid>`` beside it, synced, and
renamed. ``indices`` are int64 where N needs it. meta.json carries a checksum of itself.

N nodes, P parts, n owned nodes, e their in-edges, h halo nodes, f far nodes, D features, C classes.
"""

import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.graph import Graph
from minidist.store.manifest import META, REMAKE, ArrayFile, read_manifest
from minidist.store.partition_book import PartitionBook
from minidist.store.shard import Shard

Array = NDArray[Any]

# np.load parses headers with ast, which CPython 3.11 cannot do in two threads at once: one of them
# gets "AST constructor recursion depth mismatch". Ranks may be threads.
_PARSING = threading.Lock()
_BLOCK_BYTES = 1 << 24
ARRAYS = (
    *("indptr", "indices", "x", "y", "train_ids", "val_ids", "test_ids", "node_ids"),
    *("halo", "halo_degrees", "far_ids", "far_indptr", "far_indices"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """An opened partition directory.

    source: of the graph (see ``data.datasets.source_of``).
    statistics: edge cut, balance and halo sizes as the partitioner measured them.
    files: by relative path. checksum: of meta.json, and so of the whole directory.
    """

    path: Path
    name: str
    book: PartitionBook
    num_edges: int
    num_features: int
    num_classes: int
    multilabel: bool
    halo_hops: int
    method: str
    seed: int
    source: dict[str, Any]
    statistics: dict[str, Any]
    files: dict[str, ArrayFile]
    checksum: int

    @property
    def num_parts(self) -> int:
        return self.book.num_parts

    @property
    def num_nodes(self) -> int:
        return self.book.num_nodes

    @classmethod
    def open(cls, path: str | Path) -> "Parts":
        """Read and check meta.json. Raises ValueError: what was found, expected, and what to do."""
        path = Path(path)
        meta = read_manifest(path)
        try:
            files = {
                name: ArrayFile(
                    entry["dtype"], tuple(entry["shape"]), entry["bytes"], entry["crc32"]
                )
                for name, entry in meta["files"].items()
            }
            parts = cls(
                path=path,
                name=meta["name"],
                book=PartitionBook(np.array(meta["offsets"], np.int64)),
                num_edges=meta["num_edges"],
                num_features=meta["num_features"],
                num_classes=meta["num_classes"],
                multilabel=meta["multilabel"],
                halo_hops=meta["halo_hops"],
                method=meta["method"],
                seed=meta["seed"],
                source=meta["source"],
                statistics=meta["statistics"],
                files=files,
                checksum=meta["checksum"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path / META} lacks or garbles {error}: {REMAKE}") from None
        return parts

    def shard(self, part: int, *, verify: bool = True, touch: bool = False) -> Shard:
        """Memory-map one part, read-only.

        verify: read every byte once and compare size, dtype, shape and checksum with meta.json.
        touch: fault every page in now, so that no first access waits for the disk.
        Raises ValueError that names the file and what is wrong with it.
        """
        if not 0 <= part < self.num_parts:
            raise ValueError(f"{self.path} has parts 0 to {self.num_parts - 1}, not {part}")
        arrays = {name: self._map(part, name, verify) for name in ARRAYS}
        if touch:
            for array in arrays.values():
                array.reshape(-1).view(np.uint8)[:: os.sysconf("SC_PAGE_SIZE")].max(initial=0)
        return Shard(
            name=self.name,
            book=self.book,
            part=part,
            num_classes=self.num_classes,
            halo_hops=self.halo_hops,
            **arrays,
        )

    def at_hand(self, rank: int, shares_host: Callable[[int], bool]) -> list[Shard | None]:
        """Rank ``rank``'s own part, checked, and those that this host has too; None for the rest.

        Each peer checks its own part, so every byte is read once.
        """
        return [
            self.shard(part, verify=part == rank) if shares_host(part) else None
            for part in range(self.num_parts)
        ]

    def graph(self) -> Graph:
        """The whole relabelled graph in memory: node i is row i of part ``book.owner(i)``."""
        shards = [self.shard(part) for part in range(self.num_parts)]
        masks = {}
        for split in ("train", "val", "test"):
            masks[split] = np.zeros(self.num_nodes, np.bool_)
            for shard in shards:
                masks[split][getattr(shard, f"{split}_ids")] = True
        degrees = np.concatenate([np.diff(shard.indptr) for shard in shards])
        return Graph(
            name=self.name,
            indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(degrees, dtype=np.int64)]),
            indices=np.concatenate([shard.indices for shard in shards]),
            x=np.concatenate([shard.x for shard in shards]),
            y=np.concatenate([shard.y for shard in shards]),
            train_mask=masks["train"],
            val_mask=masks["val"],
            test_mask=masks["test"],
            num_classes=self.num_classes,
        )

    def _map(self, part: int, name: str, verify: bool) -> Array:
        key = f"part{part}/{name}.npy"
        file, expected = self.path / key, self.files.get(key)
        if expected is None:
            raise ValueError(f"{self.path / META} does not list {key}: {REMAKE}")
        try:
            size = file.stat().st_size
            if size != expected.bytes:
                raise ValueError(
                    f"{file} has {size} bytes, expected {expected.bytes}: it was cut short or "
                    f"overwritten; {REMAKE}"
                )
            if verify and (found := _checksum(file)) != expected.crc32:
                raise ValueError(
                    f"{file} is damaged: checksum {found:08x}, expected {expected.crc32:08x}; "
                    f"{REMAKE}"
                )
            with _PARSING:
                array = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}; {REMAKE}") from None
        if array.dtype.str != expected.dtype or array.shape != expected.shape:
            raise ValueError(
                f"{file} holds {array.dtype.str} {array.shape}, expected {expected.dtype} "
                f"{expected.shape}; {REMAKE}"
            )
        return array


def _checksum(file: Path) -> int:
    buffer, crc = memoryview(bytearray(_BLOCK_BYTES)), 0
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            crc = zlib.crc32(buffer[:count], crc)
    return crc
