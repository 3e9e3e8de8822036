"""One HTML page of what runs showed: time, traffic, decisions and why, runs side by side.

python -m rudder.report runs/a                              one run, to report.html
python -m rudder.report runs/* --out compare.html           several runs, side by side
python -m rudder.report runs/a --trace traces/a             and every policy against the bound
python -m rudder.report runs/a --grid grid.json             the same, as rudder.replay --json wrote

A run is a folder of ``minidist.train --out``; one that did not finish is shown as far as it came.
The page is one file that needs no network: send it, or open it where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.cli.flags import fail, flag, parse, positional
from rudder.cli.whole_file import write_text
from rudder.pages.page import page
from rudder.pages.runs import read_run
from rudder.pages.standings import read_grid
from rudder.pages.trials import try_policies


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of ``python -m rudder.report``."""

    runs: tuple[str, ...] = positional("folders that minidist.train --out wrote")
    out: str = flag("report.html", "the page")
    grid: str | None = flag(None, "grid of rudder.replay --json, for policies and their bound")
    trace: str | None = flag(None, "folder of --trace to replay now, for the same")


def write_report(
    folders: Sequence[Path], out: Path, grid: Path | None = None, trace: Path | None = None
) -> None:
    """Write the page of one or several runs, whole or not at all.

    Raises ValueError where there is no run, or the grid or the trace cannot be read; OSError where
    the page cannot be written.
    """
    if not folders:
        raise ValueError("no run was named")
    if out.is_dir():
        raise ValueError(f"--out {out}: a folder; name the file to write")
    runs = [read_run(folder) for folder in folders]
    rows = [] if grid is None else read_grid(grid)
    if trace is not None:
        rows += try_policies(trace)
    text = page(runs, rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)


def main() -> None:
    """The command line."""
    config = parse(ReportConfig, __doc__)
    out = Path(config.out)
    try:
        write_report(
            [Path(run) for run in config.runs],
            out,
            grid=None if config.grid is None else Path(config.grid),
            trace=None if config.trace is None else Path(config.trace),
        )
    except (ValueError, OSError) as error:
        fail(error)
    print(f"wrote {out} ({out.stat().st_size / 1024:,.0f} KiB)")


if __name__ == "__main__":
    main()
