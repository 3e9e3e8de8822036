"""Replay recorded traces under other policies, deciders and buffers: what each would have moved.

python -m minidist.train --trace-only --trace traces/run              record
python -m rudder.replay traces/run --prefetch all --buffer 0.05,0.25  compare
python -m rudder.replay traces/run --prefetch own                     the run itself, exactly
python -m rudder.replay traces/* --prefetch rudder --decider always,every:10,llm --json grid.json

No row is moved and nothing is trained, so a grid takes seconds. Deciders are asked about every
minibatch, as with ``--decider-mode sync``. Beside each row stand the rows that the best possible
demand-filled buffer of that size would have moved (Belady), and C/b: no buffer of C rows that is
filled before a minibatch of b rows can hit more than C/b of it.
"""

from dataclasses import asdict

from rudder.cli.flags import fail, parse
from rudder.cli.whole_file import write_json
from rudder.replay.grid import ReplayConfig, grid, grid_table


def main() -> None:
    """The command line."""
    config = parse(ReplayConfig, __doc__)
    try:
        rows = list(grid(config))
        if config.json is not None:
            write_json(config.json, {"config": asdict(config), "grid": rows})
    except (ValueError, OSError) as error:
        fail(error)
    print(grid_table(rows))


if __name__ == "__main__":
    main()
