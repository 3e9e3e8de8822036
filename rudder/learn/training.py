"""Teaching: examples as prompts with answers, a transformer's training on them, and its exam.

The answer is the better decision with what then really happened. In a part of the draws it is the
other decision with what that would have led to: the loss then leaves out the decision itself.
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from rudder.agent.grammar import write_answer
from rudder.agent.llama import LlamaEngine
from rudder.agent.metrics import Metrics, collect
from rudder.agent.state import STATE_MARK, state_section
from rudder.config import SteerConfig
from rudder.deciders.classifier import TRENDS
from rudder.deciders.ledger import Ledger
from rudder.deciders.llm import LLMDecider
from rudder.learn.dataset import Answers
from rudder.learn.examples import Example
from rudder.learn.transformer import INIT_STD, LlamaShape, Transformer
from rudder.learn.vocabulary import Vocabulary, place_on_scale, render
from rudder.observations import Action, Context, Decision

# (reason, whether it applies), the first that does; none may be longer than a token.
_REPLACE = (
    ("the buffer is filling", lambda m: m.filled_pct < 95),
    ("hit is falling", lambda m: m.hits_change < -2),
    ("many rows are stale", lambda m: m.stale_pct > 30),
    ("rows keep being missed", lambda m: True),
)
_KEEP = (
    ("the run is nearly over", lambda m: m.now.left < 12),
    ("candidates are unproven", lambda m: m.filled_pct < 95 and m.proven_pct < 90),
    ("there is little to swap", lambda m: m.swap_pct < 2),
    ("rows were just replaced", lambda m: m.since is not None and m.since < 3),
    ("swapping costs more rows", lambda m: True),
)
REASONS = tuple(reason for reasons in (_REPLACE, _KEEP) for reason, _ in reasons)
# What a token of the answer weighs: the decision and the direction of %-Hits are what counts.
_WORD, _HITS, _OTHER = 8.0, 8.0, 1.0
# Tokens of an answer: the decision's word and the word for %-Hits are its second and fourth.
_WORD_AT, _HITS_AT = 1, 3
_SHARE_OTHER = 0.3
_BATCH_SIZE, _LR = 32, 4e-3


def _reason_for(metrics: Metrics, word: bool) -> str:
    return next(reason for reason, applies in (_REPLACE if word else _KEEP) if applies(metrics))


def _seen(context: Context, with_history: bool) -> Context:
    return context if with_history else replace(context, outcomes=())


def write_prompt(context: Context, with_history: bool = True) -> str:
    """The state section that a model is shown, without its mark."""
    return state_section(collect(_seen(context, with_history))).removeprefix(STATE_MARK)


def answer_of(example: Example, word: bool) -> str:
    """The answer for this decision, right in what it expects."""
    rollout = example.replaced if word else example.kept
    return write_answer(
        Decision(
            action=Action(word),
            minibatch=0,
            expect_hits=rollout.hits,
            expect_moved=rollout.moved,
            reason=_reason_for(collect(example.context), word),
        )
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenizedExample:
    """A prompt and its answers, to keep and to replace, in tokens. right: the label.

    stake: how much the decision's word weighs, from 0 to 1.
    """

    prompt: NDArray[np.int64]
    answers: Sequence[NDArray[np.int64]]
    right: bool
    stake: float


def tokenize_examples(
    examples: Sequence[Example], tokenize: Callable[[str], list[int]], with_history: bool = True
) -> list[TokenizedExample]:
    """Tokenize examples as llama.cpp will."""
    return [
        TokenizedExample(
            prompt=np.array(tokenize(render(write_prompt(example.context, with_history)))),
            answers=[np.array(tokenize(answer_of(example, word))) for word in (False, True)],
            right=example.replace,
            stake=min(0.15 + 10.0 * example.stake, 1.0),
        )
        for example in tqdm(examples, "tokens", disable=None)
    ]


def _batch(
    examples: Sequence[TokenizedExample], others: NDArray[np.bool_]
) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens [B, T], targets [B, T], weights [B, T]) of prompts with their answers."""
    width = max(len(example.prompt) + len(example.answers[True]) for example in examples)
    tokens = np.zeros((len(examples), width), np.int64)
    targets, weights = tokens.copy(), np.zeros((len(examples), width), np.float32)
    for row, (example, other) in enumerate(zip(examples, others, strict=True)):
        answer = example.answers[example.right != bool(other)]
        text = np.concatenate([example.prompt, answer])
        tokens[row, : len(text)] = text
        first = len(example.prompt) - 1
        targets[row, first : first + len(answer)] = answer
        weights[row, first : first + len(answer)] = _OTHER
        weights[row, first + _WORD_AT] = 0.0 if other else _WORD * example.stake
        weights[row, first + _HITS_AT] = _HITS
    return torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(weights)


