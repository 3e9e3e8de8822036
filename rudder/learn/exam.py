"""The exam: a model's answers on moments whose both endings are known, and their score."""

import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.agent.gguf_file import Vocabulary
from rudder.agent.llama import LlamaEngine
from rudder.config import SteerConfig
from rudder.deciders.ledger import Ledger
from rudder.deciders.llm import LLMDecider
from rudder.learn.labelled_moments import Example
from rudder.learn.teaching import answer_of, write_prompt
from rudder.learn.transformer import Transformer
from rudder.learn.vocabulary import render
from rudder.observations import Trend

TRENDS = tuple(Trend)


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
    path: Path, exam: Sequence[Example], with_history: bool = True
) -> tuple[Answers, dict[str, float]]:
    """A GGUF's answers, through the very decider that steers training, and its latencies."""
    decider, ledger = LLMDecider(exam[0].facts, SteerConfig(agent_model=str(path))), Ledger("llm")
    replaces, hits = [], []
    with closing(decider):
        for example in exam:
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
    model: Transformer, vocabulary: Vocabulary, path: Path, exam: Sequence[Example]
) -> Answers:
    """The same questions to the PyTorch model, read off its logits; path: for its tokenizer."""
    engine = LlamaEngine(path, context=model.shape.context)
    trends = torch.tensor([vocabulary.tokens.index(trend) for trend in TRENDS])
    replaces, hits = [], []
    with torch.no_grad():
        for example in exam:
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


def score(answers: Answers, exam: Sequence[Example]) -> dict[str, Any]:
    """Figures in percent.

    agreement_pct, balanced_pct: with the labels, and the mean of both labels' shares.
    rows_lost_pct: rows moved over the horizon beyond those of the better decision, of what hung on
    the decisions in all. pass_at_1: the stated direction of %-Hits is what the decision led to;
    None where none was stated.
    """
    right = np.array([example.replace for example in exam])
    same = answers.replace == right
    stakes = np.array([abs(one.replaced.rows - one.kept.rows) for one in exam], float)
    worse = np.array([_rows(one, word) for one, word in zip(exam, answers.replace, strict=True)])
    best = np.array([min(one.replaced.rows, one.kept.rows) for one in exam])
    kinds = [float(same[right == kind].mean()) for kind in (True, False) if (right == kind).any()]
    stated = answers.hits >= 0
    passed = [
        TRENDS[place] == (one.replaced if word else one.kept).hits
        for one, word, place in zip(exam, answers.replace, answers.hits, strict=True)
        if place >= 0
    ]
    return {
        "agreement_pct": 100.0 * float(same.mean()),
        "balanced_pct": 100.0 * statistics.fmean(kinds),
        "rows_lost_pct": 100.0 * float((worse - best).sum() / max(stakes.sum(), 1.0)),
        "pass_at_1": 100.0 * statistics.fmean(passed) if passed else None,
        "valid_pct": 100.0 * float(stated.mean()),
        "replace_pct": 100.0 * float(answers.replace.mean()),
    }


def _rows(example: Example, word: bool) -> int:
    return (example.replaced if word else example.kept).rows
