"""Replay: recorded minibatches under other policies, deciders and buffers."""
