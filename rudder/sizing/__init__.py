"""Settings that choose themselves: the size of the buffer and the window of ``lookahead``."""
