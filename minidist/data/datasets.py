"""Datasets by name: ``load_dataset("ogbn-products")``, ``"npz:PATH"``, ``"synthetic:PRESET"``.

ogbn-products, ogbn-arxiv, ogbn-papers100M   Open Graph Benchmark (extra ``ogb``)
reddit, yelp                                 PyTorch Geometric; yelp is multi-label
com-orkut, com-friendster                    SNAP edge lists and communities
pyg:CLASS, pyg:CLASS/NAME                    any dataset of one graph of PyTorch Geometric
npz:PATH                                     one archive, see ``npz``
synthetic:PRESET[,FIELD=VALUE ..]            generated, see ``synthetic``; needs no file
"""

from pathlib import Path

from minidist.config import MOST_SEED
from minidist.data.graph_source import archive, check_name
from minidist.data.npz import load_npz
from minidist.data.ogb import SOURCES, load_ogb
from minidist.data.pyg import from_pyg, load_pyg
from minidist.data.snap import EMBEDDINGS, load_snap
from minidist.data.synthetic import generate, read_spec
from minidist.graph import Graph

__all__ = ["from_pyg", "load_dataset"]


def load_dataset(
    name: str, *, root: str | Path = "data", seed: int = 0, progress: bool = False
) -> Graph:
    """Load or generate a graph.

    name: one of the names above. root: folder that holds one folder per named dataset.
    seed: of generated graphs, and of the splits and embeddings of SNAP's. progress: show bars.

    Raises ValueError for a name that is not known (naming the close ones), for a file that is
    missing or damaged (naming it, and where to get it), and for arrays that make no graph.
    """
    if not 0 <= seed <= MOST_SEED:
        raise ValueError(f"seed {seed}: expected 0 to 2^63 - 1")
    check_name(name)
    if name.startswith("npz:"):
        return load_npz(archive(name))
    if name.startswith("synthetic:"):
        return generate(read_spec(name.removeprefix("synthetic:")), seed, name)
    if name in SOURCES:
        return load_ogb(name, Path(root), progress)
    if name in EMBEDDINGS:
        return load_snap(name, Path(root), seed, progress)
    return load_pyg(name, Path(root), progress)
