"""The manifest of a partition directory: meta.json, versioned, with a checksum of itself.

A directory without a whole manifest is not a partition directory; the manifest is written last.
"""

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 2
META = "meta.json"
REMAKE = "run python -m minidist.partition again"


@dataclass(frozen=True)
class ArrayFile:
    """What meta.json says of one ``.npy`` file; crc32 covers all of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    crc32: int


def write_manifest(folder: Path, meta: dict[str, Any]) -> None:
    """Write meta.json, synced to disk; adds the version and the checksum."""
    # Through JSON and back, so that tuples and the like are hashed as they will be read.
    meta = json.loads(json.dumps({"version": VERSION, **meta}))
    with (folder / META).open("w") as stream:
        json.dump({**meta, "checksum": _checksum(meta)}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def _checksum(meta: dict[str, Any]) -> int:
    """crc32 of everything in meta.json but the checksum itself."""
    body = {key: value for key, value in meta.items() if key != "checksum"}
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def read_manifest(path: Path) -> dict[str, Any]:
    """meta.json of a partition directory. Raises ValueError: what was found and what to do."""
    file = path / META
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        rest = sorted(other.name for other in path.parent.glob(f"{path.name}.tmp-*"))
        left = f"; {rest[0]} beside it is half-written and can be deleted" if rest else ""
        raise ValueError(f"{path} {found}, expected a partition directory: {REMAKE}{left}")
    if not file.is_file():
        half = any(path.glob("part*/*.npy"))
        found = "is half-written: it has no meta.json" if half else "has no meta.json"
        raise ValueError(f"{path} {found}, expected a partition directory: {REMAKE}")
    try:
        meta = json.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): {REMAKE}") from None
    version = meta.get("version") if isinstance(meta, dict) else None
    if version != VERSION:
        raise ValueError(
            f"{file} is of version {version!r}, expected {VERSION}: it was written by another "
            f"release; {REMAKE}"
        )
    if meta.get("checksum") != _checksum(meta):
        raise ValueError(f"{file} is damaged: its checksum does not match; {REMAKE}")
    return dict(meta)
