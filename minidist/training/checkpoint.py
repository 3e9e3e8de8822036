"""Checkpoint: everything a resumed run needs to go on as if it had not stopped.

    checkpoint.pt    checkpoint-before.pt     model, optimizer, losses, scores; by rank 0
    rank0.npz        rank0-before.npz  ..     a rank's totals so far, and the ids in its buffer
    best.pt                                   the weights with the best validation score

Samples and dropout are pure functions of (seed, epoch, step, rank), so there is no generator state
to keep. Each file is written whole and is a zip archive whose comment is the SHA-256 of every byte
before it, which is compared before anything is used. A rank's file says of which step it is.
"""

import hashlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minidist.config import TrainConfig
from minidist.moment import Moment
from minidist.store.partition_dir import Parts
from minidist.training.meter import losses_sha256
from rudder.cli.whole_file import size_text, whole

VERSION = 5
FILE, BEST = "checkpoint.pt", "best.pt"
_DIGEST_BYTES = 64  # in hexadecimal


def settings_of(config: TrainConfig, ranks: int, parts: Parts | None) -> dict[str, Any]:
    """What a checkpoint's run and this one must agree on."""
    names = ("model", "hidden", "batch_size", "lr", "dropout", "seed", "wire_dtype")
    settings = {name: getattr(config, name) for name in names}
    settings |= {"fanout": list(config.fanout), "ranks": ranks}
    if parts is not None:
        settings["parts"] = f"{parts.name} ({parts.checksum:08x})"
    return settings


