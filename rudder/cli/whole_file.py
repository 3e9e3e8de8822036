"""whole: files and folders that are there whole or not at all."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class NotWritten(OSError):
    """A file could not be written; the message says which, why, and what its disk has left."""


def not_written(path: Path, error: OSError) -> NotWritten:
    """The error of this file that this error of the system is."""
    free = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = f"; its disk has {size_text(shutil.disk_usage(path.parent).free)} free"
    return NotWritten(f"{path} cannot be written: {error.strerror or error}{free}")


def size_text(num_bytes: float) -> str:
    """A number of bytes for people, in the unit that fits."""
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.{0 if unit == 'bytes' else 1}f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Where to write what shall be ``path`` once it is written: a reader finds the old or the new.

    What is there and no regular file, such as /dev/stdout, is itself the place. Raises NotWritten.
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
    except BaseException as error:
        # Before what we wrote goes, and with it the sight of a full disk.
        failure = not_written(path, error) if isinstance(error, OSError) else None
        with suppress(OSError):
            partial.unlink()
        if failure is not None:
            raise failure from error
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """As ``whole``, for a folder; one that is there gives way."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield staging
        os.chmod(staging, 0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
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
