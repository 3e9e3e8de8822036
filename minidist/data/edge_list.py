"""EdgeList: SNAP's text of "u <tab> v" lines, gzipped or not, as an array on disk.

E lines, N distinct ids. com-friendster has 1.8 billion lines, so the text is read in chunks and the
array is written next to it and memory-mapped: memory is bounded by the ids, not by the lines.
"""

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numba import njit
from numpy.typing import NDArray
from tqdm import tqdm

CHUNK_BYTES = 1 << 24
CHUNK_ROWS = 1 << 22
MAX_ID = 2**31 - 2


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeList:
    """edges: int32 [E, 2], memory-mapped, ids 0 to N - 1. ids: int32 [N], SNAP's id of each."""

    edges: NDArray[np.int32]
    ids: NDArray[np.int32]


def open_text(path: Path) -> IO[bytes]:
    """Open a file, gunzipping it where its name says so."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def read_edge_list(path: Path, progress: bool = False, chunk_bytes: int = CHUNK_BYTES) -> EdgeList:
    """Parse once into ``edges.npy`` and ``ids.npy`` beside the text; later calls map those.

    Lines that start with # are comments; ids keep their order and lose their gaps.
    Raises ValueError naming the line that is not two ids, or the file if it is cut short or empty.
    """
    edges_path, ids_path = path.parent / "edges.npy", path.parent / "ids.npy"
    if not edges_path.exists() or edges_path.stat().st_mtime < path.stat().st_mtime:
        _convert(path, edges_path, ids_path, progress, chunk_bytes)
    return EdgeList(edges=np.load(edges_path, mmap_mode="r"), ids=np.load(ids_path))


def _convert(
    path: Path, edges_path: Path, ids_path: Path, progress: bool, chunk_bytes: int
) -> None:
    """Raw ids to a scratch file first: only when all are known can they be renumbered."""
    scratch = edges_path.with_suffix(f".{os.getpid()}.tmp")
    half_done = edges_path.with_suffix(f".{os.getpid()}.half")
    ids_half_done = ids_path.with_suffix(f".{os.getpid()}.half")
    try:
        with scratch.open("wb") as out:
            seen = _parse_into(out, path, progress, chunk_bytes)
        if not len(seen):
            raise ValueError(f"{path}: holds no edges")
        ids = np.flatnonzero(seen).astype(np.int32)
        new_ids = np.cumsum(seen, dtype=np.int32) - 1
        raw = np.memmap(scratch, np.int32, "r").reshape(-1, 2)
        edges = np.lib.format.open_memmap(half_done, "w+", np.int32, raw.shape)
        for start in range(0, len(raw), CHUNK_ROWS):
            edges[start : start + CHUNK_ROWS] = new_ids[raw[start : start + CHUNK_ROWS]]
        edges.flush()
        with ids_half_done.open("wb") as out:
            np.save(out, ids)
        ids_half_done.replace(ids_path)
        half_done.replace(edges_path)  # last: its presence says that both are complete
    finally:
        for path_left in (scratch, half_done, ids_half_done):
            path_left.unlink(missing_ok=True)


def _parse_into(out: IO[bytes], path: Path, progress: bool, chunk_bytes: int) -> NDArray[np.bool_]:
    """Write int32 pairs to ``out``; returns which ids occur, bool [largest id + 1]."""
    seen = np.zeros(0, np.bool_)
    rows = np.empty((0, 2), np.int32)
    rest, line = b"", 0
    with open_text(path) as text, tqdm(desc=path.name, unit=" edges", disable=not progress) as bar:
        while True:
            try:
                chunk = text.read(chunk_bytes)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{path}: cut short or damaged ({error})") from error
            data = rest + (chunk or b"\n")
            if len(rows) < len(data) // 4 + 1:
                rows = np.empty((len(data) // 4 + 1, 2), np.int32)  # "1 2\n" is the shortest line
            num_rows, used, num_lines, good = parse(np.frombuffer(data, np.uint8), rows)
            line += num_lines
            if not good:
                raise ValueError(
                    f"{path}, line {line + 1}: expected two node ids from 0 to {MAX_ID}, "
                    f"got {data[used : used + 60].splitlines()[0]!r}"
                )
            rest = data[used:]
            if num_rows:
                pairs = rows[:num_rows]
                top = int(pairs.max())
                if top >= len(seen):
                    seen = np.concatenate((seen, np.zeros(top + 1 - len(seen), np.bool_)))
                seen[pairs.ravel()] = True
                out.write(pairs.tobytes())
                bar.update(num_rows)
            if not chunk:
                return seen


def parse_plain(data: bytes) -> list[tuple[int, int]]:
    """Plain twin of ``parse`` for well-formed text."""
    lines = (line.split() for line in data.splitlines() if not line.startswith(b"#"))
    return [(int(words[0]), int(words[1])) for words in lines if words]


@njit(cache=True, nogil=True)
def parse(data, rows):  # type: ignore[no-untyped-def]
    """Ids of each whole line of ``data`` (uint8) into ``rows`` (int32 [at least lines, 2]).

    Returns the number of rows, the bytes used, the lines used, and False where the next line is
    not a comment, blank, or two ids.
    """
    num_rows = num_lines = start = 0
    while True:
        at, num_ids, value, comment = start, 0, -1, False
        while at < len(data) and data[at] != 10:
            byte = data[at]
            if 48 <= byte <= 57 and not comment:
                if value < 0:
                    value = 0
                    num_ids += 1
                value = value * 10 + (byte - 48)
                if value > MAX_ID or num_ids > 2:
                    return num_rows, start, num_lines, False
                rows[num_rows, num_ids - 1] = value
            elif byte == 9 or byte == 32 or byte == 13:
                value = -1
            elif byte == 35 and num_ids == 0:
                comment = True
            elif not comment:
                return num_rows, start, num_lines, False
            at += 1
        if at == len(data):
            return num_rows, start, num_lines, True
        if num_ids == 1:
            return num_rows, start, num_lines, False
        num_rows += num_ids // 2
        num_lines += 1
        start = at + 1
