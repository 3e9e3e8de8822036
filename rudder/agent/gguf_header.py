"""A GGUF file's header, read before llama.cpp does, which ends the process on some damaged ones."""

import mmap
import struct
from pathlib import Path
from typing import Any

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
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
        size = self.scalar(10)
        begin = self._place
        self._place += size
        if self._place > len(self._data):
            raise IndexError(f"a text of {size} bytes")
        return self._data[begin : self._place]

    def value(self, kind: int) -> Any:
        """None for an array of numbers."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(kind)
        element, count = self.scalar(4), self.scalar(10)
        if element == _STRING:
            return [self.string() for _ in range(count)]
        self._place += count * struct.calcsize("<" + _SCALARS[element])
        return None


def read_header(path: Path) -> dict[str, Any]:
    """What a model says of itself, by GGUF's keys, those of its architecture without its name.

    Raises ValueError: what is wrong with the file and what to do.
    """
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise ValueError(f"{path} is a pointer of Git LFS, not the model: run `git lfs pull`")
        if start[:4] != _MAGIC:
            raise ValueError(
                f"{path} is not a GGUF file (it begins with {start[:4]!r}): expected a model in "
                "llama.cpp's format"
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                fields = _read(path, _Reader(data))
            except (struct.error, IndexError, KeyError, OverflowError, MemoryError) as error:
                raise ValueError(
                    f"{path} is damaged or cut short (in its header: {error}): get it again"
                ) from None
    _check(path, fields)
    return fields


def _read(path: Path, reader: _Reader) -> dict[str, Any]:
    reader.scalar(4)  # the magic
    version, _, num_fields = reader.scalar(4), reader.scalar(10), reader.scalar(10)
    if version not in (2, 3):
        raise ValueError(f"{path}: GGUF version {version}, expected 2 or 3: convert it again")
    fields: dict[str, Any] = {}
    for _ in range(num_fields):
        key = reader.string().decode(errors="replace")
        fields[key] = reader.value(reader.scalar(4))
    name = fields.get("general.architecture")
    own = f"{name.decode(errors='replace') if isinstance(name, bytes) else ''}."
    return {key.removeprefix(own): value for key, value in fields.items()}


def _check(path: Path, fields: dict[str, Any]) -> None:
    """What ends the process in llama.cpp; found by loading files with bytes changed at random."""
    layers = fields.get("block_count", 1)
    epsilon = fields.get("attention.layer_norm_rms_epsilon", 0.0)
    tokens = [token.partition(b"\0")[0] for token in fields.get("tokenizer.ggml.tokens") or ()]
    known = [token for token in tokens if token]
    wrong = None
    if not isinstance(layers, int) or not 0 < layers <= _LAYERS:
        wrong = f"{layers} layers"
    elif not isinstance(epsilon, float) or not epsilon >= 0:
        wrong = f"norm epsilon {epsilon}"
    elif len(set(known)) != len(known):
        wrong = "its vocabulary repeats tokens"
    if wrong is not None:
        raise ValueError(f"{path} is damaged ({wrong}): get it again")
