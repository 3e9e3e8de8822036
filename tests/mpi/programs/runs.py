"""Several runs one after the other in one job, each in a world of its own.

Arguments: a file for their summaries as JSON, then the flags of each.
"""

import json
import sys

from minidist.comm.world import open_world
from minidist.run import train
from minidist.run_config import RunConfig
from rudder.cli.flags import from_args


def main() -> None:
    summaries = []
    for flags in sys.argv[2:]:
        with open_world(device="cpu", fetch_timeout=30) as world:
            summaries.append(train(from_args(RunConfig, flags.split()), world, quiet=True))
    if world.rank == 0:
        with open(sys.argv[1], "w") as file:
            json.dump(summaries, file)


if __name__ == "__main__":
    main()
