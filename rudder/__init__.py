"""rudder: a prefetch buffer for remote feature rows, steered while training goes on.

It wraps any ``FeatureStore`` and knows nothing of MPI or graphs.
"""

from rudder.config import SteerConfig

__all__ = ["SteerConfig"]
