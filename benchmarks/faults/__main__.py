"""Faults under every launcher: what each job said, how soon it ended, and what it left behind.

python -m benchmarks.faults                                      all of them, about half an hour
python -m benchmarks.faults --launchers bare,local --groups files
python -m benchmarks.faults --only Ctrl-C --json faults.json

Exits with 1 where a case ended badly: with the wrong exit code, too late (the deadline for a silent
rank is 5 s, and 5 s more are given), without a word on why, or with something left behind.
"""

import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.command import answer
from rudder.cli.flags import flag, parse, require
from rudder.cli.table import render

_LAUNCHERS = ("mpiexec", "openmpi", "torchrun", "srun", "bare", "local")


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    """Settings of ``python -m benchmarks.faults``."""

    launchers: str = flag(",".join(_LAUNCHERS), "launchers, with commas between")
    groups: str = flag("files,settings,machine,strikes,programs", "groups of faults")
    only: str | None = flag(None, "faults whose name holds this text")
    json: str | None = flag(None, "also write what happened to this file")

    def __post_init__(self) -> None:
        from benchmarks.faults.catalogue import GROUPS

        for name, known in (("launchers", _LAUNCHERS), ("groups", tuple(GROUPS))):
            value = getattr(self, name)
            listed = ", ".join(known)
            require(set(value.split(",")) <= set(known), name, value, f"some of {listed}")


def measure(config: FaultsConfig) -> dict[str, Any]:
    """Run the cases one after the other, as leftovers could not be told apart otherwise."""
    from benchmarks.faults.case import run_case
    from benchmarks.faults.catalogue import GROUPS, template
    from benchmarks.lab.jobs import PYTHON, lacking, run
    from benchmarks.lab.slurm import slurm

    asked = config.launchers.split(",")
    skipped = {name: why for name in asked if (why := lacking(name))}
    cases = [
        (fault, launcher)
        for group in config.groups.split(",")
        for fault in GROUPS[group]
        for launcher in fault.launchers
        if launcher in asked and launcher not in skipped
        if config.only is None or config.only in fault.name
    ]
    require(bool(cases), "only", config.only, "part of a fault's name, under these launchers")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        template(folder, lambda words: run([PYTHON, *words]))
        cluster: dict[str, str] = {}
        if any(launcher == "srun" for _, launcher in cases):
            cluster = stack.enter_context(
                slurm(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            )
        endings = []
        for fault, launcher in (bar := tqdm(cases, unit="case", disable=None)):
            bar.set_postfix_str(f"{fault.name}, {launcher}")
            there = cluster if launcher == "srun" else {}
            endings.append(asdict(run_case(fault, launcher, folder, there)))
    return {"cases": endings, "skipped": skipped}


def table(found: dict[str, Any]) -> str:
    """The cases for people, those that ended badly last."""
    lines = [
        (each["fault"], each["launcher"], each["code"], each["seconds"], each["said"][:70])
        for each in found["cases"]
    ]
    text = render(lines, ("fault", "launcher", "exit code", "seconds", "said"))
    bad = [each for each in found["cases"] if each["bad"]]
    text += "".join(f"\nBAD: {each['fault']}, {each['launcher']}: {each['bad']}" for each in bad)
    text += "".join(f"\nnot tried: {name}: {why}" for name, why in found["skipped"].items())
    counts = Counter(each["launcher"] for each in found["cases"])
    tried = ", ".join(f"{count} under {name}" for name, count in counts.items())
    slowest = max(each["seconds"] for each in found["cases"])
    return (
        f"{text}\n{len(bad)} of {sum(counts.values())} ended badly ({tried}); slowest {slowest} s"
    )


def main() -> None:
    """The command line."""
    ended: list[dict[str, Any]] = []

    def measured(config: FaultsConfig) -> dict[str, Any]:
        found = measure(config)
        ended.extend(found["cases"])
        return found

    answer(parse(FaultsConfig, __doc__), measured, table)
    raise SystemExit(any(each["bad"] for each in ended))


if __name__ == "__main__":
    main()
