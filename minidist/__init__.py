"""minidist: compact distributed GNN training in pure PyTorch.

The commands are ``minidist.train`` and ``minidist.partition``. As a library:

    open_world     who we are among the ranks      Parts          a partition directory
    Loader         minibatches of one rank         GradientSum    exact global gradients
    steer          a rudder buffer before it
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rudder.cli.kernel_cache import settle

settle(Path(__file__).parent)  # before any module imports numba

if TYPE_CHECKING:
    from minidist.comm.world import World, open_world
    from minidist.prefetch import steer
    from minidist.sampling.loader import Loader
    from minidist.store.partition_dir import Parts
    from minidist.training.gradients import GradientSum

__all__ = ["GradientSum", "Loader", "Parts", "World", "open_world", "steer"]
_MODULES = {
    "GradientSum": "minidist.training.gradients",
    "Loader": "minidist.sampling.loader",
    "Parts": "minidist.store.partition_dir",
    "World": "minidist.comm.world",
    "open_world": "minidist.comm.world",
    "steer": "minidist.prefetch",
}


if not TYPE_CHECKING:  # or type checkers would believe in any name

    def __getattr__(name: str) -> Any:
        """A public name, imported when asked for: who asks for help does not wait for PyTorch."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
