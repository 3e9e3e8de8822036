"""Tiny llama models of random weights, written as GGUF: they answer nonsense, but really run."""

from pathlib import Path

import torch

from rudder.learn.transformer import LlamaShape, Transformer, write_gguf
from rudder.learn.vocabulary import CONTROL, NORMAL, USER_DEFINED, Vocabulary, byte_letters

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHAT
)
# As DeepSeek's and Qwen's: the answer begins inside a thought.
THINKS = CHAT.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}") + (
    "{# the thought ends with </think> #}"
)
ONLY_STATE = (
    "<|im_start|>{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ m['content'].split('### state\\n')[-1] }}{% endif %}{% endfor %}<|im_end|>"
)
SHAPE = LlamaShape(dim=32, layers=1, heads=2, kv_heads=1, ff=64, context=2048)


def byte_vocabulary() -> Vocabulary:
    """256 bytes, two control tokens, and the fixed pieces of an answer as one token each."""
    pieces = ['{"decision":"', '","hits":"', '","moved":"', '","reason":"', '"}', "</think>"]
    words = ["Ġ t", "h e", "i n"]
    tokens = [*byte_letters(), "<|im_start|>", "<|im_end|>", *pieces]
    types = [NORMAL] * 256 + [CONTROL] * 2 + [USER_DEFINED] * len(pieces)
    tokens += [word.replace(" ", "") for word in words]
    types += [NORMAL] * len(words)
    return Vocabulary(tokens=tokens, types=types, merges=words, begin=256, end=257)


def write_model(
    path: Path,
    template: str | None = CHAT,
    shape: LlamaShape = SHAPE,
    architecture: str = "llama",
    kind: str = "F16",
) -> Path:
    """Write a model of random weights and return its path. template None: the file has none."""
    vocabulary = byte_vocabulary()
    torch.manual_seed(0)
    model = Transformer(shape, len(vocabulary.tokens))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.3)
    write_gguf(
        path, model, vocabulary, chat_template=template, kind=kind, architecture=architecture
    )
    return path
