"""The suite of faults: a short form of it, and that it tells a bad ending from a good one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.faults.__main__ import judge
from benchmarks.faults.catalogue import GROUPS, Fault
from benchmarks.lab.jobs import PYTHON, start

SUITE = [PYTHON, "-m", "benchmarks.faults"]


@pytest.mark.parametrize(
    "only", ["a byte of a part", pytest.param("Ctrl-C", marks=pytest.mark.slow)]
)
def test_a_fault_ends_well(only: str, tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    words = ["--launchers", "local", "--only", only, "--json", str(file)]
    code, output = start([*SUITE, *words]).finish(200)
    assert code == 0, output
    (ending,) = json.loads(file.read_text())["cases"]
    assert ending["bad"] == ending["left"] == ""
    assert "0 of 1 ended badly" in output


def test_bad_endings_are_told() -> None:
    fault = Fault("a fault", 2, "x.npy")
    assert judge(fault, "bare", 2, "x.npy is damaged", "") == ""
    assert judge(fault, "torchrun", 1, "x.npy is damaged", "") == ""
    assert "exit code 0" in judge(fault, "bare", 0, "x.npy is damaged", "")
    assert "exit code 137" in judge(fault, "srun", 137, "x.npy is damaged", "")
    assert judge(replace(fault, alone=True), "srun", 137, "x.npy is damaged", "") == ""
    assert "exit code 0" in judge(replace(fault, alone=True), "srun", 0, "x.npy is damaged", "")
    assert "nothing said" in judge(fault, "bare", 2, "an error", "")
    assert "left behind" in judge(fault, "bare", 2, "x.npy", "mpich_shar_tmp")
    assert "did not end" in judge(fault, "bare", None, "", "")


def test_the_catalogue_is_large_enough() -> None:
    faults = [fault for group in GROUPS.values() for fault in group]
    assert len({fault.name for fault in faults}) == len(faults)
    assert sum(len(fault.launchers.split()) for fault in faults) >= 150
