"""Evaluation: what a model answers on held-out moments, asked as a run would ask it."""

import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rudder.agent.gguf_file import Vocabulary
from rudder.agent.llama import LlamaEngine
from rudder.config import SteerConfig
from rudder.deciders.classifier import TRENDS
from rudder.deciders.ledger import Ledger
from rudder.deciders.llm import LLMDecider
from rudder.learn.examples import Example
from rudder.learn.score import Answers
from rudder.learn.training import answer_of, write_prompt
from rudder.learn.transformer import Transformer
from rudder.learn.vocabulary import render


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
