"""Datasets by name: ``load_dataset("ogbn-products")``, ``"npz:PATH"``, ``"synthetic:PRESET"``.

ogbn-products, ogbn-arxiv, ogbn-papers100M   Open Graph Benchmark (extra ``ogb``)
reddit, yelp                                 PyTorch Geometric; yelp is multi-label
com-orkut, com-friendster                    SNAP edge lists and communities
npz:PATH                                     one archive, see ``npz``
synthetic:PRESET[,FIELD=VALUE ..]            generated, see ``synthetic``; needs no file
"""

import difflib
from pathlib import Path

from minidist.data.npz import load_npz
from minidist.data.ogb import SOURCES, load_ogb
from minidist.data.pyg import FILES, from_pyg, load_pyg
from minidist.data.snap import EMBEDDINGS, load_snap
from minidist.data.synthetic import PRESETS, generate, read_spec
from minidist.graph import Graph

__all__ = ["from_pyg", "known_names", "load_dataset"]


def load_dataset(
    name: str, *, root: str | Path = "data", seed: int = 0, progress: bool = False
) -> Graph:
    """Load or generate a graph.

    name: one of the names above. root: folder that holds one folder per named dataset.
    seed: of generated graphs, and of the splits and embeddings of SNAP's. progress: show bars.

    Raises ValueError for a name that is not known (naming the close ones), for a file that is
    missing or damaged (naming it, and where to get it), and for arrays that make no graph.
    """
    if seed < 0:
        raise ValueError(f"seed {seed}: expected 0 or more")
    kind, _, rest = name.partition(":")
    if kind == "npz" and rest:
        return load_npz(Path(rest).expanduser())
    if kind == "synthetic" and rest.partition(",")[0] in PRESETS:
        return generate(read_spec(rest), seed, name)
    root = Path(root)
    if name in SOURCES:
        return load_ogb(name, root, progress)
    if name in FILES:
        return load_pyg(name, root, progress)
    if name in EMBEDDINGS:
        return load_snap(name, root, seed, progress)
    raise ValueError(_unknown(name))


def known_names() -> list[str]:
    """Every name ``load_dataset`` takes, ``npz:PATH`` standing for any file."""
    named = (*SOURCES, *FILES, *EMBEDDINGS)
    return [*named, *(f"synthetic:{preset}" for preset in PRESETS), "npz:PATH"]


def _unknown(name: str) -> str:
    known = known_names()
    lowered = {name.lower(): name for name in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    close = [lowered[match] for match in found]
    hint = f"did you mean {' or '.join(close)}?" if close else "known are " + ", ".join(known)
    return f"unknown dataset {name!r}: {hint}"
