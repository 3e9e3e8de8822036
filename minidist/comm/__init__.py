"""Communication: who the ranks are, what they sum together, and how rows travel."""
