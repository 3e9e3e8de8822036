"""Answers: read strictly, and certain as early as the grammar makes them."""

import json

import pytest

from rudder.agent.grammar import ANSWER_TOKENS, early_action, parse_answer, write_answer
from rudder.observations import Action, Decision, Trend

GOOD = {"decision": "keep", "hits": "stagnant", "moved": "increase", "reason": "few stale rows"}


def test_a_good_answer() -> None:
    decision = parse_answer(json.dumps(GOOD), 7)
    assert decision == Decision(
        action=Action.KEEP,
        minibatch=7,
        expect_hits=Trend.STAGNANT,
        expect_moved=Trend.INCREASE,
        reason="few stale rows",
    )
    assert parse_answer(write_answer(decision), 7) == decision
    assert len(write_answer(decision)) <= ANSWER_TOKENS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "replace",
        "I would not replace anything yesterday",
        '{"decision":"replace"',
        '["replace"]',
        '"replace"',
        json.dumps(GOOD | {"decision": "Replace"}),
        json.dumps(GOOD | {"decision": True}),
        json.dumps(GOOD | {"decision": ["replace"]}),
        json.dumps(GOOD | {"hits": "up"}),
        json.dumps(GOOD | {"moved": None}),
        json.dumps(GOOD | {"also": "this"}),
        json.dumps({"decision": "replace"}),
        json.dumps(GOOD) + json.dumps(GOOD),
        "[" * 100_000,
    ],
)
def test_anything_else_means_keep_and_is_not_valid(text: str) -> None:
    decision = parse_answer(text, 3)
    assert (decision.replace, decision.valid, decision.minibatch) == (False, False, 3)


def test_the_word_is_certain_at_its_first_letter() -> None:
    assert early_action('{"decision":"') is None
    assert early_action('{"decision": "r') == Action.REPLACE
    assert early_action('{"decision":"keep","hits"') == Action.KEEP
    assert early_action('{"reason":"{"decision":"r') is None
