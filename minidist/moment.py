"""Moment: where in training something happens; samples, dropout and errors depend on it."""

from typing import NamedTuple


class Moment(NamedTuple):
    """Where in training something happens; -1 stands for before, between or after the epochs."""

    epoch: int = -1
    step: int = -1

    def __str__(self) -> str:
        if self.epoch < 0:
            return "outside the epochs"
        return f"epoch {self.epoch}" + (f", step {self.step}" if self.step >= 0 else "")


OUTSIDE = Moment()
