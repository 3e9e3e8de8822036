"""Fit classifiers that decide when to replace, on recorded runs.

python -m minidist.train --trace-only --trace traces/a                      record, several times
python -m rudder.fit --traces traces/a traces/b traces/c --out fitted       all six
python -m rudder.fit --traces traces/* --classifier lr,xgb --out fitted --json scores.json
python -m minidist.train --decider xgb --classifier-dir fitted              use

Each classifier learns three things of a moment: whether to replace, and where %-Hits go if that is
done, and if not. Runs are held back to score it on (see ``learn.dataset``). --label counterfactual:
both decisions are replayed, and replacing is right unless keeping saved rows; paper: %-Hits and
communication are compared before and after (section 4.4).
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.whole_file import whole_folder, write_json
from rudder.deciders.classifier import IF_KEPT, IF_REPLACED, REPLACE, SUFFIXES, TARGETS, VERSION
from rudder.deciders.inputs import NAMES
from rudder.learn.classifiers import Trained, train
from rudder.learn.dataset import LABELS, Answers, Dataset, dataset_of, score, scores_table, split
from rudder.learn.examples import gather
from rudder.presets import CLASSIFIERS
from rudder.replay.trace import Trace, read_traces

Predictions = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of ``python -m rudder.fit``."""

    traces: tuple[str, ...] = flag((), "folders that --trace recorded, one a run")
    classifier: str = flag("all", "all, or with commas between: " + ", ".join(CLASSIFIERS))
    out: str = flag("fitted", "folder to write, whole; one of an earlier fit is replaced")
    json: str | None = flag(None, "also write the scores to this file")
    buffer: tuple[float, ...] = flag((0.05, 0.25), "capacities as shares of the halo rows")
    label: str = flag("counterfactual", "what makes a replacement right", LABELS)
    seed: int = flag(0, "seed of the examples, of what is held back and of the training")

    def __post_init__(self) -> None:
        if not self.traces:
            raise ValueError("--traces: name at least one folder that --trace recorded")
        paths = Counter(Path(folder).resolve() for folder in self.traces)
        twice = [name for name, count in paths.items() if count > 1]
        require(not twice, "traces", " ".join(map(str, twice)), "each folder once")
        require(all(share > 0 for share in self.buffer), "buffer", self.buffer, "more than 0")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 2^32 - 1")
        unknown = [name for name in self.names if name not in CLASSIFIERS]
        require(
            not unknown,
            *("classifier", self.classifier, "all, or some of " + ", ".join(CLASSIFIERS)),
        )
        require_replaceable("out", self.out)

    @property
    def names(self) -> tuple[str, ...]:
        return CLASSIFIERS if self.classifier == "all" else tuple(self.classifier.split(","))


def require_replaceable(flag_name: str, folder: str) -> None:
    """Raise ValueError unless a fit may take the place of what is in a folder."""
    ours = not Path(folder).exists() or (Path(folder) / "meta.json").is_file()
    require(ours, flag_name, folder, "a new folder, or one that an earlier fit wrote")


def read_runs(folders: tuple[str, ...]) -> list[Trace]:
    """All ranks of all runs, named so that runs in folders of the same name stay apart."""
    paths = [Path(folder).resolve() for folder in folders]
    names = Counter(path.name for path in paths)
    traces = []
    for number, path in enumerate(paths, 1):
        name = path.name if names[path.name] == 1 else f"{path.name}#{number}"
        traces += [
            replace(trace, name=f"{name}/{trace.name.split('/')[-1]}")
            for trace in read_traces(path)
        ]
    return traces