def _order_numbers(model: Transformer, tokens: Sequence[str], rng: np.random.Generator) -> None:
    """Start the embeddings of numbers near those of their neighbours on the scale.

    From unrelated ones, that 12 lies between 11 and 13 must be learnt number by number: after 1500
    steps such a model lost 15.7% of the rows at stake, and this one 13.4%.
    """
    scales = {row: place_on_scale(token) for row, token in enumerate(tokens)}
    known = {row: scale for row, scale in scales.items() if scale is not None}
    rows, features = list(known), np.stack(list(known.values()))
    mixed = features @ rng.normal(size=(features.shape[1], model.shape.dim)) * INIT_STD
    with torch.no_grad():
        weight = model.token_embd.weight
        weight[rows] = 0.3 * weight[rows] + torch.from_numpy(mixed).float()


def train_transformer(
    examples: Sequence[TokenizedExample],
    shape: LlamaShape,
    tokens: Sequence[str],
    steps: int,
    seed: int,
) -> Transformer:
    """Train a transformer; on one thread, so that the same examples make the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        model = Transformer(shape, len(tokens))
        _order_numbers(model, tokens, rng)
        adam = torch.optim.AdamW(model.parameters(), lr=_LR, betas=(0.9, 0.98), weight_decay=0.05)
        bar = tqdm(range(steps), "training", disable=None)
        for step in bar:
            warm, left = min(1.0, (step + 1) / 50), 1.0 - step / steps
            adam.param_groups[0]["lr"] = _LR * warm * left
            chosen = [examples[place] for place in rng.integers(len(examples), size=_BATCH_SIZE)]
            texts, targets, weights = _batch(chosen, rng.random(_BATCH_SIZE) < _SHARE_OTHER)
            counted = weights > 0
            logits = model.logits(model(texts)[counted])
            losses = F.cross_entropy(logits, targets[counted], reduction="none")
            loss = (losses * weights[counted]).sum() / weights.sum()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            if step % 20 == 0:
                bar.set_postfix_str(f"loss {float(loss.detach()):.3f}")
        return model
    finally:
        torch.set_num_threads(threads)


def ask(
    path: Path, held_out: Sequence[Example], with_history: bool = True
) -> tuple[Answers, dict[str, float]]:
    """A GGUF's answers, through the very decider that steers training, and its latencies."""
    ledger = Ledger("llm")
    with closing(LLMDecider(held_out[0].facts, SteerConfig(agent_model=str(path)))) as decider:
        decisions = [
            ledger.ask(decider, _seen(example.context, with_history), lambda word: None)
            for example in held_out
        ]
    hits = [-1 if one.expect_hits is None else TRENDS.index(one.expect_hits) for one in decisions]
    latency = {
        f"{name}_p50": statistics.median(getattr(ledger.tally, name))
        for name in ("decided_ms", "answered_ms")
    }
    replaces = np.array([one.replace for one in decisions], bool)
    return Answers(replaces, np.array(hits, np.int64)), latency


def ask_transformer(
    model: Transformer, vocabulary: Vocabulary, path: Path, held_out: Sequence[Example]
) -> Answers:
    """The same questions to the PyTorch model, read off its logits; path: for its tokenizer."""
    trends = torch.tensor([vocabulary.tokens.index(trend) for trend in TRENDS])
    replaces, hits = [], []
    with torch.no_grad(), closing(LlamaEngine(path, context=model.shape.context)) as engine:
        for example in tokenize_examples(held_out, engine.tokenize):
            keep, replacing = example.answers
            opened = torch.tensor([[*example.prompt, keep[0]]])
            logits = model.logits(model(opened)[0, -1])
            word = bool(logits[replacing[_WORD_AT]] > logits[keep[_WORD_AT]])
            decided = torch.tensor([[*example.prompt, *example.answers[word][:_HITS_AT]]])
            replaces.append(word)
            hits.append(int(model.logits(model(decided)[0, -1])[trends].argmax()))
    return Answers(np.array(replaces, bool), np.array(hits, np.int64))
