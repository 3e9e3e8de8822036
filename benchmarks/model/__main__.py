"""``python -m benchmarks.model``."""

from benchmarks.model.command import main

main()
