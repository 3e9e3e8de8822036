"""The buffer of remote rows: which id lies in which slot, and the rows themselves."""
