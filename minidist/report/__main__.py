"""One HTML page of what runs showed: time, traffic, decisions and why, runs side by side.

python -m minidist.report runs/a                              one run, to report.html
python -m minidist.report runs/* --out compare.html           several runs, side by side
python -m minidist.report runs/a --trace traces/a             and every policy against the bound
python -m minidist.report runs/a --grid grid.json             the same, of rudder.replay --json

A run is a folder of ``minidist.train --out``; one that did not finish is shown as far as it came.
The page is one file that needs no network: send it, or open it where it is.
"""

from dataclasses import dataclass
from pathlib import Path

from rudder.cli.flags import fail, flag, parse, positional


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of ``python -m minidist.report``."""

    runs: tuple[str, ...] = positional("folders that minidist.train --out wrote")
    out: str = flag("report.html", "the page")
    grid: str | None = flag(None, "grid of rudder.replay --json, for policies and their bound")
    trace: str | None = flag(None, "folder of --trace to replay now, for the same")


def main() -> None:
    """The command line."""
    config = parse(ReportConfig, __doc__)
    # What draws and replays takes seconds to import: who asks for help does not wait.
    from minidist.report.page import write_report

    out = Path(config.out)
    grid, trace = (None if name is None else Path(name) for name in (config.grid, config.trace))
    try:
        write_report([Path(run) for run in config.runs], out, grid, trace)
    except (ValueError, OSError) as error:
        fail(error)
    print(f"wrote {out} ({out.stat().st_size / 1024:,.0f} KiB)")


if __name__ == "__main__":
    main()
