"""Datasets by name: ``load_dataset("ogbn-products")``, ``"npz:PATH"``, ``"synthetic:PRESET"``.

ogbn-products, ogbn-arxiv, ogbn-papers100M   Open Graph Benchmark (extra ``ogb``)
reddit, yelp                                 PyTorch Geometric; yelp is multi-label
com-orkut, com-friendster                    SNAP edge lists and communities
npz:PATH                                     one archive, see ``npz``
synthetic:PRESET                             generated, see ``synthetic``; needs no file
"""

import difflib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minidist.data.npz import load_npz
from minidist.data.ogb import SOURCES, load_ogb
from minidist.data.pyg import FILES, from_pyg, load_pyg
from minidist.data.snap import EMBEDDINGS, load_snap
from minidist.data.synthetic import PRESETS, generate
from minidist.graph import Graph

__all__ = ["from_pyg", "known_names", "load_dataset", "same_source", "source_of"]

_BLOCK = 1 << 24


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
    if kind == "synthetic" and rest in PRESETS:
        return generate(PRESETS[rest], seed, name)
    root = Path(root)
    if name in SOURCES:
        return load_ogb(name, root, progress)
    if name in FILES:
        return load_pyg(name, root, progress)
    if name in EMBEDDINGS:
        return load_snap(name, root, seed, progress)
    raise ValueError(_unknown(name))


def source_of(name: str, seed: int) -> dict[str, Any]:
    """What tells one graph from another of the same name; a partition directory keeps it.

    dataset: the name, an archive's with its absolute path.   crc32: of an archive's bytes.
    seed: of a generated graph, which depends on it.
    """
    kind, _, rest = name.partition(":")
    if kind == "npz":
        path, crc = Path(rest).expanduser().absolute(), 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                crc = zlib.crc32(block, crc)
        return {"dataset": f"npz:{path}", "crc32": crc, "seed": None}
    return {"dataset": name, "crc32": None, "seed": seed if kind == "synthetic" else None}


def same_source(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sources are of one graph: an archive may have moved, with the same bytes."""
    if one["crc32"] is not None or other["crc32"] is not None:
        return bool(one["crc32"] == other["crc32"])
    return dict(one) == dict(other)


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
