"""What each ``python -m`` here shares: flags from a dataclass, tables for people, whole files."""
