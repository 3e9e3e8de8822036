"""The form of an answer: a grammar for llama.cpp, and the strict reading of what it lets through.

    {"decision":"replace","hits":"increase","moved":"decrease","reason":"many good candidates"}

The decision comes first, so that it can be acted on as soon as its first letter is out, and every
part is bounded, so that an answer of ``ANSWER_TOKENS`` tokens is always whole.
"""

import json
import re
from collections.abc import Sequence

from rudder.observations import Action, Decision, Trend

_REASON_CHARS = 72
# No quote or backslash, so that a reason ends where it ends, and nothing special tokens consist of.
_REASON = f"[a-zA-Z0-9 .,;:%()+-]{{1,{_REASON_CHARS}}}"
_GRAMMAR = (
    r'root ::= "{\"decision\":" sp word next "\"hits\":" sp trend next "\"moved\":" sp trend next '
    rf'"\"reason\":" sp "\"" {_REASON} "\"}}"'
    r"""
word ::= WORDS
trend ::= "\"increase\"" | "\"decrease\"" | "\"stagnant\""
next ::= "," sp
sp ::= " "?
"""
)
ANSWER_END = '"}'
_FRAME = '{"decision": "replace", "hits": "increase", "moved": "increase", "reason": ""}'
# A byte a token at worst.
ANSWER_TOKENS = len(_FRAME) + _REASON_CHARS
_TREND = '"(increase|decrease|stagnant)"'
_ANSWER = re.compile(
    r'\{"decision": ?"([a-z]+)", ?"hits": ?' + _TREND + ', ?"moved": ?' + _TREND + ", ?"
    f'"reason": ?"({_REASON})"}}'
)
_DECIDED = re.compile(r'\{"decision": ?"([a-z])')
ROWS = (Action.REPLACE, Action.KEEP)


def grammar(actions: Sequence[Action] = ROWS) -> str:
    """GBNF of the answers that choose one of these actions."""
    return _GRAMMAR.replace("WORDS", " | ".join(rf'"\"{action.word}\""' for action in actions))


def early_action(text: str, actions: Sequence[Action] = ROWS) -> Action | None:
    """What to do, as soon as the grammar leaves only one word; None before that."""
    found = _DECIDED.match(text)
    letter = found and found[1]
    return next((action for action in actions if action.word[0] == letter), None)


def parse_answer(text: str, minibatch: int, actions: Sequence[Action] = ROWS) -> Decision:
    """Read an answer. Anything but the form above means keep, and is not valid."""
    found = _ANSWER.fullmatch(text)
    words = {action.word: action for action in actions}
    if found is None or found[1] not in words:
        return Decision(action=Action.KEEP, minibatch=minibatch, valid=False, reason=text[:200])
    return Decision(
        action=words[found[1]],
        minibatch=minibatch,
        expect_hits=Trend(found[2]),
        expect_moved=Trend(found[3]),
        reason=found[4],
    )


def write_answer(decision: Decision) -> str:
    """The answer that says this; what the embedded model is taught."""
    answer = {
        "decision": decision.action.word,
        "hits": decision.expect_hits or Trend.STAGNANT,
        "moved": decision.expect_moved or Trend.STAGNANT,
        "reason": decision.reason,
    }
    return json.dumps(answer, separators=(",", ":"))