def best_of(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation with the best validation score, the latest among equals.

    With no validation nodes there is none, and the last evaluation stands.
    """
    return max(reversed(scores), key=lambda score: -1.0 if score["val"] is None else score["val"])


def require_disk(folder: Path, model: torch.nn.Module) -> None:
    """Raise ValueError where the folder's disk has no room for the checkpoints of this model.

    Three at a time, each of the model, Adam's two moments and the best weights; and those alone.
    """
    needed = 14 * sum(p.numel() * p.element_size() for p in model.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"--out {folder}: {size_text(needed)} needed for checkpoints, but its disk has "
            f"{size_text(free)} free"
        )


def folder_of(path: Path) -> Path:
    """The run's folder, of ``--resume``: that folder, or a checkpoint in it."""
    return path.parent if path.suffix == ".pt" and not path.is_dir() else path


def _before(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")


def _keep_before(path: Path) -> None:
    """What is there becomes the one before."""
    if path.exists():
        os.replace(path, _before(path))


def _sealed(archive: io.BytesIO) -> bytes:
    """An archive with the digest of its bytes as its comment, which so far has length 0."""
    data = archive.getvalue()[:-2] + _DIGEST_BYTES.to_bytes(2, "little")
    return data + hashlib.sha256(data).hexdigest().encode()


def _saved(state: dict[str, Any]) -> bytes:
    """What ``torch.save`` makes of a state, sealed; PyTorch's own errors name no file."""
    archive = io.BytesIO()
    torch.save({**state, "version": VERSION}, archive)
    return _sealed(archive)


def _check(path: Path) -> None:
    """Raise ValueError unless every byte is as ``_sealed`` made it."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(data[:-_DIGEST_BYTES]).hexdigest().encode() == data[-_DIGEST_BYTES:]:
        return
    before = _before(path.with_name(FILE))
    hint = ""
    if path.name == BEST:
        hint = f"; {FILE} holds the weights too, under best"
    elif before.exists() and not path.stem.endswith("-before"):
        hint = f": resume from the one before with --resume {before}"
    raise ValueError(
        f"{path.parent}: {path.name} is damaged, or of another release: its checksum does not "
        f"match{hint}"
    )


def _load(path: Path) -> dict[str, Any]:
    """What ``torch.save`` wrote and we sealed. Raises ValueError: damaged, of another version."""
    _check(path)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if (version := state.pop("version")) != VERSION:
        raise ValueError(f"{path} has version {version}, expected {VERSION}: train anew")
    return state


def save_rank(folder: Path, rank: int, moment: Moment, state: dict[str, Any]) -> None:
    """Write what one rank keeps at this moment: arrays, and text under ``totals``."""
    path = folder / f"rank{rank}.npz"
    _keep_before(path)
    archive = io.BytesIO()
    np.savez(archive, moment=np.array(moment), version=np.array(VERSION), **state)
    with whole(path) as partial:
        partial.write_bytes(_sealed(archive))


def load_rank(folder: Path, rank: int, moment: Moment) -> dict[str, NDArray[Any]]:
    """Read ``save_rank``'s file of this moment. Raises ValueError: none, or a damaged one."""
    newest, damage = folder / f"rank{rank}.npz", None
    for path in (newest, _before(newest)):
        if not path.exists():
            continue
        try:
            _check(path)
        except ValueError as error:
            damage = damage or error
            continue
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
        if int(state.pop("version")) == VERSION and tuple(state.pop("moment")) == moment:
            return state
    raise damage or ValueError(
        f"--resume {folder}: rank {rank} has no {newest.name} of {moment}, where the checkpoint "
        "stands: copy the whole folder of the run"
    )


def go_on_in(folder: Path, rank: int, moment: Moment) -> None:
    """Let this moment's files be the newest ones, which the next checkpoint keeps as before.

    Every rank calls it when all have read theirs: files that are damaged, or of a later moment,
    would else take the place of those that the run goes on from.
    """
    for path in (folder / f"rank{rank}.npz", *([folder / FILE] if rank == 0 else [])):
        if _moment_of(path) != moment:
            os.replace(_before(path), path)


def _moment_of(path: Path) -> tuple[int, ...] | None:
    """Of which step a file is; None where it is missing or damaged."""
    try:
        _check(path)
    except ValueError:
        return None
    if path.suffix == ".pt":
        return tuple(_load(path)["moment"])
    with np.load(path, allow_pickle=False) as file:
        return tuple(file["moment"])


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State after a step.

    settings: ``settings_of`` the run.   moment: the next step to take.
    losses: the global loss of every step taken.
    scores: evaluations so far, as ``{"epoch": .., "val": .., "test": ..}``, after so many epochs.
    best: ``model`` and ``scores`` of the best of them, None before the first.
    """

    settings: dict[str, Any]
    moment: Moment
    model: dict[str, Any]
    optimizer: dict[str, Any]
    losses: list[float]
    scores: list[dict[str, Any]]
    best: dict[str, Any] | None

    def save(self, folder: Path) -> None:
        """Write ``folder/checkpoint.pt``, whole or not at all; the one there is kept as before."""
        with whole(folder / FILE) as partial:
            partial.write_bytes(_saved({**vars(self), "moment": tuple(self.moment)}))
            _keep_before(folder / FILE)

    @classmethod
    def load(cls, path: Path, settings: dict[str, Any], epochs: int) -> "Checkpoint":
        """Read a checkpoint to go on to ``epochs`` from: of a run's folder, or the file itself.

        Raises ValueError when there is none, when it is damaged or of another version, when a
        setting differs, naming each, and when more epochs were trained.
        """
        folder = folder_of(path)
        path = folder / FILE if folder == path else path
        if not path.is_file() and _before(path).is_file():
            path = _before(path)  # cut off between the two
        if not path.is_file():
            raise ValueError(f"--resume {folder}: there is no {path.name} in it")
        state = _load(path)
        differing = [
            f"{name.replace('_', '-')} was {state['settings'].get(name)}, is {value}"
            for name, value in settings.items()
            if state["settings"].get(name) != value
        ]
        if differing:
            raise ValueError(
                f"--resume {folder}: the checkpoint is of another run: " + "; ".join(differing)
            )
        moment = Moment(*state["moment"])
        if moment > Moment(epochs, 0):
            more = f" and {moment.step} steps of the next" if moment.step else ""
            raise ValueError(
                f"--epochs {epochs}: the run in {folder} has trained {moment.epoch}{more}; give "
                f"at least {moment.epoch + bool(moment.step)}, or another --out"
            )
        return cls(**{**state, "moment": moment})

    def summary(self, folder: Path, epochs: int) -> dict[str, Any] | None:
        """The summary in the run's folder, if the run has these epochs and this is its end."""
        file = folder / "summary.json"
        if self.moment != Moment(epochs, 0) or not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text())
        return found if found.get("losses_sha256") == losses_sha256(self.losses) else None


def save_best(folder: Path, best: dict[str, Any]) -> None:
    """Write ``folder/best.pt``: ``model``, the state dict, and the ``scores`` it was given."""
    with whole(folder / BEST) as partial:
        partial.write_bytes(_saved(best))


def load_best(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state dict, scores) of ``folder/best.pt``. Raises ValueError: absent or damaged."""
    path = folder / BEST
    if not path.is_file():
        raise ValueError(f"{folder}: there is no {BEST} in it; train with --out {folder}")
    state = _load(path)
    return state["model"], state["scores"]
