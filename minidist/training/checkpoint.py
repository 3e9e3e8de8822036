"""Checkpoint: everything a resumed run needs to go on as if it had not stopped.

Samples and dropout are pure functions of (seed, epoch, step, rank), so there is no generator state
to keep: the model, the optimizer, where we are, and the losses so far are enough. A rank's buffer
changes no loss; its ids are kept beside, so that a resumed run need not fill it anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minidist.moment import Moment
from rudder.cli.whole_file import whole

VERSION = 2
_FILE = "checkpoint.pt"


def save_prefetcher(folder: Path, rank: int, state: dict[str, NDArray[Any]]) -> None:
    """Write what one rank's prefetching keeps to ``folder/prefetch-rank<r>.npz``."""
    if state:
        with whole(folder / f"prefetch-rank{rank}.npz") as partial, partial.open("wb") as file:
            np.savez(file, **state)  # type: ignore[arg-type]


def load_prefetcher(folder: Path, rank: int) -> dict[str, NDArray[Any]]:
    """Read ``save_prefetching``'s file; empty where there is none.

    Raises ValueError when it cannot be read.
    """
    path = folder / f"prefetch-rank{rank}.npz"
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:
        raise ValueError(f"--resume {folder}: {path.name} cannot be read: {error}") from None


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
        """Write ``folder/checkpoint.pt``, whole or not at all."""
        state = {**vars(self), "moment": tuple(self.moment), "version": VERSION}
        with whole(folder / _FILE) as partial:
            torch.save(state, partial)

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> "Checkpoint":
        """Read a checkpoint of a run with these settings.

        Raises ValueError when there is none, when it is damaged or of another version, and when a
        setting differs, naming each.
        """
        path = folder / _FILE
        if not path.is_file():
            raise ValueError(f"--resume {folder}: there is no {_FILE} in it")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            version = state.pop("version")
        except Exception as error:
            raise ValueError(f"--resume {folder}: {_FILE} cannot be read: {error}") from None
        if version != VERSION:
            raise ValueError(
                f"--resume {folder}: {_FILE} has version {version}, expected {VERSION}: train anew"
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
