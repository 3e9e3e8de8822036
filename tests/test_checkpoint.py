"""Checkpoints: totals of the whole run, the best weights, damage that is found."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.world import World
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
    with pytest.raises(ValueError, match=r"--epochs 1: the run in .* has trained 2"):
        train_in_threads(replace(config, epochs=1, resume=config.out))


def test_the_best_weights_give_the_summarys_accuracy(tmp_path: Path) -> None:
    config = replace(CONFIG, lr=0.1, epochs=8, out=str(tmp_path / "run"))
    summary = train_in_threads(config)
    assert summary["best_epoch"] < 8, "a run whose last epoch is not its best"
    state, scores = load_best(tmp_path / "run")
    assert scores["epoch"] + 1 == summary["best_epoch"]
    parts = Parts.open(tmp_path / "run" / "parts")

    def score(world: World) -> float | None:
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

    assert run_in_threads(score, 2) == [summary["test_accuracy"]] * 2
    last = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    assert any(not torch.equal(state[name], last[name]) for name in state)


def inside_a_record(path: Path, data: bytearray, share: float) -> int:
    """A place in the data of a record; what lies between records is never read."""
    with zipfile.ZipFile(path) as archive:
        records = [record for record in archive.infolist() if record.file_size]
    record = records[int(share * len(records))]
    lengths = data[record.header_offset + 26 : record.header_offset + 30]
    name, extra = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
    return record.header_offset + 30 + name + extra + int(share * record.file_size)


@pytest.mark.parametrize("file", ["checkpoint.pt", "rank1.npz"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_flipped_byte_is_found_and_the_one_before_goes_on(
    file: str, share: float, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_in_threads(replace(CONFIG, epochs=3, out=str(run)))
    (run / "summary.json").unlink()
    data = bytearray((run / file).read_bytes())
    data[inside_a_record(run / file, data, share)] ^= 4
    (run / file).write_bytes(data)
    config = replace(CONFIG, epochs=4)
    whole = train_in_threads(config)
    with pytest.raises(ValueError, match=f"{file} is damaged") as raised:
        train_in_threads(replace(config, resume=str(run)))
    before = str(raised.value).rsplit("--resume ", 1)[1]
    resumed = train_in_threads(replace(config, resume=before))
    assert resumed["losses_sha256"] == whole["losses_sha256"]


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


def test_the_summary_says_how_parts_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    config = replace(CONFIG, epochs=1, out=str(out))
    train_in_threads(config)
    other = replace(config, dataset=None, method=None, parts=str(out / "parts"), seed=5)
    summary: Any = train_in_threads(replace(other, out=str(tmp_path / "other")))
    assert summary["partition"]["seed"] == 0
    assert summary["config"]["seed"] == 5
    assert "was made by random with --seed 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"holds synthetic:tiny of seed 0, not of seed 5"):
        train_in_threads(replace(other, dataset="synthetic:tiny"))
    json.loads((out / "summary.json").read_text(), parse_constant=pytest.fail)
