"""What every ``python -m`` here shares: flags made from a dataclass, tables for people."""
