"""TensorFlow's checkpoints, read without TensorFlow: `model.ckpt.index`, `model.ckpt.data-*`.

The index is a table of sorted keys in blocks, as LevelDB's (tensorflow/core/lib/io/table.cc); each
value is a protocol buffer that says where in the data files a tensor lies
(tensorflow/core/protobuf/tensor_bundle.proto).
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes
_MOST_INDEX_BYTES = 4 << 20  # that of GPT-2 with 48 layers has 15 kB
_MOST_SHARED = 64  # bytes of names from one byte: each can be the one before and a letter more
_MOST_DIMENSIONS = 8
_FLOAT = 1  # tensorflow/core/framework/types.proto


@dataclass(frozen=True)
class _Entry:
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


class TensorFlowCheckpoint:
    """The tensors of a checkpoint by name, all float32; nothing but the index is in memory.

    prefix   what its files begin with: .../model.ckpt
    raises   CheckpointError for files that are missing or damaged
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        index = prefix.with_name(f"{prefix.name}.index")
        try:
            if index.stat().st_size > _MOST_INDEX_BYTES:
                raise CheckpointError(f"{index} has over {_MOST_INDEX_BYTES >> 20} MB.")
            content = index.read_bytes()
        except OSError as bad:
            raise CheckpointError(f"{index} cannot be read: {bad.strerror or bad}.") from None
        try:
            entries = dict(_entries(content))
            header = dict(_fields(entries.pop(b"")))
            self._n_shards = _number(header.get(1, 0))
            if header.get(2, 0):
                raise ValueError("it was written on a big-endian machine")
            self._tensors = {key.decode("utf-8"): _entry(v) for key, v in entries.items()}
        except (ValueError, IndexError, KeyError, struct.error) as bad:
            reason = str(bad) if type(bad) is ValueError else "it is damaged or cut short"
            raise CheckpointError(
                f"{index} is not an index of a TensorFlow checkpoint: {reason}. Copy it again."
            ) from None

    @property
    def names(self) -> list[str]:
        """What the checkpoint holds."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; sizes of 1 in front, which TensorFlow's convolutions have, go."""
        shape = self._tensors[name].shape
        while len(shape) > 2 and shape[0] == 1:
            shape = shape[1:]
        return shape

    def read(self, name: str) -> Tensor:
        """A tensor: a copy of what is in the file.

        raises   CheckpointError for a data file that is missing or too short
        """
        entry = self._tensors[name]
        data = f"{self._prefix.name}.data-{entry.shard:05}-of-{self._n_shards:05}"
        path = self._prefix.with_name(data)
        if entry.size != math.prod(entry.shape) * 4:
            raise CheckpointError(f"{path}: {name} has {entry.size} bytes, not those of its shape.")
        try:
            if entry.offset + entry.size > path.stat().st_size:
                raise CheckpointError(f"{path} is cut short: {name} is not whole. Copy it again.")
            numbers = np.fromfile(path, "<f4", entry.size // 4, offset=entry.offset)
        except OSError as bad:
            raise CheckpointError(f"{path} cannot be read: {bad.strerror or bad}.") from None
        return torch.from_numpy(numbers.reshape(self.shape(name)))


def _entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) pairs of a table."""
    if len(content) < _FOOTER or struct.unpack("<Q", content[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as one")
    footer = content[-_FOOTER:]
    _, at = _handle(footer, 0)
    (offset, size), _ = _handle(footer, at)
    end = 0
    for _, place in _block(content, offset, size):
        (offset, size), _ = _handle(place, 0)
        if offset < end:  # a block that is named often would be read often
            raise ValueError("its blocks do not follow one another")
        end = offset + size
        yield from _block(content, offset, size)


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a block, each of whose keys begins as the one before."""
    if offset + size + 5 > len(content):
        raise ValueError("it is cut short")
    if content[offset + size]:
        raise ValueError("it is compressed, which TensorFlow's own are not")
    block = content[offset : offset + size]
    (n_restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 * (n_restarts + 1)
    at, key, n_bytes = 0, b"", 0
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        if at + fresh + length > end:
            raise ValueError("a block of it is damaged")
        key = key[:shared] + block[at : at + fresh]
        n_bytes += len(key)
        if n_bytes > _MOST_SHARED * size:
            raise ValueError("its names are too long")
        at += fresh
        yield key, block[at : at + length]
        at += length


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(content, at)
    size, at = _varint(content, at)
    return (offset, size), at


def _entry(content: bytes) -> _Entry:
    fields = dict(_fields(content))
    if 7 in fields:
        raise ValueError("a tensor of it is stored in slices")
    if (dtype := _number(fields.get(1, 0))) != _FLOAT:
        raise ValueError(f"a tensor of it is of type {dtype}, not of float32, which is {_FLOAT}")
    sizes = []
    for number, dimension in _fields(_bytes(fields.get(2, b""))):
        if number == 2:
            sizes.append(_number(dict(_fields(_bytes(dimension))).get(1, 0)))
    if len(sizes) > _MOST_DIMENSIONS or any(size >= 2**48 for size in sizes):
        raise ValueError("a tensor of it has impossible sizes")
    shard, offset, size = (_number(fields.get(number, 0)) for number in (3, 4, 5))
    return _Entry(tuple(sizes), shard, offset, size)


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Each (number, value) of one protocol buffer message."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(content, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no protocol buffer")
        if at + size > len(content):
            raise ValueError("it is cut short")
        yield key >> 3, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number in it is too long")


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a number in it is none")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a message in it is none")
    return value
