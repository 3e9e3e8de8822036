"""``python -m benchmarks.lab``."""

from benchmarks.lab.command import main

main()
