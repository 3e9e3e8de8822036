"""GGUF headers, read before llama.cpp does: on some damaged files it ends the whole process."""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"} | {
    10: "Q",
    11: "q",
    12: "d",
}
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
