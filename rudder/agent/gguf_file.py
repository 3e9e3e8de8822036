"""GGUF files, read and written. L layers, V vocabulary, D width, H heads, K key-value heads,
F hidden width of the feed-forward blocks.

A header is read before llama.cpp does, which ends the whole process on some damaged files. Small
llama models are written with their tokenizer and chat template, for which alone gguf is imported
(extra: distill); the bytes depend on the arguments alone.
"""

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.cli.whole_file import whole

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
_LAYERS = 512  # llama.cpp asserts that there are no more


class _Reader:
    """Walks over a file's bytes; struct.error or IndexError where they end too soon."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._place = data, 0

    def scalar(self, kind: int) -> Any:
        form = struct.Struct("<" + _SCALARS[kind])
        (value,) = form.unpack_from(self._data, self._place)
        self._place += form.size
        return value

    def string(self) -> bytes:
        (size,) = struct.unpack_from("<Q", self._data, self._place)
        begin = self._place + 8
        self._place = begin + size
        if self._place > len(self._data):
            raise IndexError(f"a text of {size} bytes")
        return self._data[begin : self._place]

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(kind)
        element, count = self.scalar(4), self.scalar(10)
        if element == _STRING:
            return [self.string() for _ in range(count)]
        self._place += count * struct.calcsize("<" + _SCALARS[element])
        return None


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """What a model says of itself. fields: by GGUF's keys; arrays of numbers are left out."""

    fields: dict[str, Any]

    @property
    def architecture(self) -> str:
        name = self.fields.get("general.architecture", b"")
        return name.decode(errors="replace") if isinstance(name, bytes) else ""


def read_header(path: Path) -> GgufHeader:
    """Read and check a header. Raises ValueError: what is wrong with the file and what to do."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} {what}: expected a model file in GGUF format")
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise ValueError(f"{path} is a pointer of Git LFS, not the model: run `git lfs pull`")
        if start[:4] != MAGIC:
            raise ValueError(
                f"{path} is not a GGUF file (it begins with {start[:4]!r}): expected a model in "
                "llama.cpp's format"
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(path, _Reader(data))
            except (struct.error, IndexError, KeyError, OverflowError, MemoryError) as error:
                raise ValueError(
                    f"{path} is damaged or cut short (in its header: {error}): get it again"
                ) from None


def _read(path: Path, reader: _Reader) -> GgufHeader:
    reader.scalar(4)  # the magic
    version, _, num_fields = reader.scalar(4), reader.scalar(10), reader.scalar(10)
    if version not in (2, 3):
        raise ValueError(f"{path}: GGUF version {version}, expected 2 or 3: convert it again")
    fields: dict[str, Any] = {}
    for _ in range(num_fields):
        key = reader.string().decode(errors="replace")
        fields[key] = reader.value(reader.scalar(4))
    header = GgufHeader(fields=fields)
    name = header.architecture
    layers = fields.get(f"{name}.block_count", 1)
    epsilon = fields.get(f"{name}.attention.layer_norm_rms_epsilon", 0.0)
    tokens = [token.partition(b"\0")[0] for token in fields.get("tokenizer.ggml.tokens") or ()]
    # These end the process in llama.cpp; found by loading files with bytes changed at random.
    if not isinstance(layers, int) or not 0 < layers <= _LAYERS:
        raise ValueError(f"{path} is damaged ({layers} layers): get it again")
    if not isinstance(epsilon, float) or not epsilon >= 0:
        raise ValueError(f"{path} is damaged (norm epsilon {epsilon}): get it again")
    if len({token for token in tokens if token}) != sum(1 for token in tokens if token):
        raise ValueError(f"{path} is damaged (its vocabulary repeats tokens): get it again")
    return header


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
