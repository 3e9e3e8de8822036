"""The simulation counts what real runs count, and says what it cannot read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.paper.chart import figure
from benchmarks.simulate.command import SimulateConfig, sampled, simulate
from benchmarks.simulate.scaling import row
from benchmarks.simulate.simulated import panels, table
from benchmarks.simulate.split import Split
from benchmarks.simulate.steps import Steps, label_of
from benchmarks.simulate.trainers import Played, Trainers
from minidist.comm.rank_threads import run_in_threads
from minidist.comm.transport.base import Op, Traffic
from minidist.comm.world import World
from minidist.config import PartitionConfig
from minidist.partition.partitioner import run as partition
from minidist.run import train, train_in_threads
from minidist.run_config import RunConfig
from minidist.store.partition_dir import Parts
from rudder.cli.flags import from_args
from rudder.config import SteerConfig
from rudder.planner import Counters
from rudder.replay.trace import read_traces

RUN: dict[str, Any] = {"fanout": (5, 4), "batch_size": 20, "epochs": 3, "seed": 3}
SETTINGS = (
    *(("overlap", None), ("fixed", None), ("massivegnn", None), ("degree", None), ("vip", None)),
    *(("lru", None), ("lfu", None), ("lookahead", None), ("rudder", "every:3")),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A generated graph of 1000 nodes in three parts."""
    path = tmp_path_factory.mktemp("simulate") / "parts"
    partition(PartitionConfig(dataset="synthetic:tiny", parts=3, out=str(path)))
    return Parts.open(path)


@pytest.fixture(scope="module")
def played(parts: Parts) -> list[Played]:
    trainers = Trainers(
        parts=parts, fanouts=RUN["fanout"], batch_size=20, epochs=RUN["epochs"], seed=RUN["seed"]
    )
    return [trainers.play(rank) for rank in range(3)]


@pytest.mark.parametrize(("prefetch", "decider"), SETTINGS)
def test_rows_are_those_of_a_run(
    prefetch: str, decider: str | None, parts: Parts, played: list[Played]
) -> None:
    config = SteerConfig(prefetch=prefetch, decider=decider, buffer=0.2)
    summary = train_in_threads(
        RunConfig(
            **RUN,
            parts=str(parts.path),
            ranks=3,
            transport="local",
            hidden=8,
            eval_every=0,
            prefetch=prefetch,
            decider=decider,
            buffer=0.2,
        ),
        quiet=True,
    )
    counters = Counters()
    for one in played:
        steps = Steps.of(one.trace, config)
        counters += steps.counters
        assert steps.moved.sum() == steps.counters.moved
    rows = summary["rows"]
    assert rows["remote"] == counters.remote
    assert rows["hits"] == counters.hits
    assert rows["misses"] == counters.misses
    assert rows["replacements"] == counters.replacements


def test_traces_are_those_of_a_run(parts: Parts, played: list[Played], tmp_path: Path) -> None:
    folder = tmp_path / "trace"
    config = RunConfig(
        **RUN,
        parts=str(parts.path),
        ranks=3,
        prefetch="overlap",
        trace=str(folder),
        trace_only=True,
    )
    train_in_threads(config, quiet=True)
    for one, recorded in zip(played, read_traces(folder), strict=True):
        np.testing.assert_array_equal(one.trace.ids, recorded.ids)
        np.testing.assert_array_equal(one.trace.offsets, recorded.offsets)
        for name in ("halo", "halo_degrees", "frequent", "frequencies"):
            ours, theirs = getattr(one.trace.prior, name), getattr(recorded.prior, name)
            np.testing.assert_array_equal(ours, theirs)
        assert one.trace.facts == recorded.facts


def test_bytes_are_those_between_hosts(parts: Parts, played: list[Played]) -> None:
    def received(world: World) -> Traffic:
        config = RunConfig(**RUN, parts=str(parts.path), prefetch="none", hidden=8, eval_every=0)
        train(config, world, quiet=True)
        return world.transport.traffic

    found = run_in_threads(received, 3, share_hosts=False)
    for one, traffic in zip(played, found, strict=True):
        assert one.reply_bytes.sum() == traffic.received[Op.NEIGHBORS].sum()
        rows = traffic.received[Op.ROWS]
        np.testing.assert_array_equal(one.owners.sum(0) * 4 * parts.num_features, rows)


