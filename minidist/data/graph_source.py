"""Names of graphs, and what tells one graph from another of its name.

Nothing heavy is imported: a wrong name is told at once, before ranks start.
"""

import difflib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMED = (
    *("ogbn-products", "ogbn-arxiv", "ogbn-papers100M"),
    *("reddit", "yelp", "com-orkut", "com-friendster"),
)
PRESETS = ("tiny", "tiny-multilabel", "small", "medium", "large", "products")
# Names of graphs that depend on the seed: generated ones, and SNAP's, of which the splits and the
# features are.
_SEEDED = ("synthetic:", "com-")
_BLOCK = 1 << 24


def known_names() -> list[str]:
    """Every name ``load_dataset`` takes; CLASS, NAME and PATH stand for any."""
    presets = (f"synthetic:{preset}" for preset in PRESETS)
    return [*NAMED, *presets, "npz:PATH", "pyg:CLASS", "pyg:CLASS/NAME"]


def check_name(name: str) -> None:
    """Raise ValueError for a name that is not known, naming the close ones, or an absent archive.

    Whether PyTorch Geometric has a dataset of a name is found out when it is loaded.
    """
    kind, _, rest = name.partition(":")
    if kind == "npz" and rest:
        if not archive(name).is_file():
            raise ValueError(f"{archive(name)}: no such file")
        return
    named = name.partition(",")[0] if kind == "synthetic" else name
    if named in known_names()[:-3] or (kind == "pyg" and rest):
        return
    lowered = {known.lower(): known for known in known_names()}
    close = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    found = " or ".join(lowered[match] for match in close)
    hint = f"did you mean {found}?" if found else "known are " + ", ".join(known_names())
    raise ValueError(f"unknown dataset {name!r}: {hint}")


def archive(name: str) -> Path:
    """The file of an ``npz:`` name."""
    return Path(name.removeprefix("npz:")).expanduser()


def source_of(name: str, seed: int) -> dict[str, Any]:
    """What tells one graph from another of the same name; a partition directory keeps it.

    dataset: the name, an archive's with its absolute path.   crc32: of an archive's bytes.
    seed: of a graph that depends on it.
    """
    if name.startswith("npz:"):
        path, crc = archive(name).absolute(), 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                crc = zlib.crc32(block, crc)
        return {"dataset": f"npz:{path}", "crc32": crc, "seed": None}
    return {"dataset": name, "crc32": None, "seed": seed if name.startswith(_SEEDED) else None}


def same_source(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sources are of one graph: an archive may have moved, with the same bytes."""
    if one["crc32"] is not None or other["crc32"] is not None:
        return bool(one["crc32"] == other["crc32"])
    return dict(one) == dict(other)
