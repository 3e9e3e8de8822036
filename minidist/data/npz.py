"""Npz: a graph in one NumPy archive, with dense or CSR features.

Keys (N nodes, E directed edges, D features, C classes):

    edge_index                              integer [2, E], sources over destinations
    x                                       numbers [N, D], or as CSR parts:
    x_data, x_indices, x_indptr, x_shape    float [Z], integer [Z], integer [N + 1], (N, D)
    y                                       whole numbers [N], -1 unlabelled; or 0/1 [N, C]
    train_mask, val_mask, test_mask         bool [N]

Any other key is ignored.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from minidist.data.graph_checks import SPLITS, take_in
from minidist.graph import Graph

Array = NDArray[Any]
CSR_KEYS = ("x_data", "x_indices", "x_indptr", "x_shape")


def load_npz(path: str | Path) -> Graph:
    """Read a graph; CSR features become dense float32 [N, D], as training reads whole rows.

    The file is read with allow_pickle=False. Raises ValueError if the file is missing, cut short
    or not an archive, if a key is missing, or if an array has the wrong shape, type or values.
    """
    path = Path(path)
    arrays = _read(path)
    missing = [key for key in ("edge_index", "y", *SPLITS) if key not in arrays]
    if "x" not in arrays:
        csr_missing = [key for key in CSR_KEYS if key not in arrays]
        missing += ["x"] if len(csr_missing) == len(CSR_KEYS) else csr_missing
    if missing:
        raise ValueError(
            f"{path}: missing {', '.join(missing)}; a graph needs edge_index, y, "
            f"{', '.join(SPLITS)} and x (or {', '.join(CSR_KEYS)}); "
            f"of these the file has {', '.join(sorted(arrays)) or 'none'}"
        )
    x = arrays["x"] if "x" in arrays else _dense(path, *(arrays[key] for key in CSR_KEYS))
    masks = {split: arrays[split] for split in SPLITS}
    return take_in(path.stem, arrays["edge_index"], x, arrays["y"], masks)


def _read(path: Path) -> dict[str, Array]:
    wanted = {"edge_index", "x", "y", *SPLITS, *CSR_KEYS}
    try:
        with zipfile.ZipFile(path):
            pass  # np.load takes a single .npy or a pickle too; only an archive is meant here
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key in wanted}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(
            f"{path}: not a complete .npz archive, perhaps cut short in copying ({error})"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{path}: an array cannot be read: {error}; save plain arrays, not objects"
        ) from error


def _dense(path: Path, data: Array, indices: Array, indptr: Array, shape: Array) -> Array:
    def check(condition: bool, text: str) -> None:
        if not condition:
            raise ValueError(f"{path}: CSR features: {text}")

    check(
        shape.shape == (2,) and shape.dtype.kind in "iu" and int(shape.min()) >= 0,
        f"x_shape must be two whole numbers (N, D), got {shape.dtype} {shape.tolist()}",
    )
    num_rows, num_columns = (int(size) for size in shape)
    check(
        indptr.shape == (num_rows + 1,) and indptr.dtype.kind in "iu",
        f"x_indptr must be integers of shape ({num_rows + 1},), got {indptr.dtype} {indptr.shape}",
    )
    check(
        data.ndim == 1 and data.dtype.kind in "fiub",
        f"x_data must be numbers of shape (Z,), got {data.dtype} {data.shape}",
    )
    check(
        indices.shape == data.shape and indices.dtype.kind in "iu",
        f"x_indices must be integers of shape {data.shape} like x_data, "
        f"got {indices.dtype} {indices.shape}",
    )
    check(
        int(indptr[0]) == 0 and int(indptr[-1]) == len(data) and bool((np.diff(indptr) >= 0).all()),
        f"x_indptr must rise from 0 to {len(data)}, the length of x_data",
    )
    check(
        not len(indices) or (int(indices.min()) >= 0 and int(indices.max()) < num_columns),
        f"x_indices must lie between 0 and {num_columns - 1}",
    )
    x = np.zeros((num_rows, num_columns), np.float32)
    _scatter(data.astype(np.float32), indices.astype(np.int64), indptr.astype(np.int64), x)
    return x


@njit(cache=True, nogil=True)
def _scatter(data, indices, indptr, x):  # type: ignore[no-untyped-def]
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            x[row, indices[at]] += data[at]
