"""Npz: a graph in one NumPy archive, with dense or CSR features.

Keys (N nodes, E directed edges, D features, C classes):

    edge_index                              integer [2, E], sources over destinations
    x                                       numbers [N, D], or as CSR parts:
    x_data, x_indices, x_indptr, x_shape    float [Z], integer [Z], integer [N + 1], (N, D)
    y                                       whole numbers [N], -1 unlabelled; or 0/1 [N, C]
    train_mask, val_mask, test_mask         bool or 0/1 [N]

Any other key is ignored, edge_weight and edge_attr with a warning.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from minidist.data.graph_checks import SPLITS, UNUSED, note, take_in
from minidist.graph import Array, Graph

CSR_KEYS = ("x_data", "x_indices", "x_indptr", "x_shape")


def load_npz(path: str | Path) -> Graph:
    """Read a graph; CSR features become dense float32 [N, D], as training reads whole rows.

    The file is read with allow_pickle=False. Raises ValueError if the file is missing, cut short
    or not an archive, if a key is missing, or if an array has the wrong shape, type or values.
    """
    path = Path(path)
    arrays, others = _read(path)
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
    for key in others & {*UNUSED}:
        note(path.stem, f"{key} is not used: every edge counts alike")
    x = arrays["x"] if "x" in arrays else _dense(path, *(arrays[key] for key in CSR_KEYS))
    masks = {split: arrays[split] for split in SPLITS}
    return take_in(path.stem, arrays["edge_index"], x, arrays["y"], masks)


def _read(path: Path) -> tuple[dict[str, Array], set[str]]:
    """The arrays of a graph, and the names of what else is in the file."""
    wanted = {"edge_index", "x", "y", *SPLITS, *CSR_KEYS}
    try:
        with zipfile.ZipFile(path):
            pass  # np.load takes a single .npy or a pickle too; only an archive is meant here
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files if key in wanted}
            return arrays, {*archive.files} - wanted
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
    """float32 [N, D] of CSR parts; values at one place add up."""

    def check(condition: bool, text: str) -> None:
        if not condition:
            raise ValueError(f"{path}: CSR features: {text}")

    def check_array(key: str, array: Array, kinds: str, expected: tuple[int, ...]) -> None:
        check(
            array.dtype.kind in kinds and array.shape == expected,
            f"{key} must be {'numbers' if 'f' in kinds else 'integers'} of shape {expected}, "
            f"got {array.dtype} {array.shape}",
        )

    check_array("x_shape", shape, "iu", (2,))
    check(int(shape.min()) >= 0, f"x_shape must be two whole numbers (N, D), got {shape.tolist()}")
    num_rows, num_columns = shape.tolist()
    check_array("x_indptr", indptr, "iu", (num_rows + 1,))
    check_array("x_data", data, "fiub", (data.size,))
    check_array("x_indices", indices, "iu", data.shape)
    check(
        int(indptr[0]) == 0 and int(indptr[-1]) == len(data) and bool((np.diff(indptr) >= 0).all()),
        f"x_indptr must rise from 0 to {len(data)}, the length of x_data",
    )
    check(
        not len(indices) or (int(indices.min()) >= 0 and int(indices.max()) < num_columns),
        f"x_indices must lie between 0 and {num_columns - 1}",
    )
    x = np.zeros((num_rows, num_columns), np.float32)
    rows = np.repeat(np.arange(num_rows), np.diff(indptr).astype(np.int64))
    np.add.at(x, (rows, indices), data.astype(np.float32))
    return x