def test_a_scale_without_features(tmp_path: Path) -> None:
    words = ["--dataset", "synthetic:tiny", "--trainers", "2,8", "--sample", "3"]
    words += ["--batch-size", "20", "--epochs", "2", "--fanout", "4,4", "--buffer", "0.1,0.5"]
    words += ["--prefetch", "lookahead,fixed,rudder", "--decider", "never,once"]
    config = from_args(SimulateConfig, [*words, "--folder", str(tmp_path)])
    scales = list(simulate(config))
    assert [scale["trainers"] for scale in scales] == [2, 8]
    assert [len(scale["sampled"]) for scale in scales] == [2, 3]
    assert scales[0]["num_features"] == 32
    for scale in scales:
        assert len(scale["rows"]) == 2 * 4
        for line in scale["rows"]:
            by_step = np.array(line["moved_rows_by_step"])
            mean = by_step.sum() / len(by_step) / config.epochs
            assert line["moved_rows_per_epoch"] == pytest.approx(mean)
            assert line["moved_pct"] >= line["belady_pct"] - 1e-9
            if line["setting"] == "rudder never":
                assert line["moved_pct"] == 100.0
        none = scale["rows"][0]["none_rows_per_epoch"]
        remote = [sum(one["remote"]) for one in scale["sampled"]]
        assert none == pytest.approx(np.mean(remote) / config.epochs)
    # All trainers of 2 were played, so there is nothing to be uncertain about.
    assert {line["moved_pct_error"] for line in scales[0]["rows"]} == {0.0}
    assert all(line["moved_pct_error"] > 0 for line in scales[1]["rows"] if line["hits_pct"])
    assert "lookahead" in table(scales)
    drawn = panels(scales)
    names = [[line.name for line in panel.lines] for panel in drawn]
    assert names[0] == names[2] == ["lookahead", "fixed", "rudder never", "rudder once"]
    assert names[1] == names[3] == [*names[0], "Belady's bound"]
    assert figure("scale", drawn).startswith("<svg")
    json.dumps(scales)


def test_partitions_are_kept(tmp_path: Path) -> None:
    split = Split(dataset="synthetic:tiny", method="stream")
    first, again = split.parts(4, tmp_path), split.parts(4, tmp_path)
    assert first.path == again.path
    assert first.checksum == again.checksum
    with pytest.raises(ValueError, match="at most 300 parts"):
        split.parts(500, tmp_path)


def test_sampled_ranks() -> None:
    assert sampled(4, 8) == [0, 1, 2, 3]
    assert sampled(256, 3) == [0, 128, 255]
    assert sampled(16, 1) == [0]


def test_the_error_of_a_sample() -> None:
    cells = [
        {
            "counters": Counters(remote=100, hits=hits, misses=100 - hits),
            "capacity": 10,
            "capacity_over_batch": 0.5,
            "belady_rows": 40,
            "moved": [50, 50 - hits],
        }
        for hits in (20, 40)
    ]
    setting = SteerConfig(prefetch="lru", buffer=0.1)
    found = row(8, setting, cells, epochs=2)
    assert found["moved_pct"] == 70.0
    assert found["all_trainers_moved_rows_per_epoch"] == 8 * 35.0
    # 200 (0.5 of which are not known) / 2 trainers * (1 - 2 / 8)
    assert found["moved_pct_error"] == pytest.approx((200 / 2 * 0.75) ** 0.5)
    assert row(8, setting, cells[:1], epochs=2)["moved_pct_error"] is None
    assert label_of(setting) == "lru"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--trainers 1,16", "--trainers 1,16: expected numbers of at least 2"),
        ("--trainers many", "--trainers many: expected whole numbers with commas between"),
        ("--sample 0", "--sample 0: expected at least 1"),
        ("--buffer a", "--buffer a: expected numbers with commas between"),
        ("--prefetch overlap", "--prefetch overlap: expected presets with a buffer"),
        ("--prefetch best", "--prefetch best: expected one of"),
        ("--method best", "--method best: expected one of"),
    ],
)
def test_bad_input(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_args(SimulateConfig, words.split())
