"""Summary: what a run says of itself at its end, as a table for people."""

from typing import Any

from rudder.cli.table import render


def summary_table(summary: dict[str, Any]) -> str:
    """The summary for people."""
    rows = summary["rows"]
    moved = summary["bytes_moved"] / 2**20
    needed = f"{rows['remote']:,} needed, {rows['hits']:,} hits, {rows['misses']:,} misses"
    lines = [
        (
            "dataset",
            f"{summary['dataset']}: {summary['num_nodes']:,} nodes, {summary['num_edges']:,} edges",
        ),
        (
            "partition",
            "{method}, seed {seed}, {halo_hops} halo hops".format(**summary["partition"]),
        ),
        ("ranks", f"{summary['world_size']} ({summary['transport']}, {summary['device']})"),
        (
            "epoch",
            f"{summary['epoch_time_s']:.3f} s, {summary['steps_per_epoch']} steps of at "
            f"most {summary['batch_size']:,} seeds a rank",
        ),
        ("  the loop", f"train {summary['train_s']:.3f} s, wait {summary['wait_s']:.3f} s"),
        ("  its stages", f"sample {summary['sample_s']:.3f} s, fetch {summary['fetch_s']:.3f} s"),
        ("remote rows", f"{needed}, {rows['replacements']:,} replacements; {moved:,.1f} MiB moved"),
        ("  between hosts", f"{summary['rows_between_hosts']:,}"),
        *_buffer_lines(summary),
        *_policy_lines(summary),
        ("peak memory", f"{summary['peak_memory_mb']:,.0f} MiB a rank"),
        *_learning_lines(summary),
    ]
    return render(lines)


def _learning_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Loss and accuracy, where there was training."""
    if "losses" not in summary:
        return []
    metric = summary["metric"].replace("_", "-")
    lines = [
        ("loss", f"{_number(summary['losses'][-1], 4)} (sha256 {summary['losses_sha256'][:12]})"),
        (
            metric,
            f"test {_number(summary['test_accuracy'], 4)}, "
            f"val {_number(summary['val_accuracy'], 4)} "
            f"(after epoch {summary['best_epoch']} of {summary['config']['epochs']})",
        ),
    ]
    if summary.get("diverged"):
        told = "the loss is no number from epoch {epoch}, step {step} on"
        lines.append(("DIVERGED", told.format(**summary["diverged"])))
    return lines


def _buffer_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What a summary says of the buffer and the decisions, where there were any."""
    lines: list[tuple[str, str]] = []
    buffer, decided = summary["buffer"], summary["decisions"]
    if buffer and any(buffer["capacity"]):
        capacity = f"{max(buffer['capacity']):,} rows a rank ({summary['config']['prefetch']})"
        if buffer["scope"] == "host":
            size = (buffer["bytes"] + buffer["ring_bytes"]) / 2**20
            capacity += f", one buffer a host, {size:,.1f} MiB in all with rows under way"
        lines.append(
            (
                "buffer",
                f"{capacity}, %-Hits {_number(buffer['hits_pct'])}, "
                f"halo alone {_number(buffer['halo_hits_pct'])}",
            )
        )
    if decided:
        ends = [_number(end) for end in decided["pass_at_1_ci"] or (None, None)]
        lines += [
            (
                "decisions",
                f"{decided['count']:,} by {decided['decider']}, every "
                f"{_number(decided['interval'])} minibatches, replace "
                f"{_number(decided['replace_pct'])}%, valid {_number(decided['valid_pct'])}%",
            ),
            ("  Pass@1", f"{_number(decided['pass_at_1'])}% ({ends[0]} to {ends[1]})"),
            (
                "  latency",
                f"p50 {_number(decided['latency_ms_p50'], 3)} ms, "
                f"p95 {_number(decided['latency_ms_p95'], 3)} ms",
            ),
        ]
        lines += [
            ("  failed", f"{times:,} times: {reason}")
            for reason, times in decided["failure_reasons"].items()
        ]
    return lines


def _policy_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The run beside what other policies would have moved, where it was asked to compare."""
    compared = sorted(summary.get("policies") or [], key=lambda row: row["rows_moved"])
    if not compared or not compared[0]["rows_none"]:
        return []
    shares = [
        f"{row['prefetch']} {100 * row['rows_moved'] / row['rows_none']:.0f}%"
        + (" (this run)" if row.get("own") else "")
        for row in compared
    ]
    return [
        ("rows moved", f"of those without a buffer: {', '.join(shares[:4])},"),
        ("", ", ".join([*shares[4:], "none 100%"])),
    ]


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
