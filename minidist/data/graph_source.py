"""What tells one graph from another of its name, so that parts of the wrong one are refused."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BLOCK = 1 << 24
# Names of graphs that depend on the seed: generated ones, and SNAP's, of which the splits and the
# features are.
_SEEDED = ("synthetic:", "com-")


def source_of(name: str, seed: int) -> dict[str, Any]:
    """What tells one graph from another of the same name; a partition directory keeps it.

    dataset: the name, an archive's with its absolute path.   crc32: of an archive's bytes.
    seed: of a graph that depends on it.
    """
    kind, _, rest = name.partition(":")
    if kind == "npz":
        path, crc = Path(rest).expanduser().absolute(), 0
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
