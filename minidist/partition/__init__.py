"""Partitioning: which part owns which node, and the directory that says so."""
