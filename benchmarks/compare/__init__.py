"""One training under every way to prefetch, in turn within one lab."""
