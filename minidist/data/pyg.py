"""Pyg: graphs of PyTorch Geometric: any ``Data``, and its Reddit and Yelp datasets.

Raw files are kept where PyTorch Geometric looks for them, and downloaded by it where absent:

    root/reddit/raw/reddit_data.npz reddit_graph.npz
    root/yelp/raw/adj_full.npz feats.npy class_map.json role.json
"""

import contextlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidist.data.graph_checks import SPLITS, take_in
from minidist.graph import Graph

if TYPE_CHECKING:
    from torch_geometric.data import Data

FILES = {
    "reddit": ("reddit_data.npz", "reddit_graph.npz"),
    "yelp": ("adj_full.npz", "feats.npy", "class_map.json", "role.json"),
}
HOMES = {
    "reddit": "https://data.dgl.ai/dataset/reddit.zip",
    "yelp": "the GraphSAINT datasets, https://github.com/GraphSAINT/GraphSAINT",
}


def from_pyg(data: "Data", name: str) -> Graph:
    """The graph of a homogeneous ``Data`` with x, edge_index, y and the three masks.

    x may be sparse (made dense); y [N] or [N, 1] class numbers, or [N, C] of 0/1 for multi-label
    tasks. Raises ValueError naming what the Data lacks, or what is wrong with its values.
    """
    # Here, as PyG's datasets below: most graphs come from elsewhere, without waiting for PyTorch.
    import torch

    missing = [key for key in ("x", "edge_index", "y", *SPLITS) if data.get(key) is None]
    if missing:
        hint = ""
        if "edge_index" in missing and data.get("adj_t") is not None:
            hint = "; turn adj_t back into edge_index"
        elif set(missing) <= set(SPLITS):
            hint = "; torch_geometric.transforms.RandomNodeSplit adds masks"
        raise ValueError(f"graph {name!r}: the Data has no {', '.join(missing)}{hint}")
    x = data.x.to_dense() if data.x.layout != torch.strided else data.x
    masks = {split: data[split].numpy(force=True) for split in SPLITS}
    return take_in(
        name,
        data.edge_index.numpy(force=True),
        x.numpy(force=True),
        data.y.numpy(force=True),
        masks,
    )


def load_pyg(name: str, root: Path, progress: bool = False) -> Graph:
    """``reddit`` or the multi-label ``yelp``, from ``root/<name>``.

    Raises ValueError naming the files that are missing or damaged and where to get them, or the
    extra that is absent.
    """
    folder = root / name
    raw = folder / "raw"
    expected = f"{', '.join(FILES[name])} in {raw}, from {HOMES[name]}"
    try:
        with contextlib.ExitStack() as stack:
            if not progress:
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            data = _dataset(name, folder)[0]
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name} needs the {error.name} package: pip install minidist[ogb]"
        ) from error
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        absent = [file for file in FILES[name] if not (raw / file).is_file()]
        problem = f"could not be downloaded ({error})" if absent else f"is damaged ({error})"
        raise ValueError(f"{name}: the dataset {problem}; expected {expected}") from error
    return from_pyg(data, name)


def _dataset(name: str, folder: Path) -> Any:
    from torch_geometric.datasets import Reddit, Yelp

    return {"reddit": Reddit, "yelp": Yelp}[name](str(folder))
