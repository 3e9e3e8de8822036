"""kernel_cache: where numba keeps what it has compiled, settled before it is imported.

It keeps kernels beside their modules, or in the user's home, and does not import them where neither
can be written, as in containers and on clusters; a file there that a full disk or a crash cut short
ends every later run.
"""

import os
import sys
import tempfile
from pathlib import Path


def settle(package: Path) -> None:
    """Have the kernels of a package kept where that is possible, and drop what is damaged there."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        _drop_damaged(Path(given))
    elif not _drop_damaged(package):
        place = _user_folder()
        told = f"kernels are kept in {place}: {package} cannot be written"
        print(f"{told} (NUMBA_CACHE_DIR names another folder)", file=sys.stderr, flush=True)
        os.environ["NUMBA_CACHE_DIR"] = str(place)
        if "numba" in sys.modules:  # it has read its environment
            sys.modules["numba"].config.CACHE_DIR = str(place)
        _drop_damaged(place)


def _drop_damaged(root: Path) -> bool:
    """Delete kernels that were not written to their end; whether all folders can be written."""
    for folder, _, names in os.walk(root):
        if not os.access(folder, os.W_OK | os.X_OK):
            return False
        for name in names:
            if name.endswith((".nbi", ".nbc")) and not _is_whole(path := Path(folder, name)):
                path.unlink(missing_ok=True)
    return True


def _is_whole(path: Path) -> bool:
    """Whether a pickle has its last byte; zeros and nothing are what a crash leaves."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"."
    except FileNotFoundError:  # another rank has just replaced it
        return True
    except OSError:
        return False


def _user_folder() -> Path:
    """The user's cache folder where it can be written; else one that is only theirs in /tmp."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
        return cache
    except (OSError, RuntimeError):
        shared = Path(tempfile.gettempdir(), f"numba-{os.getuid()}")
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        # What lies there is run, so nobody else may have made it.
        about = shared.lstat()
        if about.st_uid == os.getuid() and about.st_mode == 0o040700:
            return shared
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="numba-"))
