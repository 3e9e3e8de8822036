"""The form of an answer: a grammar for llama.cpp, and the strict reading of what it lets through.

    {"decision":"replace","hits":"increase","moved":"decrease","reason":"many good candidates"}

The decision comes first, so that it can be acted on as soon as its first letter is out, and every
part is bounded, so that an answer of ``ANSWER_TOKENS`` tokens is always whole.
"""

import json
import re

from rudder.observations import Decision, Trend

WORDS = {"replace": True, "keep": False}
_TRENDS = {str(trend): trend for trend in Trend}
REASON_CHARS = 72
# No quote or backslash, so that a reason ends where it ends, and nothing special tokens consist of.
GRAMMAR = (
    r'root ::= "{\"decision\":" sp word next "\"hits\":" sp trend next "\"moved\":" sp trend next '
    r'"\"reason\":" sp "\"" [a-zA-Z0-9 .,;:%()+-]{1,' + str(REASON_CHARS) + r'} "\"}"'
    r"""
word ::= "\"replace\"" | "\"keep\""
trend ::= "\"increase\"" | "\"decrease\"" | "\"stagnant\""
next ::= "," sp
sp ::= " "?
"""
)
ANSWER_END = '"}'
_FRAME = '{"decision": "replace", "hits": "increase", "moved": "increase", "reason": ""}'
# A byte a token at worst.
ANSWER_TOKENS = len(_FRAME) + REASON_CHARS
_DECIDED = re.compile(r'\{"decision": ?"([rk])')


def early_word(text: str) -> bool | None:
    """Whether to replace, as soon as the grammar leaves only one word; None before that."""
    found = _DECIDED.match(text)
    return None if found is None else found[1] == "r"


def parse_answer(text: str, minibatch: int) -> Decision:
    """Read an answer. Anything but the four keys with their words means keep, and is not valid."""
    invalid = Decision(replace=False, minibatch=minibatch, valid=False, reason=text[:200])
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return invalid
    if not isinstance(answer, dict) or answer.keys() != {"decision", "hits", "moved", "reason"}:
        return invalid
    word, hits, moved, reason = (answer[key] for key in ("decision", "hits", "moved", "reason"))
    if not all(isinstance(part, str) for part in (word, hits, moved, reason)):
        return invalid
    if word not in WORDS or hits not in _TRENDS or moved not in _TRENDS:
        return invalid
    return Decision(
        replace=WORDS[word],
        minibatch=minibatch,
        expect_hits=_TRENDS[hits],
        expect_moved=_TRENDS[moved],
        reason=reason,
    )


def write_answer(decision: Decision) -> str:
    """The answer that says this; what the embedded model is taught."""
    return json.dumps(
        {
            "decision": "replace" if decision.replace else "keep",
            "hits": decision.expect_hits or Trend.STAGNANT,
            "moved": decision.expect_moved or Trend.STAGNANT,
            "reason": decision.reason,
        },
        separators=(",", ":"),
    )
