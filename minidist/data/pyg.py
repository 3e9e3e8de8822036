"""Pyg: graphs of PyTorch Geometric: any ``Data``, and any of its datasets by the name of its class.

    pyg:Planetoid/Cora   torch_geometric.datasets.Planetoid("root/Planetoid", "Cora")
    pyg:Reddit           torch_geometric.datasets.Reddit("root/Reddit")
    reddit, yelp         the same classes in root/reddit and root/yelp

The class downloads its raw files where they are absent, and processes them once. What it processed
is enough: copied from another machine, it is read without the raw files.
"""

import contextlib
import difflib
import inspect
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minidist.data.graph_checks import SPLITS, UNUSED, note, random_splits, take_in
from minidist.graph import Array, Graph

if TYPE_CHECKING:
    from torch_geometric.data import Data

_CLASSES = {"reddit": "Reddit", "yelp": "Yelp"}
_PAGE = "https://pytorch-geometric.readthedocs.io/en/latest/generated/torch_geometric.datasets."


def from_pyg(data: "Data", name: str) -> Graph:
    """The graph of a homogeneous ``Data`` with x, edge_index, y and the three masks.

    Each may be a tensor of any type, an array or a list. x and y may be sparse (made dense); y [N]
    or [N, 1] class numbers, or [N, C] of 0/1. Edge weights are not used, with a warning. Raises
    ValueError naming what the Data lacks, or what is wrong with its values.
    """
    if not hasattr(data, "get") or hasattr(data, "edge_types"):
        raise ValueError(
            f"graph {name!r}: expected a homogeneous torch_geometric.data.Data, "
            f"got {type(data).__name__}"
        )
    missing = [key for key in ("x", "edge_index", "y", *SPLITS) if data.get(key) is None]
    if missing:
        hint = ""
        if "edge_index" in missing and data.get("adj_t") is not None:
            hint = "; turn adj_t back into edge_index"
        elif set(missing) <= set(SPLITS):
            hint = "; torch_geometric.transforms.RandomNodeSplit adds masks"
        raise ValueError(f"graph {name!r}: the Data has no {', '.join(missing)}{hint}")
    for key in UNUSED:
        if data.get(key) is not None:
            note(name, f"{key} is not used: every edge counts alike")
    edge_index, x, y, *masks = (
        _array(name, key, data[key]) for key in ("edge_index", "x", "y", *SPLITS)
    )
    return take_in(name, edge_index, x, y, dict(zip(SPLITS, masks, strict=True)))


def _array(name: str, key: str, value: Any) -> Array:
    """NumPy's array of a tensor of any kind, or of anything that NumPy takes."""
    # Here, as PyG's datasets below: most graphs come from elsewhere, without waiting for PyTorch.
    import torch

    if not isinstance(value, torch.Tensor):
        try:
            return np.asarray(value)
        except ValueError as error:
            raise ValueError(f"graph {name!r}: {key} makes no array: {error}") from None
    if value.layout != torch.strided and key == "edge_index":
        raise ValueError(
            f"graph {name!r}: edge_index is a sparse matrix; torch_geometric.utils.to_edge_index "
            "turns it into integers of shape (2, E)"
        )
    value = value.to_dense() if value.layout != torch.strided else value
    if value.is_floating_point() and value.dtype != torch.float64:
        value = value.float()  # NumPy has no bfloat16, and none of the narrower ones
    array: Array = value.as_subclass(torch.Tensor).numpy(force=True)
    return array


def load_pyg(name: str, root: Path, progress: bool = False) -> Graph:
    """``pyg:CLASS``, ``pyg:CLASS/NAME``, ``reddit`` or ``yelp``, from a folder of its own in root.

    Of several splits the first is taken; where there is none, 60% of the nodes train, 20% validate
    and 20% test, the same ones each time. Raises ValueError for a name that PyTorch Geometric does
    not have, for files that are damaged or cannot be downloaded, naming where they should lie, and
    for a package that is absent.
    """
    kind, _, which = _CLASSES.get(name, name.removeprefix("pyg:")).partition("/")
    folder = root / (name if name in _CLASSES else kind)
    try:
        with contextlib.ExitStack() as stack:
            if not progress:
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            dataset = _open(name, kind, which, folder)
            size, data = len(dataset), dataset[0]
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name} needs the {error.name} package: pip install minidist[ogb]"
        ) from error
    except _BadDataset:
        raise
    except Exception as error:  # whatever the class's own code meets in its files
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ValueError(
            f"{name}: the dataset is damaged or of another name ({reason}); its files are in "
            f"{folder}: delete that folder to have them made anew; see {_PAGE}{kind}.html"
        ) from error
    if size != 1:
        raise ValueError(f"{name}: holds {size} graphs; a dataset of one graph is expected")
    if all(data.get(split) is None for split in SPLITS) and data.get("y") is not None:
        note(name, "no split of its own: 60% of the nodes train, 20% validate, 20% test")
        data.update(random_splits(_array(name, "y", data.y), seed=0))
    for split in SPLITS:
        mask = data.get(split)
        if mask is None:
            data[split] = np.zeros(data.num_nodes, np.bool_)
        elif mask.ndim == 2:
            data[split] = mask[:, 0]
    return from_pyg(data, name)


class _BadDataset(ValueError):
    """What we say of a dataset ourselves."""


def _open(name: str, kind: str, which: str, folder: Path) -> Any:
    """The dataset, downloaded and processed where that is not done yet."""
    from torch_geometric import datasets
    from torch_geometric.data import Dataset

    known = [
        each
        for each in datasets.__all__
        if isinstance(found := getattr(datasets, each), type) and issubclass(found, Dataset)
    ]
    if kind not in known:
        lowered = {each.lower(): each for each in known}
        close = difflib.get_close_matches(kind.lower(), lowered, n=3, cutoff=0.5)
        hint = " or ".join(f"pyg:{lowered[each]}" for each in close) or "pyg:Planetoid/Cora"
        raise _BadDataset(f"unknown dataset {name!r}: did you mean {hint}?")
    base = getattr(datasets, kind)
    takes = inspect.signature(base).parameters
    needed = {each for each, value in takes.items() if value.default is value.empty}
    if ("name" in needed and not which) or (which and "name" not in takes):
        expected = f"pyg:{kind}/NAME" if "name" in takes else f"pyg:{kind}"
        raise _BadDataset(f"unknown dataset {name!r}: expected {expected}, see {_PAGE}{kind}.html")
    words = {"root": str(folder)} if "root" in takes else {}
    words |= {"name": which} if which else {}
    return (_kept(base, name) if words else base)(**words)


def _kept(base: Any, name: str) -> Any:
    """The class, which downloads only what is not processed yet, and leaves no half of it."""

    class Kept(base):  # type: ignore[misc]
        def download(self) -> None:
            if all(Path(path).exists() for path in self.processed_paths):
                return
            raw = Path(self.raw_dir)
            was_empty = not any(raw.iterdir())
            try:
                super().download()
            except Exception as error:
                if was_empty:
                    shutil.rmtree(raw, ignore_errors=True)
                files = ", ".join(Path(path).name for path in self.raw_paths)
                home = getattr(self, "url", f"{_PAGE}{base.__name__}.html")
                raise _BadDataset(
                    f"{name}: could not be downloaded ({error}); "
                    f"expected {files} in {raw}, from {home}"
                ) from error

    return Kept
