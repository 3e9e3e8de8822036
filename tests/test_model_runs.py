"""The model's command line on real runs, with hosts to calibrate on."""

import json
from pathlib import Path

import pytest

from benchmarks.lab.hosts import missing
from benchmarks.model.command import main
from tests.test_extrapolate import make_scale

needs_hosts = pytest.mark.skipif(missing() is not None, reason=f"no hosts here: {missing()}")


@needs_hosts
@pytest.mark.slow
def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scale.json").write_text(json.dumps({"scales": [make_scale(16), make_scale(256)]}))
    words = ["model", "--graph", "synthetic:small", "--check", "3", "--variants", "none,lookahead"]
    words += ["--batch-size", "400", "--fanout", "5,5", "--hidden", "32", "--epochs", "3"]
    words += ["--folder", str(tmp_path), "--simulation", str(tmp_path / "scale.json")]
    words += ["--json", str(tmp_path / "model.json"), "--figure", str(tmp_path / "model.svg")]
    monkeypatch.setattr("sys.argv", words)
    main()
    found = json.loads((tmp_path / "model.json").read_text())
    assert [row["variant"] for row in found["checks"]] == ["none", "lookahead"]
    for row in found["checks"]:
        # Other work may run beside; this is no more than the right order of magnitude.
        assert 0.2 < row["predicted_s"] / row["measured_s"] < 5.0
    assert {row["trainers"] for row in found["scales"]} == {16, 256}
    assert 0.2 < found["costs"]["link_share"] < 1.2
    assert (tmp_path / "model.svg").read_text().startswith("<svg")
    assert "error of 2 predictions" in capsys.readouterr().out
    runs = len(list((tmp_path / "runs").iterdir()))
    main()
    assert len(list((tmp_path / "runs").iterdir())) == runs
