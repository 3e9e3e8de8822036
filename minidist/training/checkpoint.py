"""Checkpoint: everything a resumed run needs to go on as if it had not stopped.

    checkpoint.pt    checkpoint-before.pt     model, optimizer, losses, scores; by rank 0
    rank0.npz        rank0-before.npz  ..     a rank's totals so far, and the ids in its buffer
    best.pt                                   the weights with the best validation score

Samples and dropout are pure functions of (seed, epoch, step, rank), so there is no generator state
to keep. Each file is written whole, and is a zip archive whose every record has a checksum, which
is compared before anything is used. A rank's file says of which step it is.
"""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minidist.moment import Moment
from rudder.cli.whole_file import whole

VERSION = 3
FILE, BEST = "checkpoint.pt", "best.pt"


def _before(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")


def _keep_before(path: Path) -> None:
    """What is there becomes the one before."""
    if path.exists():
        os.replace(path, _before(path))


def _damaged(path: Path, why: object) -> ValueError:
    before = _before(path.with_name(FILE))
    hint = f": resume from the one before with --resume {before}" if before.exists() else ""
    return ValueError(f"--resume {path.parent}: {path.name} is damaged ({why}){hint}")


def _check_archive(path: Path) -> None:
    """Compare every record of a zip archive with its checksum. Raises ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise _damaged(path, error) from None
    if bad is not None:
        raise _damaged(path, f"the checksum of {bad} does not match")


def save_rank(folder: Path, rank: int, moment: Moment, state: dict[str, Any]) -> None:
    """Write what one rank keeps at this moment: arrays, and text under ``totals``."""
    path = folder / f"rank{rank}.npz"
    _keep_before(path)
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, moment=np.array(moment), version=np.array(VERSION), **state)


def load_rank(folder: Path, rank: int, moment: Moment) -> dict[str, NDArray[Any]]:
    """Read ``save_rank``'s file of this moment. Raises ValueError: none, or a damaged one."""
    newest, damage = folder / f"rank{rank}.npz", None
    for path in (newest, _before(newest)):
        if not path.exists():
            continue
        try:
            _check_archive(path)
            with np.load(path, allow_pickle=False) as file:
                state = dict(file)
        except ValueError as error:
            damage = damage or error
            continue
        if int(state.pop("version")) == VERSION and tuple(state.pop("moment")) == moment:
            return state
    raise damage or ValueError(
        f"--resume {folder}: rank {rank} has no {newest.name} of {moment}, where the checkpoint "
        "stands: copy the whole folder of the run"
    )


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State after a step.

    settings: what must be equal for the losses to continue (model, data, batches, ranks).
    moment: the next step to take.   losses: the global loss of every step taken.
    scores: evaluations so far, as ``{"epoch": .., "val": .., "test": ..}``.
    """

    settings: dict[str, Any]
    moment: Moment
    model: dict[str, Any]
    optimizer: dict[str, Any]
    losses: list[float]
    scores: list[dict[str, Any]]

    def save(self, folder: Path) -> None:
        """Write ``folder/checkpoint.pt``, whole or not at all; the one there is kept as before."""
        state = {**vars(self), "moment": tuple(self.moment), "version": VERSION}
        with whole(folder / FILE) as partial:
            torch.save(state, partial)
            _keep_before(folder / FILE)

    @classmethod
    def load(cls, path: Path, settings: dict[str, Any]) -> "Checkpoint":
        """Read a checkpoint of a run with these settings: a run's folder, or the file itself.

        Raises ValueError when there is none, when it is damaged or of another version, and when a
        setting differs, naming each.
        """
        path = path / FILE if path.is_dir() or not path.suffix else path
        folder = path.parent
        if not path.is_file() and _before(path).is_file():
            path = _before(path)  # cut off between the two
        if not path.is_file():
            raise ValueError(f"--resume {folder}: there is no {path.name} in it")
        _check_archive(path)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            version = state.pop("version")
        except Exception as error:
            raise _damaged(path, error) from None
        if version != VERSION:
            raise ValueError(
                f"--resume {folder}: {path.name} has version {version}, expected {VERSION}: "
                "train anew"
            )
        differing = [
            f"{name.replace('_', '-')} was {state['settings'].get(name)}, is {value}"
            for name, value in settings.items()
            if state["settings"].get(name) != value
        ]
        if differing:
            raise ValueError(
                f"--resume {folder}: the checkpoint is of another run: " + "; ".join(differing)
            )
        return cls(**{**state, "moment": Moment(*state["moment"])})


def save_best(folder: Path, model: dict[str, Any], scores: dict[str, Any]) -> None:
    """Write ``folder/best.pt``: ``model``, the state dict, and the ``scores`` it was given."""
    with whole(folder / BEST) as partial:
        torch.save({"model": model, "scores": scores, "version": VERSION}, partial)


def load_best(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state dict, scores) of ``folder/best.pt``. Raises ValueError: absent or damaged."""
    path = folder / BEST
    if not path.is_file():
        raise ValueError(f"{folder}: there is no {BEST} in it; train with --out {folder}")
    _check_archive(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state["model"], state["scores"]


def finished(path: Path, epochs: int) -> dict[str, Any] | None:
    """The summary of a run that has all its epochs, where ``path`` is its folder; else None.

    Raises ValueError where it has more.
    """
    summary = path / "summary.json"
    if not summary.is_file() or not (path / FILE).is_file():
        return None
    found: dict[str, Any] = json.loads(summary.read_text())
    trained = found.get("config", {}).get("epochs", 0)
    if trained > epochs:
        raise ValueError(
            f"--epochs {epochs}: the run in {path} has trained {trained}; give at least as many, "
            "or another --out"
        )
    return found if trained == epochs else None
