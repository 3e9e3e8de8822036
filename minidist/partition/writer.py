"""Writer: a graph and an assignment become a partition directory, part by part.

Beyond the graph it holds O(N) numbers and one chunk of edges or features at a time.

N nodes, P parts, n owned nodes, f far nodes. ``rows`` are original ids, everything written is new:
new ids are the original ids sorted by (part, original id).
"""

import errno
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from tqdm import tqdm

from minidist.graph import Array, Graph
from minidist.store.manifest import META, ArrayFile, write_manifest
from rudder.cli.whole_file import size_text

CHUNK_BYTES = 1 << 24


def check_writable(out: Path, overwrite: bool = False) -> None:
    """Raise ValueError unless ``write_parts`` could put a directory there; makes its parents."""
    if out.is_dir() and any(out.iterdir()):
        if not (out / META).is_file():
            raise ValueError(
                f"--out {out}: a directory with other files in it, which is never replaced; "
                "give another --out"
            )
        if not overwrite:
            raise ValueError(
                f"--out {out}: a partition directory is already there; "
                "give another --out, or --overwrite to replace it"
            )
    elif out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: a file is already there; give another --out")
    trial = _beside(out, "tmp")
    try:
        trial.mkdir(parents=True)
        trial.rmdir()
    except OSError as error:
        raise ValueError(
            f"--out {out}: cannot write in {out.absolute().parent}: {error.strerror}"
        ) from None


