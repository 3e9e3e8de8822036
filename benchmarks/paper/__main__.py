"""All figures and tables of the paper's evaluation in turn, and one page of them.

    python -m benchmarks.paper                                   all, as root: links of --rate
    python -m benchmarks.paper --only modes,pass_at_1 --agent-model embedded,model.gguf
    python -m benchmarks.paper --only none --out runs/paper      the page alone, anew

The page, OUT/index.html, shows all exhibits whose JSON is in OUT, also those of earlier commands.
An exhibit that cannot run does not stop the others; the exit code is then 1.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tqdm import tqdm

from benchmarks.paper import (
    buffer_sizes,
    communication,
    experts,
    llm_and_classifiers,
    massivegnn,
    modes,
    pass_at_1,
    remote_nodes,
    scaling,
    strategies,
    trajectories,
    unseen,
)
from benchmarks.paper.page import index
from benchmarks.paper.settings import PaperConfig
from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.whole_file import write_text

# In the paper's order.
_MODULES = (
    *(remote_nodes, strategies, scaling, llm_and_classifiers, communication, massivegnn),
    *(buffer_sizes, modes, pass_at_1, unseen, trajectories, experts),
)
EXHIBITS = {module.EXHIBIT.name: module.EXHIBIT for module in _MODULES}


@dataclass(frozen=True, kw_only=True)
class AllConfig(PaperConfig):
    """Settings of ``python -m benchmarks.paper``."""

    only: str | None = flag(None, "exhibits with commas between; none: the page alone")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.names:
            require(name in EXHIBITS, "only", name, "none, or some of " + ", ".join(EXHIBITS))

    @property
    def names(self) -> list[str]:
        if self.only == "none":
            return []
        return self.only.split(",") if self.only else list(EXHIBITS)

    def for_each(self) -> PaperConfig:
        """What every exhibit is told."""
        return PaperConfig(**{each.name: getattr(self, each.name) for each in fields(PaperConfig)})


def write_page(out: Path, failed: Mapping[str, str]) -> Path:
    """Gather what is in a folder on one page. The verdicts are taken anew from the rows there."""
    reports, figures = [], {}
    for name, exhibit in EXHIBITS.items():
        file = out / f"{name}.json"
        if file.is_file():
            kept = json.loads(file.read_text())
            reports.append(exhibit.report(kept["rows"], kept["settings"]))
            figures[name] = exhibit.draw(kept["rows"])
    out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    write_text(page, index(reports, figures, failed))
    return page


def main() -> None:
    """Measure, and write the page after each exhibit."""
    config = parse(AllConfig, __doc__)
    out, failed = Path(config.out), dict[str, str]()
    try:
        with tqdm(config.names, unit="exhibit", disable=None) as bar:
            for name in bar:
                bar.set_postfix_str(name)
                try:
                    report = EXHIBITS[name].run(config.for_each())
                    tqdm.write(f"{report['verdict']:14}  {report['title']} ({report['source']})")
                except ValueError as error:
                    failed[name] = str(error)
                    tqdm.write(f"{'did not run':14}  {name}: {error}")
                write_page(out, failed)
        page = write_page(out, failed)
    except OSError as error:
        fail(error)
    print(f"wrote {page}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
