"""rudder: a prefetch buffer for remote feature rows, steered while training goes on.

It wraps any ``fetch(ids) -> rows`` and knows nothing of MPI or graphs.
"""
