"""Ogb: ogbn-arxiv, ogbn-products and ogbn-papers100M of the Open Graph Benchmark.

The raw folder is read with the ``ogb`` package's own readers, under ogb's folder names, so a copy
made by ogb is used as it is. Its ``NodePropPredDataset`` is left out: it prompts on stdin, and it
keeps a pickle that torch 2.6 and later refuse to load again. Layout of ``root/ogbn_arxiv``:

    raw/edge.csv.gz num-node-list.csv.gz num-edge-list.csv.gz node-feat.csv.gz node-label.csv.gz
    split/time/train.csv.gz valid.csv.gz test.csv.gz
    (papers100M: raw/data.npz node-label.npz, uncompressed arrays in place of the csv files)

Edges become undirected, as in OGB's own baselines: citations point one way only (arxiv,
papers100M), and products lists each pair once. Source: Hu et al., "Open Graph Benchmark", 2020.
"""

import contextlib
import gzip
import io
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.data.graph_checks import take_in
from minidist.graph import Graph

HOME = "http://snap.stanford.edu/ogb/data/nodeproppred/"
CSV_FILES = tuple(
    f"raw/{part}.csv.gz"
    for part in ("edge", "num-node-list", "num-edge-list", "node-feat", "node-label")
)
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, ValueError, KeyError)


@dataclass(frozen=True, kw_only=True)
class OgbSource:
    """Where a dataset comes from: its archive (holding ``folder``), files, split and C."""

    url: str
    folder: str
    split: str
    num_classes: int
    files: tuple[str, ...] = CSV_FILES
    gigabytes: float = 0.1

    @property
    def split_files(self) -> tuple[str, ...]:
        return tuple(f"split/{self.split}/{part}.csv.gz" for part in ("train", "valid", "test"))


SOURCES = {
    "ogbn-arxiv": OgbSource(url=HOME + "arxiv.zip", folder="arxiv", split="time", num_classes=40),
    "ogbn-products": OgbSource(
        url=HOME + "products.zip",
        folder="products",
        split="sales_ranking",
        num_classes=47,
        gigabytes=1.4,
    ),
    "ogbn-papers100M": OgbSource(
        url=HOME + "papers100M-bin.zip",
        folder="papers100M-bin",
        split="time",
        num_classes=172,
        files=("raw/data.npz", "raw/node-label.npz"),
        gigabytes=57,
    ),
}


def load_ogb(name: str, root: Path, progress: bool = False) -> Graph:
    """Read ``root/<name with underscores>``, downloading it first where it is small and absent.

    Raises ValueError naming the file that is missing or damaged and the archive that holds it, or
    the extra to install where the ``ogb`` package is absent.
    """
    source = SOURCES[name]
    folder = root / name.replace("-", "_")
    if not folder.exists() and source.gigabytes < 2:
        download(source, folder)
    for file in (*source.files, *source.split_files):
        if not (folder / file).is_file():
            raise ValueError(
                f"{name}: {folder / file} is missing; unpack {source.url} "
                f"({source.gigabytes:g} GB) and rename its folder {source.folder} to {folder}"
            )
    with contextlib.ExitStack() as stack:
        if not progress:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        graph, labels = _read(name, folder, "raw/data.npz" in source.files)
    x = graph["node_feat"]
    if x is None or len(x) != graph["num_nodes"]:
        raise ValueError(
            f"{name}: {folder}/raw: node features must have {graph['num_nodes']} rows, "
            f"got {'none' if x is None else len(x)}"
        )
    masks = {}
    for split, file in zip(("train", "val", "test"), source.split_files, strict=True):
        masks[f"{split}_mask"] = _mask(name, folder / file, len(x))
    edge_index = graph["edge_index"]
    return take_in(name, edge_index, x, labels, masks, source.num_classes, undirected=True)


def download(source: OgbSource, folder: Path) -> None:
    """Fetch and unpack the archive; ``folder`` appears complete or not at all.

    Raises ValueError naming the folder and the address if it cannot be fetched.
    """
    _require_ogb()
    from ogb.utils.url import download_url, extract_zip

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        try:
            extract_zip(download_url(source.url, scratch), scratch)
            (Path(scratch) / source.folder).rename(folder)
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{folder} is missing and could not be downloaded ({error}); unpack {source.url} "
                f"({source.gigabytes:g} GB) and rename its folder {source.folder} to {folder}"
            ) from error


def _require_ogb() -> None:
    try:
        import ogb  # noqa: F401
    except ImportError:
        raise ValueError("this dataset needs the ogb package: pip install minidist[ogb]") from None


def _read(name: str, folder: Path, binary: bool) -> tuple[dict[str, Any], NDArray[Any]]:
    _require_ogb()
    from ogb.io.read_graph_raw import read_binary_graph_raw, read_csv_graph_raw

    raw = folder / "raw"
    try:
        if binary:
            graphs = read_binary_graph_raw(str(raw))
            labels = np.load(raw / "node-label.npz")["node_label"]
        else:
            graphs = read_csv_graph_raw(str(raw))
            labels = np.loadtxt(raw / "node-label.csv.gz", np.int64, delimiter=",", ndmin=1)
    except DAMAGED as error:
        raise ValueError(
            f"{name}: a file in {raw} is damaged, perhaps cut short in copying ({error})"
        ) from error
    return graphs[0], labels


def _mask(name: str, path: Path, num_nodes: int) -> NDArray[np.bool_]:
    try:
        ids = np.loadtxt(path, np.int64, ndmin=1)
    except DAMAGED as error:
        raise ValueError(f"{name}: {path} is damaged ({error})") from error
    if len(ids) and (ids.min() < 0 or ids.max() >= num_nodes):
        bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise ValueError(
            f"{name}: {path}: node id {bad} is out of range: expected 0 to {num_nodes - 1}"
        )
    mask = np.zeros(num_nodes, np.bool_)
    mask[ids] = True
    return mask
