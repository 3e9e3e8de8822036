"""The embedded model's tokens: bytes, and whole words and numbers of the prompts it reads.

A prompt of 1,100 characters becomes about 200 tokens. Pieces are USER_DEFINED tokens, which
llama.cpp looks for before anything else, the longest first. It insists on merges, so there is one
that nothing needs: of two spaces.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rudder.agent.gguf_file import CONTROL, NORMAL, USER_DEFINED, Vocabulary, byte_letters

BEGIN, END = "<|state|>", "<|answer|>"
# The model reads one section of the user's message; whatever else there is, it does not see.
TEMPLATE = (
    BEGIN + "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ m['content'].split('### state\\n')[-1] }}{% endif %}{% endfor %}" + END
)
# llama-cpp-python returns longer ones as nothing.
MAX_BYTES = 31
_ANSWER = (
    *('{"decision":"', '","hits":"', '","moved":"', '","reason":"', '"}'),
    *("replace", "keep", "increase", "decrease", "stagnant"),
)
_NUMBERS = (
    *(f" {number}" for number in range(101)),
    *(f" {sign}{number}" for sign in "+-" for number in range(31)),
)
# A word with what stands around it, such as " (high, " and " rows".
_WORD = re.compile(r" ?\(?[a-z]+[0-9]?(?:\)|, )?")


_NUMBER = re.compile(r" ([+-]?)(\d+)")
# Waves of a number's logarithm, radians a unit.
_WAVES = (0.5, 1.0, 2.0, 4.0)


def place_on_scale(token: str) -> NDArray[np.float64] | None:
    """Features that are alike for numbers that are: float64 [10]; None where it is no number."""
    found = _NUMBER.fullmatch(token)
    if found is None:
        return None
    sign, size = -1.0 if found[1] == "-" else 1.0, np.log1p(float(found[2]))
    waves = [wave(sign * size * speed) for speed in _WAVES for wave in (np.sin, np.cos)]
    return np.array([*waves, sign * size / 4, 1.0 if found[1] else -1.0])


def render(prompt: str) -> str:
    """What ``TEMPLATE`` makes of a state section without its mark."""
    return f"{BEGIN}{prompt}{END}"


def learn_vocabulary(prompts: Sequence[str], reasons: Sequence[str], num_words: int) -> Vocabulary:
    """The vocabulary for these prompts: their most frequent words, and every reason whole."""
    counts = Counter(word for prompt in prompts for word in _WORD.findall(prompt))
    ranked = sorted(counts, key=lambda word: (-counts[word] * len(word), word))
    pieces = [*_ANSWER, *reasons, *_NUMBERS, *ranked[:num_words]]
    pieces = [piece for piece in dict.fromkeys(pieces) if 1 < len(piece) <= MAX_BYTES]
    letters = byte_letters()
    space = letters[ord(" ")]
    return Vocabulary(
        tokens=[*letters, BEGIN, END, 2 * space, *pieces],
        types=[*[NORMAL] * 256, CONTROL, CONTROL, NORMAL, *[USER_DEFINED] * len(pieces)],
        merges=[f"{space} {space}"],
        begin=256,
        end=257,
    )
