"""whole: files that are there whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Where to write what shall be ``path`` once it is written: a reader finds the old or the new.

    What is there and no regular file, such as /dev/stdout, is itself the place. Raises OSError.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        # Else a machine that loses power may keep the new name and not what it stands for.
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def require_writable(path: str | Path) -> None:
    """Find out before the long work. Raises OSError where a file cannot be written there."""
    path = Path(path)
    there = path.exists()
    path.open("a").close()
    if not there:
        path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8. Half a surrogate pair, which no file can hold, becomes "?". Raises OSError."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: str | Path, value: object) -> None:
    """Write a value as JSON for people and machines. Raises OSError."""
    write_text(path, json.dumps(value, indent=1) + "\n")
