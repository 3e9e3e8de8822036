"""Replay recorded traces under other policies, deciders and buffers: what each would have moved.

python -m minidist.train --trace-only --trace traces/run              record
python -m rudder.replay traces/run --prefetch all --buffer 0.05,0.25  compare
python -m rudder.replay traces/run --prefetch own                     the run itself, exactly
python -m rudder.replay traces/* --prefetch rudder --decider always,every:10,llm --json grid.json
python -m rudder.replay traces/run --prefetch lookahead --steer size --decider never,rule,llm
    --link 1000,200,1000 --memory-limit 0.5          the buffer's size, where the link changes

No row is moved and nothing is trained, so a grid takes seconds. Deciders are asked about every
minibatch, as with ``--decider-mode sync``. Beside each row stand the rows that the best possible
demand-filled buffer of that size would have moved (Belady), and C/b: no buffer of C rows that is
filled before a minibatch of b rows can hit more than C/b of it.
"""

from dataclasses import asdict

from rudder.cli.flags import fail, parse
from rudder.cli.whole_file import write_json
from rudder.replay.grid import ReplayConfig, costs_table, grid, grid_table
from rudder.replay.link import add_regret


def main() -> None:
    """The command line."""
    config = parse(ReplayConfig, __doc__)
    try:
        rows = list(grid(config))
        timed = bool(config.link) and config.prefetch != "own"
        if timed:
            add_regret(rows)
        if config.json is not None:
            write_json(config.json, {"config": asdict(config), "grid": rows})
    except (ValueError, OSError) as error:
        fail(error)
    print(costs_table(rows) if timed else grid_table(rows))


if __name__ == "__main__":
    main()
