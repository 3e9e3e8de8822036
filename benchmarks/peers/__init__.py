"""Peers: other systems that train the same graph on the same machine, timed in one run with us."""
