"""Models that cannot be used: the error names the file, what is wrong and what to do."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from rudder.agent.llama import LlamaEngine
from rudder.agent.models import SHORT_NAMES, resolve_model
from rudder.config import SteerConfig
from rudder.deciders.llm import LLMDecider
from tests.rudder.contexts import FACTS
from tests.rudder.gguf_models import SHAPE, write_model


def decider(path: Path, context: int = 2048) -> LLMDecider:
    config = SteerConfig(agent_model=str(path), agent_context=context)
    return LLMDecider(FACTS, config)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    for content, message in [
        (b"", "not a GGUF"),
        (b"PK\x03\x04 a zip", "not a GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"GGUF", "damaged or cut short"),
        (b"GGUF\x01\0\0\0" + bytes(64), "version 1"),
    ]:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            decider(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="is a folder"):
        decider(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        decider(tmp_path / "missing.gguf")


def test_unknown_architecture(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", architecture="llama9000")
    with pytest.raises(ValueError, match=r"model\.gguf.*'llama9000'.*too old"):
        decider(path)


def test_trained_context_too_small(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", shape=replace(SHAPE, context=256))
    with pytest.raises(ValueError, match=r"model\.gguf with a context of 256 tokens.*longer texts"):
        decider(path)


def test_asked_context_too_small(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", shape=replace(SHAPE, context=8192))
    with pytest.raises(ValueError, match=r"takes 3\d\d\d tokens.*larger --agent-context"):
        decider(path, 512)


def test_cut_files(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "model.gguf").read_bytes()
    for share in range(1, 20):
        path = tmp_path / "cut.gguf"
        path.write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(ValueError, match=r"cut\.gguf"):
            LlamaEngine(path, context=256)


def test_damaged_files_never_end_the_process(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "model.gguf").read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[draw.randrange(4, 6000)] = draw.choice([0, 1, 255, draw.randrange(256)])
        path = tmp_path / "damaged.gguf"
        path.write_bytes(damaged)
        try:
            LlamaEngine(path, context=256).close()
        except ValueError:
            refused += 1
    assert refused > 50


class Shelf:
    """A hub in this process. have: what it holds; local: what was fetched; broken: no network."""

    def __init__(self, folder: Path, have: list[str], *, broken: bool = False) -> None:
        self.folder, self.have, self.broken = folder, have, broken
        self.fetched: list[str] = []

    def snapshot_download(self, repo: str, local_files_only: bool) -> str:
        if not self.folder.exists():
            raise KeyError(repo)
        return str(self.folder)

    def list_repo_files(self, repo: str) -> list[str]:
        if self.broken:
            raise ConnectionError("no route to host")
        return self.have

    def hf_hub_download(self, repo: str, name: str) -> str:
        self.fetched.append(name)
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(b"GGUF")
        return str(self.folder / name)


PARTS = [f"m-Q4_K_M-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


def test_models_of_a_hub(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "hub", ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "README.md"])
    path = resolve_model("some/repo:*Q4_K_M.gguf", shelf)
    assert path.name == "m-Q4_K_M.gguf"
    assert shelf.fetched == ["m-Q4_K_M.gguf"]
    # The second time there is no network.
    assert resolve_model("some/repo:*Q4_K_M.gguf", Shelf(shelf.folder, [], broken=True)) == path
    with pytest.raises(ValueError, match=r"no file of some/repo matches; it has m-Q4_K_M\.gguf"):
        resolve_model("some/repo:*Q5*", shelf)
    with pytest.raises(ValueError, match="several files"):
        resolve_model("some/repo:*.gguf", Shelf(tmp_path / "other", shelf.have))
    with pytest.raises(ValueError, match=r"no route to host.*where there is a network"):
        resolve_model("some/repo:*Q4*", Shelf(tmp_path / "empty", [], broken=True))


def test_models_in_parts(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "hub", PARTS)
    assert resolve_model("mixtral-8x22b", shelf).name == PARTS[0]
    assert shelf.fetched == PARTS
    (shelf.folder / PARTS[1]).unlink()
    resolve_model("mixtral-8x22b", shelf)
    assert shelf.fetched == PARTS * 2


def test_short_names() -> None:
    assert len(SHORT_NAMES) == 9
    for spec in SHORT_NAMES.values():
        repo, pattern = spec.split(":")
        assert repo.count("/") == 1
        assert pattern.endswith(".gguf")
    with pytest.raises(ValueError, match=r"expected a GGUF file.*gemma3-4b"):
        resolve_model("gemma9000")
