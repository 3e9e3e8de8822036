"""Writes small llama models, with their tokenizer and chat template, as GGUF files.

V vocabulary; D width; H heads; K key-value heads; F hidden width of the feed-forward blocks.
The only file that imports gguf (extra: distill). The bytes depend on the arguments alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rudder.cli.whole_file import whole

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """Sizes of a llama model; the head is tied to the embedding. context: tokens it learnt on."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    ff: int
    context: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A byte-level BPE tokenizer: tokens in letters (see ``byte_letters``), special ones as text.

    types: NORMAL, CONTROL or USER_DEFINED of each token.   merges: "left right", best first.
    begin, end: ids of the tokens that open and close a text.
    llama-cpp-python returns tokens of more than 31 bytes as nothing.
    """

    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str]
    begin: int
    end: int


def byte_letters() -> list[str]:
    """The letter by which byte-level BPE writes each of the 256 bytes (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def weight_shapes(shape: LlamaShape, num_tokens: int) -> dict[str, tuple[int, ...]]:
    """GGUF's name and shape of every weight, rows first: a [m, n] weight maps n inputs to m."""
    head = shape.dim // shape.heads
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (num_tokens, shape.dim)}  # [V, D]
    for layer in range(shape.layers):
        block = {
            "attn_norm": (shape.dim,),
            "attn_q": (shape.heads * head, shape.dim),  # [D, D], adjacent pairs rotate
            "attn_k": (shape.kv_heads * head, shape.dim),  # [K D / H, D]
            "attn_v": (shape.kv_heads * head, shape.dim),
            "attn_output": (shape.dim, shape.heads * head),
            "ffn_norm": (shape.dim,),
            "ffn_gate": (shape.ff, shape.dim),  # [F, D]
            "ffn_up": (shape.ff, shape.dim),
            "ffn_down": (shape.dim, shape.ff),  # [D, F]
        }
        shapes |= {f"blk.{layer}.{name}.weight": size for name, size in block.items()}
    return shapes | {"output_norm.weight": (shape.dim,)}


def write_llama_gguf(
    path: Path | str,
    shape: LlamaShape,
    weights: Mapping[str, NDArray[np.float32]],
    vocabulary: Vocabulary,
    *,
    chat_template: str | None,
    kind: str = "F16",
    name: str = "rudder",
    architecture: str = "llama",
) -> None:
    """Write a model. weights: as ``weight_shapes`` says; norms stay F32, the rest becomes ``kind``.

    kind: F32, F16 or Q8_0 (rows must then be divisible by 32). The file appears when it is whole.
    Raises ValueError where a weight is missing, superfluous or of another shape.
    """
    import gguf

    _check(shape, weights, vocabulary)
    stored = gguf.GGMLQuantizationType[kind]
    with whole(path) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        writer.add_name(name)
        writer.add_context_length(shape.context)
        writer.add_embedding_length(shape.dim)
        writer.add_block_count(shape.layers)
        writer.add_feed_forward_length(shape.ff)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_rope_dimension_count(shape.dim // shape.heads)
        writer.add_rope_freq_base(shape.rope_theta)
        writer.add_layer_norm_rms_eps(shape.norm_eps)
        writer.add_vocab_size(len(vocabulary.tokens))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")  # each digit apart
        writer.add_token_list(list(vocabulary.tokens))
        writer.add_token_types(list(vocabulary.types))
        writer.add_token_merges(list(vocabulary.merges))
        writer.add_bos_token_id(vocabulary.begin)
        writer.add_eos_token_id(vocabulary.end)
        writer.add_add_bos_token(False)
        if chat_template is not None:
            writer.add_chat_template(chat_template)
        for key in weight_shapes(shape, len(vocabulary.tokens)):
            weight = np.ascontiguousarray(weights[key], np.float32)
            form = stored if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(key, gguf.quants.quantize(weight, form), raw_dtype=form)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _check(
    shape: LlamaShape, weights: Mapping[str, NDArray[np.float32]], vocabulary: Vocabulary
) -> None:
    if shape.dim % shape.heads or shape.heads % shape.kv_heads:
        raise ValueError(f"{shape}: heads must divide dim, and kv_heads heads")
    if len(vocabulary.tokens) != len(vocabulary.types):
        raise ValueError(f"{len(vocabulary.tokens)} tokens, {len(vocabulary.types)} types")
    expected = weight_shapes(shape, len(vocabulary.tokens))
    if expected.keys() != weights.keys():
        raise ValueError(f"weights {sorted(expected.keys() ^ weights.keys())} missing or too many")
    for key, size in expected.items():
        if weights[key].shape != size:
            raise ValueError(f"weight {key}: shape {weights[key].shape}, expected {size}")
