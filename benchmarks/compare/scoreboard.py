"""Scoreboard: the cells of a comparison as tables and as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.charts import Bar, Line, Panel, figure
from benchmarks.lab.hosts import bits_per_second
from rudder.cli.table import render


def name_of(record: Mapping[str, Any], swept: str | None) -> str:
    """What a cell is called: its graph and, in a sweep, the value."""
    value = "" if swept in (None, "graph") else f", {swept} {record[str(swept)]}"
    return f"{record['graph']}{value}"


def cell_text(record: dict[str, Any]) -> str:
    """One cell for people: the setting, its limit, and a row a variant."""
    limit, crossing = record["limit"], record["crossing"]
    head = (
        f"{record['graph']}: {record['hosts']} hosts, links of {record['rate']}, buffer "
        f"{record['buffer']:g} of the halo, batch {record['batch_size']}, hidden "
        f"{record['hidden']}, {record['steps_per_epoch']} steps an epoch, {record['repeats']} runs "
        f"each"
    )
    bound = (
        f"limit {limit['limit_s']:.3f} s = max(compute {limit['compute_s']:.3f}, fewest bytes "
        f"{limit['link_s']:.3f}); communication / compute {limit['communication_ratio']:.2f}; "
        f"here {limit['here_s']:.3f} s"
    )
    parts = (
        f"must cross a link an epoch: rows {crossing['rows_none'] / 1e6:.2f} MB, by Belady "
        f"{crossing['rows'] / 1e6:.2f}; sampling {crossing['sampling'] / 1e6:.2f}; gradients "
        f"{crossing['gradients'] / 1e6:.2f}"
    )
    equal = (
        f"equal under all: losses {record['losses_sha256'][:12]}, test accuracy "
        f"{record['test_accuracy']:.4f}"
    )
    header = (
        *("prefetch", "epoch s", "fastest", "slowest", "wait s", "misses", "replaced", "MB rows"),
        *("MB links", "%-Hits", "Pass@1", "r", "x none", "x fixed", "/ limit", "/ here"),
    )
    lines = []
    for name, figures in record["variants"].items():
        rows = figures["rows"]
        moved = figures["bytes_missed"] + figures["bytes_replaced"]
        lines.append(
            (
                name,
                *(f"{figures[key]:.3f}" for key in ("epoch_time_s", "fastest_s", "slowest_s")),
                f"{figures['wait_s']:.3f}",
                *(rows["misses"], rows["replacements"]),
                *(f"{moved / 1e6:.1f}", f"{figures['link_bytes'] / 1e6:.1f}"),
                *(_shown(figures[key], 1) for key in ("hits_pct", "pass_at_1", "interval")),
                *(_shown(figures[key], 2) for key in ("times_none", "times_fixed", "over_limit")),
                _shown(figures["epoch_time_s"] / limit["here_s"], 2),
            )
        )
    return "\n".join([head, bound, parts, equal, "", render(lines, header)])


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


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
    groups = {
        name: [
            Bar(
                name=name,
                value=figures["epoch_time_s"],
                interval=(figures["fastest_s"], figures["slowest_s"]),
            )
        ]
        for name, figures in record["variants"].items()
    }
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
    limits = [record["limit"]["limit_s"] for record in records]
    limit = Line(name="limit", xs=values, ys=limits)
    times = Panel(
        title="Epoch time",
        x=unit,
        y="s",
        lines=[*lines("epoch_time_s"), limit],
    )
    ratios = Panel(title="Epoch time / limit", x=unit, y="times", lines=lines("over_limit"))
    return [times, ratios]


def _numbers(values: Sequence[Any]) -> list[float]:
    """The values of a sweep where all are numbers; rates in Mbit/s."""
    bits = [
        bits_per_second(value) if isinstance(value, str) and value.endswith("bit") else None
        for value in values
    ]
    rates = [bit / 1e6 for bit in bits if bit is not None]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return next((each for each in (rates, numbers) if len(each) == len(values)), [])
