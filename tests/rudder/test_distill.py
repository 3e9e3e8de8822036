"""Distillation: the same file twice, llama.cpp and PyTorch agree, and the shipped model decides."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rudder.agent.llama import LlamaEngine
from rudder.agent.models import EMBEDDED
from rudder.config import SteerConfig
from rudder.deciders.llm import LLMDecider
from rudder.distill import SHAPE, DistillConfig, card_table, distill
from rudder.learn.dataset import Answers, dataset_of, score
from rudder.learn.examples import gather
from rudder.learn.training import REASONS, answer_of, ask, write_prompt
from rudder.learn.transformer import Transformer, write_gguf
from rudder.learn.vocabulary import MAX_BYTES, TEMPLATE, learn_vocabulary, render
from rudder.observations import Trend
from tests.rudder.contexts import FACTS, random_context
from tests.rudder.streams import make_test_trace

ROUGH = DistillConfig(steps=25, families=1, held_out=1, ablate=False)


@pytest.mark.slow
def test_twice_the_same_file(tmp_path: Path) -> None:
    cards = [distill(replace(ROUGH, out=str(tmp_path / f"{n}.gguf"))) for n in range(2)]
    assert (tmp_path / "0.gguf").read_bytes() == (tmp_path / "1.gguf").read_bytes()
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["exam"]["embedded"]["valid_pct"] == 100
    assert cards[0]["same_as_pytorch_pct"] >= 98
    assert "agrees %" in card_table(cards[0])


def test_llama_cpp_computes_what_pytorch_does(tmp_path: Path) -> None:
    """From weights that were not trained, whose logits lie close together, the same greedy token.

    llama.cpp keeps keys and values in 16 bits: a logit may be off by a hundredth.
    """
    examples = gather([make_test_trace(seed=seed) for seed in range(2)], [0.3])[:12]
    prompts = [write_prompt(example.context) for example in examples]
    vocabulary = learn_vocabulary(prompts, REASONS, 100)
    torch.manual_seed(1)
    model = Transformer(SHAPE, len(vocabulary.tokens))
    path = tmp_path / "blank.gguf"
    write_gguf(path, model, vocabulary, chat_template=TEMPLATE, kind="F32")
    engine = LlamaEngine(path, context=SHAPE.context)
    compared = 0
    for prompt in prompts:
        text = render(prompt)
        tokens = engine.tokenize(text)
        assert len(tokens) < 220
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([tokens]))[0, -1])
        answer = engine.generate(text, end="\0", max_tokens=1, until=float("inf")).text
        if answer in vocabulary.tokens:  # or it is part of a letter
            assert logits.max() - logits[vocabulary.tokens.index(answer)] < 0.03
            compared += 1
    engine.close()
    assert compared > 5


def test_answers_are_few_tokens() -> None:
    examples = gather([make_test_trace()], [0.3])[:20]
    prompts = [write_prompt(example.context) for example in examples]
    vocabulary = learn_vocabulary(prompts, REASONS, 100)
    assert all(len(token.encode()) <= MAX_BYTES for token in vocabulary.tokens)
    assert set(REASONS) <= set(vocabulary.tokens)
    assert '"decision":"' in answer_of(examples[0], True)
    assert len(set(vocabulary.tokens)) == len(vocabulary.tokens)


def test_scores_of_known_answers() -> None:
    examples = gather([make_test_trace(seed=seed) for seed in range(3)], [0.1, 0.5])
    right = np.array([example.replace for example in examples])
    endings = [one.replaced if one.replace else one.kept for one in examples]
    hits = np.array([tuple(Trend).index(ending.hits) for ending in endings])
    held = dataset_of(examples)
    perfect = score(Answers(right, hits), held)
    assert (perfect["agreement_pct"], perfect["pass_at_1"], perfect["valid_pct"]) == (100, 100, 100)
    wrong = score(Answers(~right, np.full(len(right), -1)), held)
    assert (wrong["agreement_pct"], wrong["pass_at_1"], wrong["valid_pct"]) == (0, None, 0)
    assert wrong["rows_lost_pct"] > 95 > 5 > perfect["rows_lost_pct"]


def test_the_shipped_model() -> None:
    """Small, always valid, quick, and right about where %-Hits go on graphs it never saw."""
    assert EMBEDDED.stat().st_size < 1_000_000
    decider = LLMDecider(FACTS, SteerConfig())
    for seed in range(50):  # figures as no run has them
        assert decider.decide(random_context(seed), lambda word: None).valid
    examples = gather([make_test_trace(seed=seed) for seed in range(4)], [0.1, 0.3])[:100]
    decisions = [decider.decide(example.context, lambda word: None) for example in examples]
    assert sum(decision.reason in REASONS for decision in decisions) >= 95
    decider.close()
    answers, _ = ask(EMBEDDED, examples)
    found = score(answers, dataset_of(examples))
    assert found["pass_at_1"] > 70
    card = json.loads(EMBEDDED.with_suffix(".json").read_text())
    assert "excess rows %" in card_table(card | {"exam": {"embedded": found}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "--steps 0: expected at least 1"),
        ({"out": "/nowhere/model.gguf"}, "--out /nowhere/model.gguf: expected a file in a folder"),
    ],
)
def test_bad_input(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillConfig(**fields)  # type: ignore[arg-type]
