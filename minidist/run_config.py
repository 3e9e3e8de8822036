"""RunConfig: the settings of a run, training's and steering's."""

from dataclasses import dataclass

from minidist.config import TrainConfig
from rudder.cli.flags import require
from rudder.config import SteerConfig
from rudder.presets import read_preset


@dataclass(frozen=True, kw_only=True)
class RunConfig(SteerConfig, TrainConfig):
    """Settings of ``python -m minidist.train``: training's and steering's."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        SteerConfig.__post_init__(self)
        read_preset(self)
        first_look = self.dataset is None and self.parts is None and self.resume is None
        if self.compare is None:
            object.__setattr__(self, "compare", first_look and not self.trace_only)
        require(
            not (self.compare and self.resume),
            *("compare", True, "no --resume: a comparison begins at the first minibatch"),
        )
        require(
            self.steer == "rows",
            *("steer", self.steer, "rows: sizes are steered in replays, see rudder.replay"),
        )
        require(
            self.trace is None or self.resume is None,
            *("trace", self.trace, "no --resume: a trace begins at the first minibatch"),
        )
