"""minidist: compact distributed GNN training in pure PyTorch.

The commands are ``minidist.train`` and ``minidist.partition``. As a library:

    open_world     who we are among the ranks      Parts          a partition directory
    Loader         minibatches of one rank         GradientSum    exact global gradients
    minidist.steered.steer                         a rudder buffer in front of a loader
"""

from minidist.gradients import GradientSum
from minidist.loader import Loader
from minidist.parts import Parts
from minidist.world import World, open_world

__all__ = ["GradientSum", "Loader", "Parts", "World", "open_world"]
