"""Checkpoints: totals of the whole run, the best weights, damage that is found."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
from minidist.data.graph_source import same_source, source_of
from minidist.run import train_in_threads
from minidist.run_config import RunConfig
from minidist.store.host_shards import HostShards
from minidist.store.partition_dir import Parts
from minidist.store.row_server import RowServer
from minidist.training.checkpoint import load_best
from minidist.training.evaluate import LayerwiseInference, evaluate
from minidist.training.models import build_model
from tests.test_prefetch import reconcile

CONFIG = RunConfig(
    dataset="synthetic:tiny",
    prefetch="rudder",
    decider="always",
    transport="local",
    method="random",
    ranks=2,
    fanout=(5, 5),
    hidden=16,
    batch_size=20,
    epochs=6,
    eval_every=1,
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("prefetch", ["overlap", "lookahead", "rudder"])
def test_totals_are_those_of_the_whole_run(prefetch: str, tmp_path: Path) -> None:
    decider = "always" if prefetch == "rudder" else None
    config = replace(CONFIG, prefetch=prefetch, decider=decider)
    whole = train_in_threads(config)
    out = str(tmp_path / "run")
    train_in_threads(replace(config, epochs=2, out=out))
    train_in_threads(replace(config, epochs=4, resume=out))
    resumed = train_in_threads(replace(config, resume=out))
    reconcile(resumed)
    assert resumed["losses_sha256"] == whole["losses_sha256"]
    assert resumed["rows"]["remote"] == whole["rows"]["remote"]
    assert resumed["epoch_time_s"] > 0
    if prefetch == "overlap":
        assert resumed["rows"] == whole["rows"]
        assert resumed["traffic"] == whole["traffic"]
    if prefetch == "rudder":
        # What was decided on minibatches that were prepared but not trained on is decided again.
        extra = resumed["decisions"]["count"] - whole["decisions"]["count"]
        assert 0 <= extra <= 2 * 2 * 8


def test_a_finished_run_says_so_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(CONFIG, epochs=2, out=str(tmp_path / "run"))
    first = train_in_threads(config)
    before = files_of(tmp_path / "run")
    capsys.readouterr()
    again = train_in_threads(replace(config, resume=config.out))
    assert "is finished: 2 epochs" in capsys.readouterr().out
    assert files_of(tmp_path / "run") == before
    assert again["rows"] == first["rows"]
    for words, message in (
        ({"epochs": 1}, r"--epochs 1: the run in .* has trained 2"),
        ({"hidden": 32}, "hidden was 16, is 32"),
        ({"dataset": "synthetic:small"}, "holds synthetic:tiny of seed 0"),
    ):
        with pytest.raises(ValueError, match=message):
            train_in_threads(replace(config, resume=config.out, **words))  # type: ignore[arg-type]
    assert files_of(tmp_path / "run") == before


def test_a_run_that_ended_before_its_summary_says_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=3, out=str(tmp_path / "run"))
    first = train_in_threads(config)
    (tmp_path / "run" / "summary.json").unlink()
    again = train_in_threads(replace(config, resume=config.out))
    for key in first.keys() - {"config", "peak_memory_mb"}:
        assert again[key] == first[key], key


def test_a_summary_of_another_run_is_not_taken_for_ours(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=3, out=str(tmp_path / "run"))
    old = train_in_threads(config)
    (tmp_path / "run" / "parts").rename(tmp_path / "parts")
    ours = replace(config, lr=0.1, parts=str(tmp_path / "parts"))
    summary = (tmp_path / "run" / "summary.json").read_bytes()
    train_in_threads(replace(ours, epochs=2, overwrite=True))
    (tmp_path / "run" / "summary.json").write_bytes(summary)
    resumed = train_in_threads(replace(ours, resume=config.out))
    assert resumed["losses_sha256"] == train_in_threads(replace(ours, out=None))["losses_sha256"]
    assert resumed["losses_sha256"] != old["losses_sha256"]


def test_fewer_epochs_than_were_begun_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_in_threads(replace(CONFIG, epochs=2, out=str(run), checkpoint_every=11))
    message = "--epochs 1: the run in .* has trained 1 and 3 steps of the next"
    with pytest.raises(ValueError, match=message):
        train_in_threads(replace(CONFIG, epochs=1, resume=str(run / "checkpoint-before.pt")))


def score(run: Path, parts: Parts) -> tuple[list[float | None], dict[str, Any]]:
    """(test accuracy on each rank, scores) of the best weights that a run left."""
    state, scores = load_best(run)

    def on_rank(world: World) -> float | None:
        shards = HostShards.open(parts, world)
        model = build_model(
            "sage",
            num_features=parts.num_features,
            hidden=16,
            num_classes=parts.num_classes,
            num_layers=2,
            dropout=0.5,
        )
        model.load_state_dict(state)
        server = RowServer(world.transport, shards.own.book, shards.own.x)
        inference = LayerwiseInference(world, server, shards.mapped)
        return evaluate(inference, model, world, shards.own).test

    return run_in_threads(on_rank, 2), scores


def test_the_best_weights_give_the_summarys_accuracy(tmp_path: Path) -> None:
    run, parts = tmp_path / "run", tmp_path / "parts"
    config = replace(CONFIG, lr=0.1, epochs=8, out=str(run), parts=str(parts))
    summary = train_in_threads(config)
    assert summary["best_epoch"] < 8, "a run whose last epoch is not its best"
    found, scores = score(run, Parts.open(parts))
    assert found == [summary["test_accuracy"]] * 2
    assert scores["epoch"] == summary["best_epoch"]
    state = load_best(run)[0]
    last = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    assert any(not torch.equal(state[name], last[name]) for name in state)

    # The best was before the resume, and what another folder starts with, or a run that was cut
    # off after it had written its best weights, is that of the checkpoint.
    for out in (tmp_path / "other", run):
        (run / "best.pt").write_bytes(b"of a later epoch")
        resumed = train_in_threads(
            replace(config, epochs=9, eval_every=9, out=str(out), resume=str(run))
        )
        found, scores = score(out, Parts.open(parts))
        assert found == [resumed["test_accuracy"]] * 2
        assert scores["epoch"] == resumed["best_epoch"] == summary["best_epoch"]


@pytest.mark.parametrize("file", ["checkpoint.pt", "rank1.npz", "best.pt"])
def test_a_flipped_byte_is_found_wherever_it_is(file: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_in_threads(replace(CONFIG, epochs=3, out=str(run)))
    data, settings = (run / file).read_bytes(), replace(CONFIG, epochs=4, resume=str(run))
    for place in [*range(0, len(data), len(data) // 7), len(data) - 1]:
        damaged = bytearray(data)
        damaged[place] ^= 4
        (run / file).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{file} is damaged") as raised:
            load_best(run) if file == "best.pt" else train_in_threads(settings)
    if file == "best.pt":
        assert "checkpoint.pt holds the weights too, under best" in str(raised.value)
        return
    before = str(raised.value).rsplit("--resume ", 1)[1]
    assert before == str(run / "checkpoint-before.pt")
    # Twice, since the one before must still be whole, with every rank's file, after going on.
    for epochs in (4, 5):
        config = replace(CONFIG, epochs=epochs)
        resumed = train_in_threads(replace(config, resume=before))
        assert resumed["losses_sha256"] == train_in_threads(config)["losses_sha256"]
        reconcile(resumed)


def test_an_archive_that_changed_is_another_graph(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "data" / "real"
    archive, parts = tmp_path / "graph.npz", str(tmp_path / "parts")
    shutil.copy(data / "amazon_photo.npz", archive)
    config = replace(
        CONFIG, dataset=f"npz:{archive}", parts=parts, epochs=1, eval_every=0, batch_size=400
    )
    summary = train_in_threads(config)
    assert summary["partition"]["method"] == "random"
    moved = archive.rename(tmp_path / "moved.npz")
    train_in_threads(replace(config, dataset=f"npz:{moved}"))
    shutil.copy(data / "tolokers.npz", archive)
    for words, message in (
        ({}, r"holds npz:.*graph.npz, as it was: give another --parts"),
        ({"dataset": "synthetic:tiny"}, r"--dataset synthetic:tiny: .* holds npz:"),
        ({"dataset": None, "method": "metis"}, r"--method metis: .* was made by random"),
    ):
        with pytest.raises(ValueError, match=message):
            train_in_threads(replace(config, **words))  # type: ignore[arg-type]


def test_snaps_splits_and_features_depend_on_the_seed() -> None:
    assert not same_source(source_of("com-orkut", 0), source_of("com-orkut", 1))
    assert same_source(source_of("ogbn-arxiv", 0), source_of("ogbn-arxiv", 1))


def test_the_summary_says_how_parts_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    config = replace(CONFIG, epochs=1, out=str(out))
    train_in_threads(config)
    other = replace(
        config, dataset=None, method=None, parts=str(out / "parts"), seed=5, overwrite=True
    )
    summary: Any = train_in_threads(replace(other, out=str(tmp_path / "other")))
    assert summary["partition"]["seed"] == 0
    assert summary["config"]["seed"] == 5
    assert "was made by random with --seed 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"holds synthetic:tiny of seed 0, not of seed 5"):
        train_in_threads(replace(other, dataset="synthetic:tiny"))
    json.loads((out / "summary.json").read_text(), parse_constant=pytest.fail)
