"""Scoreboard: the cells of a comparison as tables and as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.charts import figure
from benchmarks.command import table
from benchmarks.lab.hosts import bits_per_second
from benchmarks.panels import bars, lines

_COLUMNS = "prefetch epoch_time_s fastest_s slowest_s wait_s misses replacements MB_rows MB_links "
_COLUMNS += "hits_pct pass_at_1 interval times_none times_fixed over_limit over_here"


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
    rows = []
    for name, figures in record["variants"].items():
        moved = figures["bytes_missed"] + figures["bytes_replaced"]
        row = {"prefetch": name, **figures, **figures["rows"]}
        row |= {"MB_rows": moved / 1e6, "MB_links": figures["link_bytes"] / 1e6}
        rows.append({**row, "over_here": figures["epoch_time_s"] / limit["here_s"]})
    return "\n".join([*words, "", table(rows, _COLUMNS)])


def draw(records: Sequence[dict[str, Any]], swept: str | None) -> str:
    """The figure, as SVG: epoch times by variant of each cell, and over a sweep of numbers."""
    values = _numbers([record[swept] for record in records]) if swept else []
    over, rows = "rate, Mbit/s" if swept == "rate" else str(swept), []
    for record, at in zip(records, values or [0.0] * len(records), strict=True):
        limit = {"limit": {"epoch_time_s": record["limit"]["limit_s"]}}
        for name, found in {**record["variants"], **limit}.items():
            ends = [found[key] for key in ("fastest_s", "slowest_s") if key in found]
            row = {"cell": name_of(record, swept), "variant": name, over: at, **found}
            rows.append({**row, "epoch_time_s_ci": ends or None})
    panels = bars(rows, "{cell}", "epoch_time_s")
    if len(values) > 1:
        panels += lines(rows, "All cells", over, "epoch_time_s over_limit")
    shared = {"hosts": "{} hosts", "rate": "links of {}", "graph": "{}"}
    known = [text.format(records[0][key]) for key, text in shared.items() if key != swept]
    return figure(f"Epoch time: {', '.join(known)}", panels)


def _numbers(values: Sequence[Any]) -> list[float]:
    """The values of a sweep where all are numbers; rates in Mbit/s."""
    bits = [
        bits_per_second(value) if isinstance(value, str) and value.endswith("bit") else None
        for value in values
    ]
    rates = [bit / 1e6 for bit in bits if bit is not None]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return next((each for each in (rates, numbers) if len(each) == len(values)), [])
