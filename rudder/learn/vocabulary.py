"""The embedded model's tokens: bytes, and whole words and numbers of the prompts it reads.

A prompt of 1,100 characters becomes about 200 tokens. Pieces are USER_DEFINED tokens, which
llama.cpp looks for before anything else, the longest first. It insists on merges, so there is one
that nothing needs: of two spaces.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# GGUF's types of tokens.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
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


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A byte-level BPE tokenizer: tokens in letters (see ``byte_letters``), special ones as text.

    types: NORMAL, CONTROL or USER_DEFINED of each token.   merges: "left right", best first.
    begin, end: ids of the tokens that open and close a text.
    """

    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str]
    begin: int
    end: int

    def describe(self, writer: Any) -> None:
        """Tell a ``gguf.GGUFWriter``."""
        writer.add_vocab_size(len(self.tokens))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")  # each digit apart
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges))
        writer.add_bos_token_id(self.begin)
        writer.add_eos_token_id(self.end)
        writer.add_add_bos_token(False)


def byte_letters() -> list[str]:
    """The letter by which byte-level BPE writes each of the 256 bytes (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


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
