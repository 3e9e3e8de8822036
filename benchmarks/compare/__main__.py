"""``python -m benchmarks.compare``."""

from benchmarks.compare.command import main

main()
