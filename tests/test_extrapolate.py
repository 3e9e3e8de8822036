"""Many trainers from a few: by hand where all are even, farther the more there are where not."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.model.command import ModelConfig
from benchmarks.model.costs import Cluster, Costs, slowest_of
from benchmarks.model.extrapolate import Scaled, scaled, spread
from benchmarks.model.modelled import check_table, error_of, panels, scale_table
from benchmarks.paper.chart import figure
from rudder.cli.flags import from_args

COSTS = Costs(
    sample_s=0.01,
    sample_edge_s=0.0,
    fetch_s=0.02,
    fetch_row_s=0.0,
    train_s=0.03,
    train_edge_s=1e-6,
    exchange_s=0.0,
    link_share=1.0,
    ahead_share=1.0,
    queue=0.0,
    sum_s=0.001,
    gradient_bytes=0.0,
)


def make_scale(count: int, remote: tuple[int, int] = (1000, 1000)) -> dict[str, Any]:
    """Two of so many trainers were played: 3 epochs of 2 minibatches; a buffer spares half."""
    steps = 6

    def line(setting: str, share: float) -> dict[str, Any]:
        moved = [[round(share * rows)] * steps for rows in remote]
        return {
            "setting": setting,
            "buffer": 0.25,
            "moved_rows_by_step": moved,
            "moved_pct": 100 * share,
            "moved_pct_error": 1.0,
        }

    return {
        "trainers": count,
        "num_features": 98,
        "sampled": [
            {
                "minibatches_per_epoch": 2,
                "remote": [rows] * steps,
                "nodes": [5000] * steps,
                "edges": [10_000] * steps,
                "neighbor_bytes": [0] * steps,
            }
            for rows in remote
        ],
        "rows": [line("fixed", 0.5), line("rudder llm", 0.5), line("lookahead", 0.4)],
    }


def cells(
    count: int, remote: tuple[int, int] = (1000, 1000), jitter: float = 0.0
) -> dict[str, Scaled]:
    cluster = Cluster(ranks=count, cores=8.0 * count, link=1e7)
    costs = dataclasses.replace(COSTS, jitter=jitter)
    found = scaled(make_scale(count, remote), "80mbit", cluster, costs, [0.0, 0.5], 0.25)
    return {cell.setting: cell for cell in found}


def test_even_trainers_by_hand() -> None:
    found = cells(16)
    # 1000 rows of 400 bytes at 10 MB/s take 0.04 s; the sum over 16 four rounds.
    assert found["none"].epoch_s == pytest.approx(2 * (0.01 + 0.02 + 0.04 + 0.04 + 0.004))
    # Training and the sum: all else is ahead.
    assert found["overlap"].epoch_s == pytest.approx(2 * 0.044)
    assert found["fixed"].epoch_s == pytest.approx(2 * 0.044)
    assert found["none"].training_pct == pytest.approx(100 * 0.08 / found["none"].epoch_s)
    # Nothing grows with them but the sum, from one round to four.
    assert found["none"].even_s == pytest.approx(found["none"].epoch_s - 2 * 0.003)
    assert found["fixed"].even_s == pytest.approx(2 * 0.041)
    grown = 100 * 2 * 0.003 / found["overlap"].epoch_s
    assert found["overlap"].error_pct(5.0) == pytest.approx((5.0**2 + grown**2) ** 0.5)
    # What is not known of the rows: 1 of 50 points.
    assert found["fixed"].error_pct(0.0) == pytest.approx(np.hypot(2.0, 100 * 0.003 / 0.044))


def test_decisions_hide_or_show() -> None:
    found = cells(16)
    assert found["rudder llm async 500 ms"].epoch_s == found["fixed"].epoch_s
    assert found["rudder llm async 500 ms"].interval == 12
    assert found["rudder llm sync 0 ms"].epoch_s == found["fixed"].epoch_s
    # Gathering takes 0.02 s and waits for half a second; rows come meanwhile.
    assert found["rudder llm sync 500 ms"].epoch_s == pytest.approx(2 * 0.52)
    assert found["rudder llm sync 500 ms"].interval == 1


def test_the_slowest_of_many() -> None:
    assert slowest_of(1) == 0.0
    far = [slowest_of(count) for count in (2, 16, 64, 256)]
    assert far == sorted(far)
    drawn = np.random.default_rng(0).standard_normal((4000, 256)).max(axis=1).mean()
    assert far[-1] == pytest.approx(drawn, rel=0.02)
    assert spread(np.array([[9.0, 18.0], [11.0, 22.0]])) == pytest.approx(0.1 * 2**0.5)
    assert spread(np.array([[9.0, 18.0]])) == 0.0
    uneven = [cells(count, (900, 1100))["none"] for count in (16, 256)]
    assert uneven[0].even_s < uneven[0].epoch_s < uneven[1].epoch_s
    assert uneven[0].error_pct(5.0) < uneven[1].error_pct(5.0)
    assert cells(256, jitter=0.1)["none"].epoch_s > cells(256)["none"].epoch_s


def test_a_buffer_that_was_not_simulated() -> None:
    cluster = Cluster(ranks=16, cores=32, link=1e7)
    with pytest.raises(ValueError, match=r"--buffer 0.5: the simulation has none"):
        list(scaled(make_scale(16), "80mbit", cluster, COSTS, [], 0.5))


def test_what_is_said_of_it() -> None:
    checks = [
        {"place": place, "ranks": ranks, "variant": "none", "error_pct": error}
        | {"predicted_s": 1.0, "measured_s": 1.0}
        for place, ranks, error in (("4", 4, 3.0), ("4@1gbit", 4, -5.0), ("8", 8, 40.0))
    ]
    errors = error_of(checks)
    assert dataclasses.asdict(errors) == {
        "median_pct": 5.0,
        "worst_pct": 40.0,
        "worst_at": "none at 8",
        "by_ranks": {4: 4.0, 8: 40.0},
        "count": 3,
    }
    assert errors.carried_pct == 40.0
    assert error_of(checks[:2]).carried_pct == 4.0
    assert "median 5.0%, worst 40.0% (none at 8)" in errors.text()
    rows = [cell.row(5.0) for count in (16, 64) for cell in cells(count).values()]
    assert "-5.0" in check_table(checks)
    assert "lookahead" in scale_table(rows)
    bars, lines = panels(checks, rows)
    assert bars.title == "predicted against measured"
    assert "80mbit" in lines.title
    assert figure("model", [bars, lines]).startswith("<svg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--check 2", "--check 2: the model is calibrated there"),
        ("--check 2@500mbit", "--check 2@500mbit: the model is calibrated there"),
        ("--check four", "--check four: expected ranks, or hosts and the rate"),
        ("--variants best", "--variants best: expected some of none, overlap"),
        ("--calibrate none", "--calibrate none: expected the rate of a link"),
        ("--cluster fast", "--rate fast: expected a rate"),
        ("--decision-ms soon", "--decision-ms soon: expected numbers"),
        ("--epochs 1", "--epochs 1: expected at least 2"),
        ("--speedup 0", "--speedup 0.0: expected more than 0"),
    ],
)
def test_bad_input(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_args(ModelConfig, words.split())
