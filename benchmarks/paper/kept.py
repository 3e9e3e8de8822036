"""What cells came to, kept in a folder: used again while settings, models and code are the same."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import minidist
import rudder
from benchmarks.paper.settings import PaperConfig
from rudder.agent.models import EMBEDDED
from rudder.cli.whole_file import write_json


def kept_or_made(
    config: PaperConfig, named: Mapping[str, object], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What was made before under these settings and by this code; made now if it was not."""
    words = json.dumps([named, _files(named), _code()], sort_keys=True)
    name = hashlib.sha256(words.encode()).hexdigest()[:20]
    file = Path(config.folder) / "kept" / f"{name}.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text())["figures"]
        return kept
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"settings": named, "figures": made})
    return made


def _files(named: Mapping[str, object]) -> list[tuple[str, int, int]]:
    """Size and time of the models that are read: another file is another run."""
    paths = []
    if named.get("decider") == "llm":
        model = str(named["agent_model"])
        paths.append(EMBEDDED if model == "embedded" else Path(model))
    elif "classifier_dir" in named:
        paths.append(Path(str(named["classifier_dir"])) / "meta.json")
    known = [(path, path.stat()) for path in paths if path.is_file()]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in known]


@cache
def _code() -> str:
    """A hash of all that trains and steers: what other code made is not used again."""
    digest = hashlib.sha256()
    for package in (minidist, rudder):
        for file in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