def labels_of(data: Dataset) -> dict[str, NDArray[np.int64]]:
    """What is to be learnt, int64 [n] for each of TARGETS."""
    labels = {REPLACE: data.replace, IF_REPLACED: data.hits[:, 1], IF_KEPT: data.hits[:, 0]}
    return {target: column.astype(np.int64) for target, column in labels.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Classifiers and what they were fitted with. mean, std: float64 [F], of the inputs."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    trained: dict[str, dict[str, Trained]]

    def predict(self, name: str, x: NDArray[np.float32]) -> Predictions:
        """What a classifier says of each row of x [n, F]."""
        rows = (x - self.mean) / self.std
        return {target: one.predict(rows) for target, one in self.trained[name].items()}

    def write(self, folder: Path, about: dict[str, Any]) -> None:
        """Write the folder that ``deciders.classifier`` reads, whole or not at all."""
        classes: dict[str, dict[str, list[int]]] = {}
        with whole_folder(folder) as staging:
            np.savez(staging / "scale.npz", mean=self.mean, std=self.std)
            for name, targets in self.trained.items():
                classes[name] = {target: one.classes.tolist() for target, one in targets.items()}
                for target, one in targets.items():
                    one.write(staging / f"{name}-{target}.{SUFFIXES.get(name, 'npz')}")
            meta = {"version": VERSION, "inputs": NAMES, "classes": classes, **about}
            (staging / "meta.json").write_text(json.dumps(meta, indent=1))


def fit(names: tuple[str, ...], data: Dataset, seed: int) -> Fit:
    """Fit classifiers. Raises ValueError where there is nothing to learn or a library is absent."""
    mean = data.x.mean(0, dtype=np.float64)
    std = data.x.std(0, dtype=np.float64)
    std[std == 0] = 1.0
    rows, labels = (data.x - mean) / std, labels_of(data)
    for target, column in labels.items():
        if len(np.unique(column)) < 2:
            raise ValueError(
                f"all {len(data)} examples say the same of {target}: there is nothing to learn; "
                "add --traces or other --buffer capacities"
            )
    trained: dict[str, dict[str, Trained]] = {name: {} for name in names}
    with tqdm(total=len(names) * len(TARGETS), desc="fit", disable=None) as bar:
        for name in names:
            for target in TARGETS:
                bar.set_postfix_str(f"{name} {target}")
                trained[name][target] = train(name, rows, labels[target], seed)
                bar.update()
    return Fit(mean=mean, std=std, trained=trained)


def majority(data: Dataset, held: Dataset) -> Predictions:
    """Always what most examples say."""
    return {
        target: np.full(len(held), np.bincount(column).argmax())
        for target, column in labels_of(data).items()
    }


def answers_of(said: Predictions) -> Answers:
    """What a classifier decides, and where it then expects %-Hits to go."""
    word = said[REPLACE].astype(bool)
    return Answers(word, np.where(word, said[IF_REPLACED], said[IF_KEPT]))


def scores_of(fitted: Fit, data: Dataset, held: Dataset) -> dict[str, dict[str, Any]]:
    """The score of each classifier, and of always saying what most examples say."""
    said = {name: fitted.predict(name, held.x) for name in fitted.trained}
    said["majority"] = majority(data, held)
    return {name: score(answers_of(one), held) for name, one in said.items()}


def main() -> None:
    """The command line."""
    config = parse(FitConfig, __doc__)
    try:
        scores, note = run(config)
    except (ValueError, OSError) as error:
        fail(error)
    print(scores_table(scores))
    print(f"\n{note}\nwrote {config.out}")


def run(config: FitConfig) -> tuple[dict[str, dict[str, Any]], str]:
    """Gather, fit, score and write. Returns the scores and what was held back for them."""
    examples = gather(read_runs(config.traces), config.buffer, seed=config.seed)
    data, held, note = split(dataset_of(examples, config.label), config.seed)
    fitted = fit(config.names, data, config.seed)
    scores = scores_of(fitted, data, held)
    note = f"{len(data):,} examples to learn from, {len(held):,} to score on; {note}"
    about = {"config": asdict(config), "scores": scores, "note": note}
    fitted.write(Path(config.out), about)
    if config.json is not None:
        write_json(config.json, about)
    return scores, note


if __name__ == "__main__":
    main()
