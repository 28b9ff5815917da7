"""GGUF, the file of llama.cpp (github.com/ggml-org/ggml, docs/gguf.md): fields, then tensors.

    magic, version, number of tensors, number of fields
    fields     key, type, value                 numbers, strings, arrays of these
    tensors    name, sizes, type, offset        sizes from the innermost on
    data       aligned; each tensor where its offset says

Everything that a file says of itself is held against its length before it is believed.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.formats.mapped import take
from scratchlm.formats.quants import QUANTS

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # version 1 had short counts, and is of 2023
MAX_DIMENSIONS = 4
ALIGNMENT = 32
_COMPARED = 1 << 24  # bytes at a time

# The number of a field's type -> how one value lies in the file
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies.

    shape    outermost first: (outputs, inputs), as PyTorch has it
    start    byte of the file
    """

    shape: tuple[int, ...]
    quant: str
    type: int
    start: int
    n_bytes: int


class GGUF:
    """An open file: its header is in memory, its tensors are not.

    fields    by key: numbers, strings, lists of either
    tensors   by name
    """

    def __init__(self, content: mmap.mmap, where: str) -> None:
        self.where = where
        self._content = content
        reader = _Reader(content, where)
        if reader.take(4) != MAGIC:
            raise CheckpointError(f"{where} is not a GGUF file: it does not begin with GGUF.")
        version = reader.number("<u4")
        if version not in VERSIONS:
            raise CheckpointError(
                f"{where} is GGUF of version {version} (or of another byte order); this program "
                f"reads {' and '.join(map(str, VERSIONS))}. Convert it anew with llama.cpp."
            )
        n_tensors, n_fields = reader.count(32, "tensors"), reader.count(13, "fields")
        self.fields: dict[str, Any] = {}
        for _ in range(n_fields):
            key = reader.text("a key")
            if key in self.fields:
                raise CheckpointError(f"{where}: {key} stands there twice: it was damaged.")
            self.fields[key] = reader.value(reader.number("<u4"), key)
        infos = [_read_info(reader) for _ in range(n_tensors)]
        alignment = self.fields.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise CheckpointError(f"{where}: general.alignment = {alignment!r} is no power of two.")
        begin = -(-reader.at // alignment) * alignment
        self.tensors: dict[str, TensorInfo] = {}
        for name, shape, kind, offset in infos:
            if name in self.tensors:
                raise CheckpointError(f"{where}: {name} stands there twice: it was damaged.")
            self.tensors[name] = self._placed(name, shape, kind, begin + offset)

    def _placed(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> TensorInfo:
        if kind not in QUANTS:
            known = ", ".join(quant.name for quant in QUANTS.values())
            raise CheckpointError(
                f"{self.where}: {name} is of type {kind}, which this program does not read. It "
                f"reads {known}: llama.cpp's llama-quantize turns others into these."
            )
        quant = QUANTS[kind]
        size = int(np.prod([1, *shape], dtype=object))
        row = shape[-1] if shape else 1
        if row % quant.size:
            raise CheckpointError(
                f"{self.where}: rows of {name} have {row} numbers, which blocks of "
                f"{quant.size} ({quant.name}) do not fill: it was damaged."
            )
        n_bytes = size // quant.size * quant.n_bytes
        if start + n_bytes > len(self._content):
            raise CheckpointError(
                f"{self.where} is cut short: {name} should end at byte {start + n_bytes:,}, and "
                f"there are {len(self._content):,}. Download or copy it again."
            )
        return TensorInfo(shape, quant.name, kind, start, n_bytes)

    def read(self, name: str) -> Tensor:
        """A tensor as floats: a copy, in the type it is stored in, or float32 from blocks."""
        info = self.tensors[name]
        quant = QUANTS[info.type]
        raw = take(self._content, info.start, info.n_bytes)
        blocks = torch.from_numpy(raw.reshape(-1, quant.n_bytes))
        return quant.read(blocks).view(info.shape)

    def is_same(self, first: str, second: str) -> bool:
        """Whether two tensors are equal in every byte; neither is brought into memory."""
        a, b = self.tensors[first], self.tensors[second]
        if (a.type, a.shape) != (b.type, b.shape):
            return False
        for at in range(0, a.n_bytes, _COMPARED):
            n = min(_COMPARED, a.n_bytes - at)
            ours, theirs = (take(self._content, info.start + at, n) for info in (a, b))
            if not np.array_equal(ours, theirs):
                return False
        return True


@contextmanager
def open_gguf(path: Path) -> Iterator[GGUF]:
    """Open a file and read its header.

    raises   CheckpointError for a file that is missing, damaged, or of a version or type that this
             program does not read
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Give the path of a .gguf file.")
    if path.stat().st_size < len(MAGIC):
        raise CheckpointError(f"{path} is not a GGUF file: it is empty or nearly so.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield GGUF(content, str(path))


def _read_info(reader: "_Reader") -> tuple[str, tuple[int, ...], int, int]:
    name = reader.text("the name of a tensor")
    n = reader.number("<u4")
    if n > MAX_DIMENSIONS:
        raise CheckpointError(f"{reader.where}: {name} has {n} dimensions: it was damaged.")
    sizes = [reader.number("<u8") for _ in range(n)]
    return name, tuple(reversed(sizes)), reader.number("<u4"), reader.number("<u8")


class _Reader:
    """Reads the header from the front on, and never beyond the file's end."""

    def __init__(self, content: mmap.mmap, where: str) -> None:
        self.content, self.where, self.at = content, where, 0

    def take(self, n: int) -> bytes:
        if n > len(self.content) - self.at:
            raise CheckpointError(
                f"{self.where} is cut short within its header, or damaged: {n:,} bytes should "
                f"follow byte {self.at:,}. Download or copy it again."
            )
        self.at += n
        return self.content[self.at - n : self.at]

    def number(self, kind: str) -> Any:
        value = np.frombuffer(self.take(int(kind[2])), kind)[0]
        # 1e-05 in 32 bits is 1e-05 again, not the 9.999999747378752e-06 of its 64.
        return float(str(value)) if kind == "<f4" else value.item()

    def count(self, least: int, what: str) -> int:
        """A number of things that take at least so many bytes each."""
        n: int = struct.unpack("<Q", self.take(8))[0]
        if n * least > len(self.content) - self.at:
            raise CheckpointError(
                f"{self.where} says that it has {n:,} {what}, for which it is too short: it was "
                "cut or damaged. Download or copy it again."
            )
        return n

    def text(self, what: str) -> str:
        try:
            return self.take(self.count(1, f"bytes of {what}")).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.where}: {what} is not UTF-8: it was damaged.") from None

    def value(self, kind: int, key: str) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            return self.text(key)
        if kind == _ARRAY:
            return self._array(self.number("<u4"), key)
        raise CheckpointError(f"{self.where}: {key} is of the unknown type {kind}.")

    def _array(self, kind: int, key: str) -> list[Any]:
        if kind == _STRING:
            return [self.text(key) for _ in range(self.count(8, f"strings in {key}"))]
        if kind not in _NUMBERS:
            raise CheckpointError(f"{self.where}: {key} is an array of the unknown type {kind}.")
        size = int(_NUMBERS[kind][2])
        n = self.count(size, f"numbers in {key}")
        values: list[Any] = np.frombuffer(self.take(n * size), _NUMBERS[kind]).tolist()
        return values
