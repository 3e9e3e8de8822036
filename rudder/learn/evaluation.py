"""Evaluation: decisions on held-out moments where the effect of either decision is known."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.agent.gguf_file import Vocabulary
from rudder.agent.llama import LlamaEngine
from rudder.cli.table import render as render_table
from rudder.config import SteerConfig
from rudder.deciders.classifier import TRENDS
from rudder.deciders.ledger import Ledger
from rudder.deciders.llm import LLMDecider
from rudder.learn.dataset import Dataset
from rudder.learn.examples import Example
from rudder.learn.training import answer_of, write_prompt
from rudder.learn.transformer import Transformer
from rudder.learn.vocabulary import render


@dataclass(frozen=True, eq=False)
class Answers:
    """replace: bool [n]; hits: int [n], places in ``TRENDS``, -1 where the answer was not valid."""

    replace: NDArray[np.bool_]
    hits: NDArray[np.int64]

    def agreement(self, other: "Answers") -> float:
        """Share of answers that are the same in both, over those that the shorter has."""
        num = min(len(self.replace), len(other.replace))
        same = self.replace[:num] == other.replace[:num]
        return float(np.mean(same & (self.hits[:num] == other.hits[:num])))


def ask(
    path: Path, held_out: Sequence[Example], with_history: bool = True
) -> tuple[Answers, dict[str, float]]:
    """A GGUF's answers, through the very decider that steers training, and its latencies."""
    decider, ledger = (
        LLMDecider(held_out[0].facts, SteerConfig(agent_model=str(path))),
        Ledger("llm"),
    )
    replaces, hits = [], []
    with closing(decider):
        for example in held_out:
            context = example.context
            seen = context if with_history else replace(context, outcomes=())
            decision = ledger.ask(decider, seen, lambda word: None)
            replaces.append(decision.replace)
            expected = decision.expect_hits
            hits.append(-1 if expected is None else TRENDS.index(expected))
    latency = {
        f"{name}_p50": statistics.median(getattr(ledger.tally, name))
        for name in ("decided_ms", "answered_ms")
    }
    return Answers(np.array(replaces, bool), np.array(hits, np.int64)), latency


def ask_transformer(
    model: Transformer, vocabulary: Vocabulary, path: Path, held_out: Sequence[Example]
) -> Answers:
    """The same questions to the PyTorch model, read off its logits; path: for its tokenizer."""
    engine = LlamaEngine(path, context=model.shape.context)
    trends = torch.tensor([vocabulary.tokens.index(trend) for trend in TRENDS])
    replaces, hits = [], []
    with torch.no_grad():
        for example in held_out:
            prompt = engine.tokenize(render(write_prompt(example.context)))
            answers = {word: engine.tokenize(answer_of(example, word)) for word in (True, False)}
            opened = torch.tensor([[*prompt, answers[True][0]]])
            logits = model.logits(model(opened)[0, -1])
            word = bool(logits[answers[True][1]] > logits[answers[False][1]])
            decided = torch.tensor([[*prompt, *answers[word][:3]]])
            directions = model.logits(model(decided)[0, -1])[trends]
            replaces.append(word)
            hits.append(int(directions.argmax()))
    engine.close()
    return Answers(np.array(replaces, bool), np.array(hits, np.int64))


def score(answers: Answers, held: Dataset) -> dict[str, Any]:
    """What answers to held-back moments are worth, in percent.

    agreement_pct, balanced_pct: with the labels, and the mean of both labels' shares.
    rows_lost_pct: rows moved over the horizon beyond those of the better decision, of what hung on
    the decisions in all; excess_pct: the same of the rows of the better decisions.
    pass_at_1: the stated direction of %-Hits is what the decision led to; None where none was
    stated.
    """
    same, moments, word = answers.replace == held.replace, np.arange(len(held)), answers.replace * 1
    best = held.rows.min(1)
    lost = float((held.rows[moments, word] - best).sum())
    at_stake = float((held.rows.max(1) - best).sum())
    labels = [held.replace == label for label in np.unique(held.replace)]
    stated = answers.hits >= 0
    passed = (answers.hits == held.hits[moments, word])[stated]
    return {
        "agreement_pct": 100.0 * float(same.mean()),
        "balanced_pct": 100.0 * float(np.mean([same[label].mean() for label in labels])),
        "rows_lost_pct": 100.0 * lost / max(at_stake, 1.0),
        "excess_pct": 100.0 * lost / max(float(best.sum()), 1.0),
        "pass_at_1": 100.0 * float(passed.mean()) if len(passed) else None,
        "valid_pct": 100.0 * float(stated.mean()),
        "replace_pct": 100.0 * float(answers.replace.mean()),
    }


COLUMNS = {
    "agreement_pct": "agrees %",
    "balanced_pct": "balanced %",
    "rows_lost_pct": "rows lost %",
    "excess_pct": "excess rows %",
    "pass_at_1": "Pass@1 %",
    "valid_pct": "valid %",
}


def scores_table(scores: Mapping[str, dict[str, Any]]) -> str:
    """Scores by decider, for people."""
    rows = [
        (name, *("-" if found[key] is None else f"{found[key]:.1f}" for key in COLUMNS))
        for name, found in scores.items()
    ]
    return render_table(rows, ("decider", *COLUMNS.values()))
