"""Command: what the command lines of all benchmarks do with their settings and with what they find.

    config = parse(MyConfig, __doc__)
    answer(config, measure, table)            table(measure(config)) on stdout; --json, --figure

Modules that a command line needs import PyTorch late: who asks for help does not wait for it.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.lab.hosts import Unavailable, ending_on_signals
from rudder.cli.flags import fail, require
from rudder.cli.table import render
from rudder.cli.whole_file import write_json, write_text

Row = dict[str, Any]


@contextmanager
def one_line() -> Iterator[None]:
    """What cannot be is one line and exit code 2; what was started ends first, also on signals."""
    try:
        with ending_on_signals():
            yield
    except (ValueError, OSError, Unavailable, subprocess.TimeoutExpired) as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def at_least(config: Any, least: int, *names: str) -> None:
    """Raise ValueError unless these settings, or all numbers of each, are so large or left open."""
    for name in names:
        given = getattr(config, name)
        numbers = given if isinstance(given, tuple) else () if given is None else (given,)
        enough = all(number >= least for number in numbers)
        require(enough, name, ",".join(map(str, numbers)), f"at least {least}")


def check_files(config: Any) -> None:
    """Raise ValueError unless what ``--json`` and ``--figure`` name can be written later."""
    for name in ("json", "figure"):
        file = getattr(config, name, None)
        there = file is None or Path(file).absolute().parent.is_dir()
        require(there, name, file, "a file in a folder that exists")


def answer(
    config: Any,
    measure: Callable[[Any], Row],
    text: Callable[[Row], str],
    draw: Callable[[Row], str] | None = None,
) -> Row:
    """Measure, print for people, and write ``config.json`` (settings and figures) and
    ``config.figure`` (SVG) where these are named; what was measured."""
    with one_line():
        check_files(config)
        found = measure(config)
        print(text(found), flush=True)
        if getattr(config, "json", None) is not None:
            write_json(config.json, {"config": asdict(config), **found})
        if draw is not None and config.figure is not None:
            write_text(config.figure, draw(found))
    return found


def table(rows: Sequence[Row], keys: str) -> str:
    """Rows for people: these keys of each, with the +- of a figure that has a KEY_error."""

    def cell(row: Row, key: str) -> object:
        value, error = row.get(key), row.get(f"{key}_error", 0.0)
        if value is None:
            return "-"
        if isinstance(value, float) and abs(value) >= 1000:
            value = round(value)
        if error == 0:
            return value
        told = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        return f"{told} +-{'?' if error is None else f'{error:,.3g}'}"

    header = [key.replace("_pct", " %").replace("_", " ") for key in keys.split()]
    return render([[cell(row, key) for key in keys.split()] for row in rows], header)