def write_parts(
    out: Path,
    graph: Graph,
    assignment: Array,
    *,
    halo_hops: int,
    method: str,
    seed: int,
    statistics: dict[str, Any],
    source: dict[str, Any] | None = None,
    num_parts: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Write the directory that ``store.partition_dir`` draws, node i in part ``assignment[i]``.

    assignment: integers [N].   source: of the graph (see ``data.datasets``).   num_parts: one more
    than the largest unless given.   chunk_bytes: of features or edges, copied at a time. Raises
    ValueError on a part without training nodes, on an ``out`` that is taken or cannot be written,
    and on a disk that is too small; nothing is left behind then.
    """
    out = Path(out)
    if num_parts is None:
        num_parts = int(assignment.max()) + 1
    _check_training_nodes(graph, assignment, num_parts)
    check_writable(out, overwrite)
    _check_space(out, graph)
    part_writer = _PartWriter(graph, assignment, num_parts, halo_hops, chunk_bytes)
    how = {"halo_hops": halo_hops, "method": method, "seed": seed, "statistics": statistics}
    how["source"] = source or {"dataset": graph.name, "crc32": None, "seed": None}
    temporary = _beside(out, "tmp")
    temporary.mkdir()
    try:
        files = part_writer.write_all(temporary, progress)
        offsets = part_writer.offsets.tolist()
        write_manifest(temporary, {**_facts(graph), **how, "offsets": offsets, "files": files})
        _sync(temporary)
        _publish(temporary, out, overwrite)
    except OSError as error:
        raise ValueError(f"--out {out}: writing failed: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _facts(graph: Graph) -> dict[str, Any]:
    names = ("name", "num_nodes", "num_edges", "num_features", "num_classes", "multilabel")
    return {name: getattr(graph, name) for name in names}


class _PartWriter:
    """Writes the arrays of one part after the other."""

    def __init__(
        self, graph: Graph, assignment: Array, num_parts: int, halo_hops: int, chunk_bytes: int
    ) -> None:
        self.graph, self.halo_hops, self.chunk_bytes = graph, halo_hops, chunk_bytes
        counts = np.bincount(assignment, minlength=num_parts)
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        id_type = np.int32 if graph.num_nodes <= np.iinfo(np.int32).max else np.int64
        self.order = np.argsort(assignment, kind="stable").astype(id_type)  # new id -> original
        self.new_ids = np.empty(graph.num_nodes, id_type)  # original id -> new
        self.new_ids[self.order] = np.arange(graph.num_nodes, dtype=id_type)

    def write_all(self, out: Path, progress: bool) -> dict[str, dict[str, Any]]:
        """Write every part; what the manifest says of each file."""
        files = {}
        for part in tqdm(range(len(self.offsets) - 1), "writing parts", disable=not progress):
            folder = out / f"part{part}"
            folder.mkdir()
            for name, file in self.write(part, folder):
                files[f"part{part}/{name}.npy"] = vars(file)
            _sync(folder)
        return files

    def write(self, part: int, folder: Path) -> Iterator[tuple[str, ArrayFile]]:
        graph, first, last = self.graph, int(self.offsets[part]), int(self.offsets[part + 1])
        rows = self.order[first:last]
        seen = np.zeros(graph.num_nodes, np.bool_)  # by new id
        yield from self._write_edges(folder, rows, "", seen)
        seen[first:last] = False
        halo = np.flatnonzero(seen)
        far_ids = halo if self.halo_hops else halo[:0]
        for _ in range(self.halo_hops - 1):
            for chunk in self._chunks(self.order[far_ids]):
                self._edges(self.order[far_ids[chunk]], seen)
            seen[first:last] = False
            far_ids = np.flatnonzero(seen)
        yield from self._write_edges(folder, self.order[far_ids], "far_", seen)
        degrees = np.diff(graph.indptr)
        small = {
            "y": graph.y[rows],
            "train_ids": first + np.flatnonzero(graph.train_mask[rows]),
            "val_ids": first + np.flatnonzero(graph.val_mask[rows]),
            "test_ids": first + np.flatnonzero(graph.test_mask[rows]),
            "node_ids": rows.astype(np.int64),
            "halo": halo,
            "halo_degrees": degrees[self.order[halo]],
            "far_ids": far_ids,
        }
        for name, array in small.items():
            yield name, _write(folder / f"{name}.npy", array.dtype, array.shape, iter([array]))
        step = max(1, self.chunk_bytes // max(1, 4 * graph.num_features))
        features = (graph.x[rows[i : i + step]] for i in range(0, len(rows), step))
        shape = (len(rows), graph.num_features)
        yield "x", _write(folder / "x.npy", np.dtype(np.float32), shape, features)

    def _write_edges(
        self, folder: Path, rows: Array, prefix: str, seen: Array
    ) -> Iterator[tuple[str, ArrayFile]]:
        """indptr and indices of the in-edges of ``rows``; marks their sources in ``seen``."""
        degrees = self.graph.indptr[rows + 1] - self.graph.indptr[rows]
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(degrees)])
        name = f"{prefix}indptr"
        yield name, _write(folder / f"{name}.npy", indptr.dtype, indptr.shape, iter([indptr]))
        chunks = (self._edges(rows[chunk], seen) for chunk in self._chunks(rows))
        name = f"{prefix}indices"
        yield name, _write(folder / f"{name}.npy", self.order.dtype, (int(indptr[-1]),), chunks)

    def _chunks(self, rows: Array) -> Iterator[slice]:
        """Slices of ``rows`` with a chunk of edges each, or one row where that is longer."""
        ends = np.cumsum(self.graph.indptr[rows + 1] - self.graph.indptr[rows])
        start, budget = 0, self.chunk_bytes // 8
        while start < len(rows):
            done = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + budget, side="right")))
            yield slice(start, stop)
            start = stop

    def _edges(self, rows: Array, seen: Array) -> Array:
        graph = self.graph
        edges: Array = _relabelled(graph.indptr, graph.indices, rows, self.new_ids, seen)
        return edges


@njit(cache=True, nogil=True)
def _relabelled(indptr, indices, rows, new_ids, seen):  # type: ignore[no-untyped-def]
    """In-edges of ``rows`` as new ids, ascending within each row; marks them in ``seen``."""
    num_edges = 0
    for row in rows:
        num_edges += indptr[row + 1] - indptr[row]
    out = np.empty(num_edges, new_ids.dtype)
    end = 0
    for row in rows:
        start = end
        for i in range(indptr[row], indptr[row + 1]):
            out[end] = new_ids[indices[i]]
            seen[out[end]] = True
            end += 1
        out[start:end].sort()
    return out


def _write(
    file: Path, dtype: np.dtype[Any], shape: tuple[int, ...], chunks: Iterator[Array]
) -> ArrayFile:
    """Write a ``.npy`` file from chunks of it, synced to disk."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with file.open("w+b") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.seek(0)
        crc = zlib.crc32(stream.read())
        for chunk in chunks:
            data = np.ascontiguousarray(chunk, dtype).reshape(-1).view(np.uint8).data
            crc = zlib.crc32(data, crc)
            stream.write(data)
        num_bytes = stream.tell()
        stream.flush()
        os.fsync(stream.fileno())
    return ArrayFile(dtype.str, shape, num_bytes, crc)


def _check_training_nodes(graph: Graph, assignment: Array, num_parts: int) -> None:
    counts = np.bincount(assignment[graph.train_mask], minlength=num_parts)
    if (counts == 0).any():
        part = int(np.flatnonzero(counts == 0)[0])
        raise ValueError(
            f"part {part} of {num_parts} has no training nodes (the graph has {counts.sum()}): "
            "its rank would have nothing to train on; use fewer --parts or another --method"
        )


def _check_space(out: Path, graph: Graph) -> None:
    needed = graph.x.nbytes + graph.indices.nbytes + graph.y.nbytes + 24 * graph.num_nodes
    free = shutil.disk_usage(out.absolute().parent).free
    if needed > free:
        raise ValueError(
            f"--out {out}: at least {size_text(needed)} needed, but the disk has "
            f"{size_text(free)} free"
        )


def _publish(temporary: Path, out: Path, overwrite: bool) -> None:
    """Rename, moving away what was to be replaced; what another job has just made is kept."""
    old = _beside(out, "old")
    if overwrite and out.is_dir() and any(out.iterdir()):
        out.rename(old)
    try:
        temporary.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise ValueError(f"--out {out}: another job has just made it; nothing replaced") from None
    _sync(out.absolute().parent)
    shutil.rmtree(old, ignore_errors=True)


def _beside(out: Path, kind: str) -> Path:
    out = out.absolute()
    return out.with_name(f"{out.name}.{kind}-{os.getpid()}")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
