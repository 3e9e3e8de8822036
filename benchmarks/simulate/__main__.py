"""``python -m benchmarks.simulate``."""

from benchmarks.simulate.command import main

main()
