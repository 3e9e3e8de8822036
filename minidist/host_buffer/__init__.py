"""One buffer that all ranks of a host share: their links, the store, and putting it together."""
