"""``--out`` belongs to one job at a time, and a run in it is not lost unasked."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minidist.run import train_in_threads
from minidist.training.output_folder import output_folder
from tests.test_checkpoint import CONFIG, files_of

TINY = replace(CONFIG, prefetch="none", decider=None, epochs=1, eval_every=0)
HOLD = """
import sys, time
from pathlib import Path
from minidist.training.output_folder import output_folder
with output_folder(Path(sys.argv[1]), None, False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_job_at_a_time(tmp_path: Path) -> None:
    config = replace(TINY, out=str(tmp_path))
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        held = files_of(tmp_path)
        for other in (config, replace(config, overwrite=True)):
            with pytest.raises(ValueError, match=rf"at work in it \(process {process.pid} on "):
                train_in_threads(other)
        assert files_of(tmp_path) == held
        # A dead job keeps nothing, whatever it died of.
        process.kill()
    train_in_threads(config)


def test_a_run_is_not_lost_unasked(tmp_path: Path) -> None:
    config = replace(TINY, out=str(tmp_path))
    first = train_in_threads(config)
    before = files_of(tmp_path)
    (tmp_path / "rank7.npz").touch()
    with pytest.raises(ValueError, match=r"there is a run in it: --resume .*, --overwrite "):
        train_in_threads(replace(config, lr=0.1))
    other = train_in_threads(replace(config, lr=0.1, overwrite=True))
    after = files_of(tmp_path)
    assert other["losses_sha256"] != first["losses_sha256"]
    assert after.keys() - before.keys() == set()
    assert after["events-rank0.jsonl"].count(b'"started"') == 1
    # What was cut off before its first checkpoint has nothing to lose.
    for file in (*tmp_path.glob("checkpoint*.pt"), tmp_path / "summary.json"):
        file.unlink()
    assert train_in_threads(config)["losses_sha256"] == first["losses_sha256"]


def test_another_folder_may_go_on(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    for out in (one, two):
        train_in_threads(replace(TINY, out=out))
    longer = replace(TINY, epochs=2, resume=one, parts=f"{one}/parts")
    with pytest.raises(ValueError, match="there is a run in it"):
        train_in_threads(replace(longer, out=two))
    with output_folder(Path(one), None, True):
        train_in_threads(replace(longer, out=two, overwrite=True))


def test_memory_that_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"--buffer: .* GiB of memory needed on this host, but "):
        train_in_threads(replace(TINY, prefetch="lru", buffer_rows=1 << 40))
