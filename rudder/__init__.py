"""rudder: a prefetch buffer for remote feature rows, steered while training goes on.

It wraps any ``FeatureStore`` and knows nothing of MPI or graphs.
"""

from pathlib import Path

from rudder.cli.kernel_cache import settle
from rudder.config import SteerConfig

settle(Path(__file__).parent)  # before any module imports numba

__all__ = ["SteerConfig"]
