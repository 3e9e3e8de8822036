"""EdgeList: SNAP's text of "u <tab> v" lines, gzipped or not, as an array on disk.

E lines, N distinct ids. com-friendster has 1.8 billion lines, so the text is read in chunks and the
array is written next to it and memory-mapped: memory is bounded by the ids, not by the lines.
"""

import gzip
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

CHUNK_BYTES = 1 << 24
CHUNK_IDS = 1 << 23
MAX_ID = 2**31 - 2


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeList:
    """edges: int32 [E, 2], memory-mapped, ids 0 to N - 1. ids: int32 [N], SNAP's id of each."""

    edges: NDArray[np.int32]
    ids: NDArray[np.int32]


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """A file, gunzipped where its name says so. Raises ValueError where that fails in the body."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as text:
            yield text  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: cut short or damaged ({error})") from error


def read_edge_list(path: Path, progress: bool = False, chunk_bytes: int = CHUNK_BYTES) -> EdgeList:
    """Parse once into ``edges.bin`` and ``ids.npy`` beside the text; later calls map those.

    Lines that start with # are comments; ids keep their order and lose their gaps.
    Raises ValueError naming the line that is not two ids, or the file if it is cut short or empty.
    """
    edges_path, ids_path = path.parent / "edges.bin", path.parent / "ids.npy"
    if not edges_path.exists() or edges_path.stat().st_mtime < path.stat().st_mtime:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            half_done, ids_half_done = Path(scratch) / "edges.bin", Path(scratch) / "ids.npy"
            with half_done.open("wb") as out:
                seen = _parse_into(out, path, progress, chunk_bytes)
            np.save(ids_half_done, np.flatnonzero(seen).astype(np.int32))
            _renumber(half_done, seen)
            ids_half_done.replace(ids_path)
            half_done.replace(edges_path)  # last: its presence says that both are complete
    edges = np.memmap(edges_path, np.int32, "r").reshape(-1, 2)
    return EdgeList(edges=edges, ids=np.load(ids_path))


def _parse_into(out: IO[bytes], path: Path, progress: bool, chunk_bytes: int) -> NDArray[np.bool_]:
    """Write int32 pairs to ``out``; returns which ids occur, bool [largest id + 1]."""
    seen = np.zeros(0, np.bool_)
    num_lines = 0
    with open_text(path) as text, tqdm(desc=path.name, unit=" edges", disable=not progress) as bar:
        while lines := text.readlines(chunk_bytes):
            pairs = _pairs(path, lines, num_lines)
            top = int(pairs.max(initial=-1))
            seen = np.pad(seen, (0, max(0, top + 1 - len(seen))))
            seen[pairs.ravel()] = True
            out.write(pairs.astype(np.int32).tobytes())
            bar.update(len(pairs))
            num_lines += len(lines)
    if not len(seen):
        raise ValueError(f"{path}: holds no edges")
    return seen


def _pairs(path: Path, lines: list[bytes], num_before: int) -> NDArray[np.int64]:
    """The ids of each line, int64 [at most lines, 2]. Raises ValueError naming a bad line."""
    with suppress(ValueError, Warning), warnings.catch_warnings(action="error"):
        pairs = np.loadtxt(lines, np.int64, ndmin=2)
        if pairs.shape[1] == 2 and pairs.min() >= 0 and pairs.max() <= MAX_ID:
            return pairs
    # Slow, for what loadtxt does not take: a bad line, or lines of which none has an id.
    found = []
    for number, line in enumerate(lines, num_before + 1):
        words = line.partition(b"#")[0].split()
        ids = [int(word) if word.isdigit() else -1 for word in words]
        if len(ids) not in (0, 2) or not all(0 <= each <= MAX_ID for each in ids):
            raise ValueError(
                f"{path}, line {number}: expected two node ids from 0 to {MAX_ID}, "
                f"got {line[:60].rstrip()!r}"
            )
        found.append(ids)
    return np.array([ids for ids in found if ids], np.int64).reshape(-1, 2)


def _renumber(path: Path, seen: NDArray[np.bool_]) -> None:
    """Give the ids of a file of int32, in place, their ranks among those that occur."""
    new_ids = np.cumsum(seen, dtype=np.int32) - 1
    ids = np.memmap(path, np.int32, "r+")
    for start in range(0, len(ids), CHUNK_IDS):
        ids[start : start + CHUNK_IDS] = new_ids[ids[start : start + CHUNK_IDS]]
    ids.flush()
