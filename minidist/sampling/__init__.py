"""Sampling: from seed nodes to minibatches with features."""
