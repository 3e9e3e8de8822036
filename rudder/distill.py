"""Make the embedded decision model from nothing: generated graphs, their traces, a transformer.

python -m rudder.distill --out embedded.gguf              the shipped model, in minutes on one CPU
python -m rudder.distill --out small.gguf --steps 60 --families 2     a rough one, in a minute
python -m rudder.distill --out mine.gguf --traces DIR...  real runs among the training data
python -m rudder.distill --out mine.gguf --classifiers fitted         classifiers for --decider too

families -> traces -> examples (counterfactual replay) -> transformer -> GGUF
                                                                         |
     card: the file through llama.cpp, on families it never saw  <-------+

Beside the model FILE.gguf stands its card, FILE.json. The same arguments make the same file.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rudder.agent.llama import LlamaEngine
from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.table import render
from rudder.cli.whole_file import write_json
from rudder.fit import fit, require_replaceable, scores_of
from rudder.learn.dataset import dataset_of, score, scores_table
from rudder.learn.examples import Example, gather
from rudder.learn.graph_families import HELD_OUT, TRAINED, record
from rudder.learn.training import (
    REASONS,
    ask,
    ask_transformer,
    tokenize_examples,
    train_transformer,
    write_prompt,
)
from rudder.learn.transformer import LlamaShape, Transformer, write_gguf
from rudder.learn.vocabulary import TEMPLATE, Vocabulary, learn_vocabulary
from rudder.presets import CLASSIFIERS
from rudder.replay.trace import Trace, read_traces

SHAPE = LlamaShape(dim=64, layers=3, heads=4, kv_heads=2, ff=192, context=512)
BUFFERS = (0.02, 0.05, 0.1, 0.25)
NUM_WORDS = 250
# Classifiers that see the same moments.
BASELINES = ("lr", "xgb")
# Examples that the card's figures are of.
NUM_EVALUATED = 1200


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Settings of ``python -m rudder.distill``."""

    out: str = flag("embedded.gguf", "file to write; its card is written beside it")
    classifiers: str | None = flag(
        None, "folder: also fit there all classifiers of --decider, on the same moments"
    )
    traces: tuple[str, ...] = flag((), "folders that --trace recorded, to train on too")
    families: int = flag(len(TRAINED), "families of generated graphs to train on")
    held_out: int = flag(len(HELD_OUT), "families to examine on")
    steps: int = flag(1500, "training steps of 32 examples")
    seed: int = flag(0, "seed of everything random")
    ablate: bool = flag(True, "also train without history, to see what it is worth")
    kind: str = flag("F16", "type of the weights", ("F32", "F16", "Q8_0"))

    def __post_init__(self) -> None:
        for name in ("steps", "families", "held_out"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 2^32 - 1")
        if self.classifiers is not None:
            require_replaceable("classifiers", self.classifiers)
        folder = Path(self.out).resolve().parent
        require(
            folder.is_dir() and os.access(folder, os.W_OK),
            *("out", self.out, "a file in a folder that exists and can be written"),
        )


def distill(config: DistillConfig) -> dict[str, Any]:
    """Make the model and its card; returns the card."""
    began, out = time.perf_counter(), Path(config.out)
    traces = record(TRAINED[: config.families], config.seed)
    for folder in config.traces:
        traces += read_traces(Path(folder))
    examples = gather(traces, BUFFERS, seed=config.seed, every=4.0)
    model, vocabulary, trained_s = _make(config, examples, out, with_history=True)
    exam_traces = record(HELD_OUT[: config.held_out], config.seed + 1000)
    held_out = gather(exam_traces, BUFFERS, seed=config.seed + 1)
    places = np.linspace(0, len(held_out) - 1, min(NUM_EVALUATED, len(held_out))).astype(int)
    held_out = [held_out[place] for place in places]
    answers, latency = ask(out, held_out)
    by_torch = ask_transformer(model, vocabulary, out, held_out[:300])
    return {
        "model": out.name,
        "bytes": out.stat().st_size,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": len(vocabulary.tokens),
        "shape": asdict(SHAPE),
        "trained_on": _described(traces, examples),
        "held_out": _described(exam_traces, held_out),
        "training_s": trained_s,
        "same_as_pytorch_pct": 100.0 * answers.agreement(by_torch),
        **latency,
        "exam": {
            "embedded": score(answers, dataset_of(held_out)),
            **_others(config, examples, held_out),
        },
        "seconds": time.perf_counter() - began,
        "config": asdict(config),
    }


def _make(
    config: DistillConfig, examples: Sequence[Example], path: Path, with_history: bool
) -> tuple[Transformer, Vocabulary, float]:
    """Train a model and write it; returns the seconds as well."""

    def write(model: Transformer, path: Path) -> None:
        write_gguf(path, model, vocabulary, chat_template=TEMPLATE, kind=config.kind)

    prompts = [write_prompt(example.context, with_history) for example in examples]
    vocabulary = learn_vocabulary(prompts, REASONS, NUM_WORDS)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # Prompts are cut into tokens by llama.cpp itself.
        blank = Path(folder) / "blank.gguf"
        write(Transformer(SHAPE, len(vocabulary.tokens)), blank)
        with closing(LlamaEngine(blank, context=SHAPE.context)) as engine:
            data = tokenize_examples(examples, engine.tokenize, with_history)
    model = train_transformer(data, SHAPE, vocabulary.tokens, config.steps, config.seed)
    write(model, path)
    return model, vocabulary, time.perf_counter() - began


def _others(
    config: DistillConfig, examples: Sequence[Example], held_out: Sequence[Example]
) -> dict[str, Any]:
    """The same score for the majority and for classifiers fitted on the same moments, and for a
    model trained and asked without past decisions."""
    data, held = dataset_of(examples), dataset_of(held_out)
    fitted = fit(CLASSIFIERS if config.classifiers else BASELINES, data, config.seed)
    scores = scores_of(fitted, data, held)
    if config.classifiers:
        fitted.write(Path(config.classifiers), {"config": asdict(config), "scores": scores})
    if config.ablate:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "no-history.gguf"
            _make(config, examples, path, with_history=False)
            answers, _ = ask(path, held_out, with_history=False)
        scores["embedded, no history"] = score(answers, held)
    return scores


def _described(traces: Sequence[Trace], examples: Sequence[Example]) -> dict[str, Any]:
    return {
        "families": sorted({trace.name.split("/")[0] for trace in traces}),
        "traces": len(traces),
        "minibatches": sum(trace.num_minibatches for trace in traces),
        "examples": len(examples),
        "replace_pct": 100.0 * float(np.mean([example.replace for example in examples])),
    }


def card_table(card: dict[str, Any]) -> str:
    """The card for people."""
    trained, held_out = card["trained_on"], card["held_out"]
    facts = {
        "model": f"{card['model']}: {card['bytes']:,} bytes, {card['parameters']:,} parameters",
        "sha256": card["sha256"],
        "trained on": f"{trained['examples']:,} moments of {trained['traces']} traces of "
        f"{len(trained['families'])} families, {card['training_s']:.0f} s",
        "examined on": f"{held_out['examples']:,} moments of {len(held_out['families'])} families "
        "that it never saw",
        "as PyTorch": f"{card['same_as_pytorch_pct']:.1f}% of answers",
        "latency": f"p50 {card['decided_ms_p50']:.1f} ms to the decision, "
        f"{card['answered_ms_p50']:.1f} ms to the end",
    }
    return f"{render([*facts.items()])}\n\n{scores_table(card['exam'])}"


def main() -> None:
    """The command line."""
    config = parse(DistillConfig, __doc__)
    try:
        card = distill(config)
    except ValueError as error:
        fail(error)
    write_json(Path(config.out).with_suffix(".json"), card)
    print(card_table(card))


if __name__ == "__main__":
    main()
