"""The buffer's index and its rows, in host memory and on a device."""

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from rudder.buffer.index import MOST, SHIFT, Buffer, Resize, plain_look_up
from rudder.buffer.rows import DeviceRows, HostRows, Rows


@pytest.mark.parametrize("capacity", [0, 1, 7, 64])
def test_look_up_equals_the_plain_twin(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    num_ids = 50
    halo = np.flatnonzero(rng.random(num_ids) < 0.5)
    buffer = Buffer(capacity, num_ids, halo)
    for _ in range(60):
        ids = rng.permutation(num_ids)[: rng.integers(num_ids)]
        slots, hits, in_halo, halo_hits = plain_look_up(ids, buffer.ids, halo)
        found = buffer.look_up(ids)
        np.testing.assert_array_equal(np.maximum(found.slots, -1), slots)
        np.testing.assert_array_equal(found.misses, np.flatnonzero(slots < 0))
        np.testing.assert_array_equal(~found.slots[found.misses], buffer.entries[ids[found.misses]])
        assert (found.hits, found.in_halo, found.halo_hits) == (hits, in_halo, halo_hits)
        assert buffer.count_hits(ids) == hits
        outside = np.setdiff1d(np.arange(num_ids), buffer.ids)
        count = rng.integers(min(capacity, len(outside)) + 1)
        new_slots = rng.permutation(capacity)[:count]
        tallies = rng.integers(MOST + 1, size=count).astype(np.int32)
        leave = buffer.ids[new_slots]
        buffer.assign(new_slots, rng.permutation(outside)[:count], tallies)
        assert buffer.filled == (buffer.ids >= 0).sum()
        np.testing.assert_array_equal(
            buffer.entries[leave[leave >= 0]] >> SHIFT, tallies[leave >= 0]
        )
        again = Buffer(capacity, num_ids, halo)
        again.load(buffer.state())
        np.testing.assert_array_equal(again.entries, buffer.entries)


def test_a_size_that_cannot_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="a buffer of -1 rows"):
        Buffer(-1, 10, np.zeros(0, np.int64))


def test_memory_follows_the_size() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    nowhere = np.zeros(0, np.int64)
    rows, before = HostRows(1000, 1000), resident()
    rows.resize(Resize(50_000, nowhere, nowhere))
    rows.rows[:] = np.arange(50_000, dtype=np.float32)[:, None]
    assert resident() - before > 150e6
    rows.resize(Resize(20, np.array([49_999]), np.array([7])))
    assert resident() - before < 50e6
    assert rows.rows[:, 999].tolist() == [*range(7), 49_999, *range(8, 20)]


@pytest.mark.parametrize("width", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", ["host", "device"])
def test_rows_swap_after_hits_are_read(kind: str, width: int) -> None:
    """Random minibatches through rows of either kind equal one plain table."""
    rng = np.random.default_rng(width)
    capacity, num_ids = 6, 30
    x = rng.standard_normal((num_ids, width)).astype(np.float32)
    rows: Rows = (
        HostRows(capacity, width)
        if kind == "host"
        else DeviceRows(capacity, width, torch.device("cpu"))
    )
    held = rng.permutation(num_ids)[:capacity]
    rows.fill(np.arange(capacity), x[held])
    for _ in range(20):
        ids = rng.permutation(num_ids)[:12]
        slots = plain_look_up(ids, held, ids)[0].astype(np.int32)
        missed = np.flatnonzero(slots < 0)
        swap = missed[: rng.integers(min(len(missed), capacity) + 1)]
        new_slots = rng.permutation(capacity)[: len(swap)]
        out = np.full((len(ids) + 3, width), np.nan, np.float32)
        positions = rng.permutation(len(out))[: len(ids)]
        out[positions[missed]] = x[ids[missed]]
        rows.read_hits(slots, out, positions)
        rows.swap_in(new_slots, out, positions[swap])
        on_device = torch.from_numpy(out)
        rows.on_device(on_device, lambda name, array: torch.from_numpy(array))
        np.testing.assert_array_equal(on_device.numpy()[positions], x[ids])
        held[new_slots] = ids[swap]
