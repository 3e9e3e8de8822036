"""Files that are there whole or not at all."""

import json
from pathlib import Path

import pytest

from rudder.cli.whole_file import require_writable, whole, write_json, write_text


def test_the_new_takes_the_place_of_the_old(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    for value in ([1, 2], [3]):
        write_json(file, value)
        assert json.loads(file.read_text()) == value
    write_text(file, "half \ud83d of a pair, \u00e4")
    assert file.read_bytes() == "half ? of a pair, \u00e4".encode()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_is_stopped_half_way_leaves_the_old(
    tmp_path: Path, error: type[BaseException]
) -> None:
    file = tmp_path / "figures.json"
    write_json(file, 1)

    def stop_half_way() -> None:
        with whole(file) as partial:
            partial.write_text("[1, 2")
            assert json.loads(file.read_text()) == 1
            raise error

    with pytest.raises(error):
        stop_half_way()
    assert json.loads(file.read_text()) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_finding_out_leaves_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "new")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / "old", "kept")
    require_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"
    with pytest.raises(FileNotFoundError):
        require_writable(tmp_path / "nowhere" / "new")


def test_a_device_stays_one() -> None:
    write_json("/dev/null", [1])
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="Is a directory"):
        write_json("/dev", [1])
