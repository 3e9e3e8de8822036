"""Which file ``--agent-model`` means: a path, ``repo:file-glob`` on Hugging Face, or a short name.

What was downloaded once is used without a network, so a login node can fetch for compute nodes.
"""

import fnmatch
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parent / "models" / "embedded.gguf"
# The paper's nine models (its table 1), quantized to 4 bits.
SHORT_NAMES = {
    "gemma3-4b": "bartowski/google_gemma-3-4b-it-GGUF:*-Q4_K_M.gguf",
    "gemma3-1b": "bartowski/google_gemma-3-1b-it-GGUF:*-Q4_K_M.gguf",
    "llama3.2-3b": "bartowski/Llama-3.2-3B-Instruct-GGUF:*-Q4_K_M.gguf",
    "smollm2-360m": "bartowski/SmolLM2-360M-Instruct-GGUF:*-Q4_K_M.gguf",
    "smollm2-1.7b": "bartowski/SmolLM2-1.7B-Instruct-GGUF:*-Q4_K_M.gguf",
    "r1-qwen-1.5b": "bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF:*-Q4_K_M.gguf",
    "mixtral-8x7b": "mradermacher/Mixtral-8x7B-Instruct-v0.1-i1-GGUF:*.i1-Q4_K_M.gguf",
    "mixtral-8x22b": "MaziyarPanahi/Mixtral-8x22B-Instruct-v0.1-GGUF:*Q4_K_M*.gguf",
    "granite3.1-3b": "bartowski/granite-3.1-3b-a800m-instruct-GGUF:*-Q4_K_M.gguf",
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


def _client() -> Any:
    """Hugging Face's own (extra: hub)."""
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(
            "--agent-model: models on Hugging Face need its client: pip install 'minidist[hub]'"
        ) from None
    return huggingface_hub


def resolve_model(name: str, hub: Any = None) -> Path:
    """The GGUF file that ``--agent-model`` names; of a model in several files, the first.

    hub: has what we call of ``huggingface_hub``, in its place.
    Raises ValueError: what is not there, and what to give instead.
    """
    if name == "embedded":
        if not EMBEDDED.is_file():
            raise ValueError(
                f"--agent-model embedded: {EMBEDDED} is not there: make it with `python -m "
                "rudder.distill`, or give a GGUF file"
            )
        return EMBEDDED
    path = Path(name).expanduser()
    if path.exists() or (path.suffix == ".gguf" and ":" not in name):
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise ValueError(f"--agent-model {name}: this path {what}: give a GGUF file")
        return path
    repo, colon, pattern = SHORT_NAMES.get(name, name).partition(":")
    if not colon or not pattern or repo.count("/") != 1:
        raise ValueError(
            f"--agent-model {name}: expected a GGUF file, repo:file-glob on Hugging Face, or one "
            f"of embedded, {', '.join(SHORT_NAMES)}"
        )
    return _download(f"--agent-model {name}", repo, pattern, hub or _client())


def _download(flag: str, repo: str, pattern: str, hub: Any) -> Path:
    try:
        folder = Path(hub.snapshot_download(repo, local_files_only=True))
    except Exception:  # nothing there; each version of the client has its own way to say so
        held = []
    else:
        held = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.gguf"))
    found = fnmatch.filter(held, pattern)
    if found and len(found) == _num_shards(found[0]):
        return folder / found[0]
    what = f"{flag}: cannot get {pattern} of {repo} from Hugging Face"
    with _reached(what):
        files = sorted(hub.list_repo_files(repo))
    wanted = fnmatch.filter(files, pattern)
    if not wanted:
        offered = [name for name in files if name.endswith(".gguf")]
        raise ValueError(
            f"{flag}: no file of {repo} matches; it has {', '.join(offered) or 'none'}"
        )
    if len({_SHARD.sub("", name) for name in wanted}) > 1:
        raise ValueError(f"{flag}: several files of {repo} match: {', '.join(wanted)}")
    with _reached(what):
        fetched = [Path(hub.hf_hub_download(repo, file)) for file in wanted]
    return fetched[0]


@contextmanager
def _reached(what: str) -> Iterator[None]:
    """The client's errors are those of requests in some versions, of httpx in others."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{what} ({type(error).__name__}: {error}): "
            "download it where there is a network, or give a GGUF file"
        ) from error


def _num_shards(name: str) -> int:
    return int(name[-10:-5]) if _SHARD.search(name) else 1
