"""The form of an answer: a grammar for llama.cpp, and the strict reading of what it lets through.

    {"decision":"replace","hits":"increase","moved":"decrease","reason":"many good candidates"}

The decision comes first, so that it can be acted on as soon as its first letter is out, and every
part is bounded, so that an answer of ``ANSWER_TOKENS`` tokens is always whole.
"""

import json
import re
from collections.abc import Sequence

from rudder.observations import Action, Decision, Trend

_TRENDS = {str(trend): trend for trend in Trend}
REASON_CHARS = 72
# No quote or backslash, so that a reason ends where it ends, and nothing special tokens consist of.
_GRAMMAR = (
    r'root ::= "{\"decision\":" sp word next "\"hits\":" sp trend next "\"moved\":" sp trend next '
    r'"\"reason\":" sp "\"" [a-zA-Z0-9 .,;:%()+-]{1,' + str(REASON_CHARS) + r'} "\"}"'
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
ANSWER_TOKENS = len(_FRAME) + REASON_CHARS
_DECIDED = re.compile(r'\{"decision": ?"([a-z])')
ROWS = (Action.REPLACE, Action.KEEP)


def grammar(actions: Sequence[Action] = ROWS) -> str:
    """GBNF of the answers that choose one of these actions."""
    return _GRAMMAR.replace("WORDS", " | ".join(rf'"\"{action.word}\""' for action in actions))


def early_action(text: str, actions: Sequence[Action] = ROWS) -> Action | None:
    """What to do, as soon as the grammar leaves only one word; None before that."""
    found = _DECIDED.match(text)
    if found is None:
        return None
    return next((action for action in actions if action.word[0] == found[1]), None)


def parse_answer(text: str, minibatch: int, actions: Sequence[Action] = ROWS) -> Decision:
    """Read an answer. Anything but the four keys with their words means keep, and is not valid."""
    by_word = {action.word: action for action in actions}
    invalid = Decision(action=Action.KEEP, minibatch=minibatch, valid=False, reason=text[:200])
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return invalid
    if not isinstance(answer, dict) or answer.keys() != {"decision", "hits", "moved", "reason"}:
        return invalid
    word, hits, moved, reason = (answer[key] for key in ("decision", "hits", "moved", "reason"))
    if not all(isinstance(part, str) for part in (word, hits, moved, reason)):
        return invalid
    if word not in by_word or hits not in _TRENDS or moved not in _TRENDS:
        return invalid
    return Decision(
        action=by_word[word],
        minibatch=minibatch,
        expect_hits=_TRENDS[hits],
        expect_moved=_TRENDS[moved],
        reason=reason,
    )


def write_answer(decision: Decision) -> str:
    """The answer that says this; what the embedded model is taught."""
    return json.dumps(
        {
            "decision": decision.action.word,
            "hits": decision.expect_hits or Trend.STAGNANT,
            "moved": decision.expect_moved or Trend.STAGNANT,
            "reason": decision.reason,
        },
        separators=(",", ":"),
    )
