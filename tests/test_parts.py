"""The partition directory: written whole, read back exactly, refused where damaged."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidist.graph import Graph
from minidist.partition.writer import check_writable, write_parts
from minidist.store.manifest import META
from minidist.store.partition_dir import Parts

GraphFactory = Callable[..., Graph]
COMMUNITIES = np.repeat([0, 1], 6)


def write(out: Path, graph: Graph, assignment: Any, halo_hops: int = 0, **more: Any) -> Parts:
    write_parts(
        out, graph, assignment, halo_hops=halo_hops, method="random", seed=0, statistics={}, **more
    )
    return Parts.open(out)


def test_literal_shard(graph12: Graph, tmp_path: Path) -> None:
    # Part 0 takes nodes 6-11, so that ids change: 6-11 become 0-5 and 0-5 become 6-11.
    parts = write(tmp_path / "parts", graph12, 1 - COMMUNITIES, halo_hops=1)
    shard = parts.shard(0, touch=True)
    assert parts.book.offsets.tolist() == [0, 6, 12]
    assert shard.node_ids.tolist() == [6, 7, 8, 9, 10, 11]
    assert shard.indptr.tolist() == [0, 3, 5, 8, 12, 14, 16]
    assert shard.indices[:3].tolist() == [1, 2, 11]  # node 6: 7, 8 and 5
    assert shard.train_ids.tolist() == [0, 2, 4]
    assert shard.val_ids.tolist() == [1]
    assert shard.test_ids.tolist() == [3, 5]
    assert shard.halo.tolist() == [8, 11]  # nodes 2 and 5
    assert shard.halo_degrees.tolist() == [3, 3]
    assert shard.far_ids.tolist() == [8, 11]
    assert shard.far_indices.tolist() == [3, 6, 7, 0, 6, 10]
    assert np.array_equal(shard.x, graph12.x[6:])
    assert shard.y.tolist() == [1] * 6
    assert shard.indices.dtype == np.int32


def reachable(graph: Graph, owned: set[int], hops: int) -> set[int]:
    """Remote nodes at most ``hops`` in-edges away from the owned ones, the plain way."""
    seen = set(owned)
    for _ in range(hops):
        seen |= {int(u) for v in seen for u in graph.indices[graph.indptr[v] : graph.indptr[v + 1]]}
    return seen - owned


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("halo_hops", [0, 1, 2])
def test_equals_the_graph(
    power_law_graph: GraphFactory, tmp_path: Path, halo_hops: int, directed: bool
) -> None:
    graph = power_law_graph(400, 1600, seed=3, directed=directed)
    assignment = np.random.default_rng(1).integers(3, size=400)
    parts = write(tmp_path / "parts", graph, assignment, halo_hops)
    shards = [parts.shard(part) for part in range(3)]
    old = np.concatenate([shard.node_ids for shard in shards])  # new id -> original
    assert np.array_equal(assignment[old], parts.book.owner(np.arange(400)))
    whole = parts.graph()
    for field in ("x", "y", "train_mask", "val_mask", "test_mask"):
        assert np.array_equal(getattr(whole, field), getattr(graph, field)[old])
    for v in range(400):
        sources = graph.indices[graph.indptr[old[v]] : graph.indptr[old[v] + 1]]
        row = whole.indices[whole.indptr[v] : whole.indptr[v + 1]]
        assert np.array_equal(np.sort(old[row]), sources)
        assert (np.diff(row) > 0).all()
    for shard in shards:
        owned = set(range(*parts.book.range_of(shard.part)))
        assert set(shard.halo.tolist()) == reachable(whole, owned, 1)
        assert np.array_equal(shard.halo_degrees, np.diff(whole.indptr)[shard.halo])
        assert set(shard.far_ids.tolist()) == (
            reachable(whole, owned, halo_hops) if halo_hops else set()
        )
        for i, v in enumerate(shard.far_ids):
            kept = shard.far_indices[shard.far_indptr[i] : shard.far_indptr[i + 1]]
            assert np.array_equal(kept, whole.indices[whole.indptr[v] : whole.indptr[v + 1]])


def test_small_chunks_write_the_same(power_law_graph: GraphFactory, tmp_path: Path) -> None:
    graph = power_law_graph(300, 2000)
    assignment = np.arange(300) % 2
    whole = write(tmp_path / "whole", graph, assignment, 1)
    chunked = write(tmp_path / "chunked", graph, assignment, 1, chunk_bytes=256)
    assert chunked.files == whole.files


def test_multilabel(graph12: Graph, tmp_path: Path) -> None:
    y = np.stack([graph12.y == 0, graph12.y == 1, graph12.y >= 0], axis=1).astype(np.uint8)
    parts = write(tmp_path / "parts", replace(graph12, y=y, num_classes=3), COMMUNITIES)
    assert parts.multilabel
    assert parts.shard(1).y.tolist() == y[6:].tolist()


def test_a_part_without_training_nodes(graph12: Graph, tmp_path: Path) -> None:
    assignment = np.where(np.isin(np.arange(12), [4, 5]), 1, 0)
    with pytest.raises(ValueError, match=r"part 1 of 2 has no training nodes.*fewer --parts"):
        write(tmp_path / "parts", graph12, assignment)
    with pytest.raises(ValueError, match="part 2 of 3 has no training nodes"):
        write(tmp_path / "parts", graph12, COMMUNITIES, num_parts=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: shutil.rmtree(d), "parts does not exist, expected a partition directory"),
        (lambda d: (d / META).unlink(), "half-written: it has no meta.json"),
        (lambda d: (d / META).write_text("{"), "meta.json is damaged"),
        (lambda d: (d / META).write_text("[]"), "version None, expected 2"),
        (lambda d: edit(d, version=7), "version 7, expected 2: .*another release"),
        (lambda d: edit(d, num_edges=33), "its checksum does not match"),
    ],
)
def test_damaged_manifest(
    graph12: Graph, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    write(tmp_path / "parts", graph12, COMMUNITIES)
    damage(tmp_path / "parts")
    with pytest.raises(ValueError, match=f"{message}.*run python -m minidist.partition again"):
        Parts.open(tmp_path / "parts")


def edit(folder: Path, **fields: Any) -> None:
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps({**meta, **fields}))


def test_a_stopped_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "parts.tmp-77").mkdir()
    with pytest.raises(ValueError, match=r"parts\.tmp-77 beside it is half-written"):
        Parts.open(tmp_path / "parts")


def test_cut_short_and_flipped(graph12: Graph, tmp_path: Path) -> None:
    parts = write(tmp_path / "parts", graph12, COMMUNITIES)
    file = tmp_path / "parts" / "part1" / "x.npy"
    whole = file.read_bytes()
    for position in (7, 100, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 4
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"part1/x\.npy is damaged: checksum"):
            parts.shard(1)
    file.write_bytes(whole[:-5])
    for verify in (True, False):
        with pytest.raises(ValueError, match=r"x\.npy has \d+ bytes, expected \d+: it was cut"):
            parts.shard(1, verify=verify)
    file.unlink()
    with pytest.raises(ValueError, match=r"x\.npy cannot be read: No such file"):
        parts.shard(1)
    parts.shard(0)
    with pytest.raises(ValueError, match="has parts 0 to 1, not 2"):
        parts.shard(2)


def test_out_that_is_taken(graph12: Graph, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    out.mkdir()
    write(out, graph12, COMMUNITIES)
    with pytest.raises(ValueError, match="already there; give another --out, or --overwrite"):
        write(out, graph12, COMMUNITIES)
    assert write(out, graph12, 1 - COMMUNITIES, overwrite=True).shard(0).node_ids[0] == 6
    (out / META).unlink()
    with pytest.raises(ValueError, match="other files in it, which is never replaced"):
        write(out, graph12, COMMUNITIES, overwrite=True)
    assert os.listdir(tmp_path) == ["parts"]


def test_unwritable_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="a file is already there"):
        check_writable(tmp_path / "file")
    with pytest.raises(ValueError, match=r"--out .*: cannot write in .*: Not a directory"):
        check_writable(tmp_path / "file" / "parts")


class Interrupting:
    """Features that do something else while they are read."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.shape, self.nbytes = work, (12, 3), 144
        self.ndim, self.dtype = 2, np.dtype(np.float32)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, rows: Any) -> Any:
        self.work()
        return np.zeros((len(rows), 3), np.float32)


def test_a_directory_that_another_job_has_just_made_is_kept(graph12: Graph, tmp_path: Path) -> None:
    out, other = tmp_path / "parts", tmp_path / "other"
    write(other, graph12, 1 - COMMUNITIES)

    def other_job() -> None:
        if other.exists():
            other.rename(out)

    slow = replace(graph12, x=Interrupting(other_job))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another job has just made it; nothing replaced"):
        write(out, slow, COMMUNITIES)
    assert Parts.open(out).shard(0).node_ids[0] == 6
    assert os.listdir(tmp_path) == ["parts"]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (OSError(28, "full"), ValueError, "writing failed: full"),
    ],
)
def test_nothing_is_left_of_a_failed_write(
    graph12: Graph,
    tmp_path: Path,
    error: BaseException,
    raised: type[BaseException],
    message: str | None,
) -> None:
    def fail() -> None:
        raise error

    graph = replace(graph12, x=Interrupting(fail))  # type: ignore[arg-type]
    with pytest.raises(raised, match=message):
        write(tmp_path / "parts", graph, COMMUNITIES)
    assert not list(tmp_path.iterdir())
