"""Scoreboard: the cells of a comparison as tables and as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.charts import Bar, Line, Panel, figure
from benchmarks.command import shown
from benchmarks.lab.hosts import bits_per_second
from rudder.cli.table import render


def name_of(record: Mapping[str, Any], swept: str | None) -> str:
    """What a cell is called: its graph and, in a sweep, the value."""
    value = "" if swept in (None, "graph") else f", {swept} {record[str(swept)]}"
    return f"{record['graph']}{value}"


def text(found: Mapping[str, Any]) -> str:
    """All cells for people."""
    return "\n\n".join(map(cell_text, found["cells"]))


def cell_text(record: dict[str, Any]) -> str:
    """One cell for people: the setting, its limit, and a row a variant."""
    limit, mb = record["limit"], {name: num / 1e6 for name, num in record["crossing"].items()}
    words = [
        "{graph}: {hosts} hosts of {ranks_per_host} ranks, links of {rate}, buffer {buffer:g} of "
        "the halo, batch {batch_size}, hidden {hidden}, {steps_per_epoch} steps an epoch, "
        "{repeats} runs each".format(**record),
        "limit {limit_s:.3f} s = max(compute {compute_s:.3f}, fewest bytes {link_s:.3f}); "
        "communication / compute {communication_ratio:.2f}; here {here_s:.3f} s".format(**limit),
        "must cross a link an epoch: rows {rows_none:.2f} MB, by Belady {rows:.2f}; sampling "
        "{sampling:.2f}; gradients {gradients:.2f}".format(**mb),
        f"equal under all: losses {record['losses_sha256'][:12]}, test accuracy "
        f"{record['test_accuracy']:.4f}",
    ]
    header = (
        *("prefetch", "epoch s", "fastest", "slowest", "wait s", "misses", "replaced", "MB rows"),
        *("MB links", "%-Hits", "Pass@1", "r", "x none", "x fixed", "/ limit", "/ here"),
    )
    lines = []
    for name, figures in record["variants"].items():
        rows, moved = figures["rows"], figures["bytes_missed"] + figures["bytes_replaced"]
        times = ("epoch_time_s", "fastest_s", "slowest_s", "wait_s")
        lines.append(
            (
                *(name, *(f"{figures[key]:.3f}" for key in times)),
                *(rows["misses"], rows["replacements"]),
                *(f"{moved / 1e6:.1f}", f"{figures['link_bytes'] / 1e6:.1f}"),
                *(shown(figures[key], 1) for key in ("hits_pct", "pass_at_1", "interval")),
                *(shown(figures[key], 2) for key in ("times_none", "times_fixed", "over_limit")),
                shown(figures["epoch_time_s"] / limit["here_s"], 2),
            )
        )
    return "\n".join([*words, "", render(lines, header)])


def draw(records: Sequence[dict[str, Any]], swept: str | None) -> str:
    """The figure, as SVG: epoch times by variant of each cell, and over a sweep of numbers."""
    panels: list[Panel] = [_bars(record, name_of(record, swept)) for record in records]
    values = _numbers([record[swept] for record in records]) if swept else []
    if len(values) > 1:
        panels += _curves(records, values, str(swept))
    shared = {"hosts": "{} hosts", "rate": "links of {}", "graph": "{}"}
    known = [text.format(records[0][key]) for key, text in shared.items() if key != swept]
    return figure(f"Epoch time: {', '.join(known)}", panels)


def _bars(record: dict[str, Any], name: str) -> Panel:
    times = ("epoch_time_s", "fastest_s", "slowest_s")
    found = {key: [each[time] for time in times] for key, each in record["variants"].items()}
    groups = {key: [Bar(name=key, value=all_[0], interval=all_[1:])] for key, all_ in found.items()}
    groups["limit"] = [Bar(name="limit", value=record["limit"]["limit_s"])]
    return Panel(title=name, x="s an epoch", groups=groups)


def _curves(records: Sequence[dict[str, Any]], values: Sequence[float], name: str) -> list[Panel]:
    """Each variant over the values: its time beside the limit, and its ratio to the limit."""

    def lines(key: str) -> list[Line]:
        return [
            Line(name=each, xs=values, ys=[record["variants"][each][key] for record in records])
            for each in records[0]["variants"]
        ]

    unit = "rate, Mbit/s" if name == "rate" else name
    limit = Line(name="limit", xs=values, ys=[record["limit"]["limit_s"] for record in records])
    times = Panel(title="Epoch time", x=unit, y="s", lines=[*lines("epoch_time_s"), limit])
    return [times, Panel(title="Epoch time / limit", x=unit, y="times", lines=lines("over_limit"))]


def _numbers(values: Sequence[Any]) -> list[float]:
    """The values of a sweep where all are numbers; rates in Mbit/s."""
    bits = [
        bits_per_second(value) if isinstance(value, str) and value.endswith("bit") else None
        for value in values
    ]
    rates = [bit / 1e6 for bit in bits if bit is not None]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return next((each for each in (rates, numbers) if len(each) == len(values)), [])
