"""`.pt`, `.pth` and `pytorch_model.bin`: what torch.save wrote, read without running what is in it.

A pickle is a program; this reader knows the few things that one for tensors says, and takes every
class that it does not know for a record of its fields. Tensors stay in the file until asked for.

    a zip archive     NAME/data.pkl, and NAME/data/0, 1, ... with the numbers    since PyTorch 1.6
    pickles in a row  with the numbers behind them                               before
"""

import collections
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError

_MOST_PICKLE_BYTES = 64 << 20  # tables of a model with 100,000 tensors have under 30 MB
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Record:
    """An object of a class that is not known here: its name and its fields."""

    class_name = ""

    def __new__(cls, *_arguments: Any, **_named: Any) -> "Record":
        """Whatever the class would have been called with is left aside."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments, self.fields = arguments, dict(named)

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {"state": state}


@dataclass(frozen=True)
class Lazy:
    """A tensor that is still in the file.

    read    makes it: a copy
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file: `size` of them; `place` tells where, once it is known."""

    dtype: torch.dtype
    size: int
    place: Callable[[], int]
    content: mmap.mmap


@contextmanager
def open_torch(path: Path) -> Iterator[Any]:
    """What was saved: nested dicts and lists, with `Lazy` for tensors and `Record` for the rest.

    raises   CheckpointError for a file that is damaged or was not written by torch.save
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    if not path.stat().st_size:
        raise CheckpointError(f"{path} is empty.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            zipped = zipfile.is_zipfile(file)
            found = _zipped(file, content) if zipped else _in_a_row(content)
        except CheckpointError as bad:
            raise CheckpointError(f"{path}: {bad}") from None
        except Exception as bad:  # a pickle that was not meant to be read fails in any way
            raise CheckpointError(
                f"{path} was not written by torch.save, or is damaged ({type(bad).__name__}: "
                f"{str(bad)[:100]}). Copy it again."
            ) from None
        yield found


def _zipped(file: IO[bytes], content: mmap.mmap) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        tables = [name for name in entries if name.endswith("/data.pkl")]
        if len(tables) != 1 or entries[tables[0]].file_size > _MOST_PICKLE_BYTES:
            raise CheckpointError("it is a zip archive, but not one of torch.save.")
        root = tables[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in entries and archive.read(order)[:8] != b"little":
            raise CheckpointError("it was written on a big-endian machine, which is not supported.")
        table = archive.read(tables[0])

    def place(key: str, n_bytes: int) -> int:
        entry = entries.get(f"{root}data/{key}")
        if entry is None or entry.compress_type != zipfile.ZIP_STORED or entry.file_size < n_bytes:
            raise CheckpointError(f"the numbers {key!r} are missing, cut short or compressed.")
        # The local header's own lengths count: its extra field aligns the numbers.
        name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
        return entry.header_offset + 30 + name + extra

    return _Unpickler(BytesIO(table), content, place).load()


def _in_a_row(content: mmap.mmap) -> Any:
    places: dict[str, int] = {}

    def place(key: str, _n_bytes: int) -> int:
        if key not in places:
            raise CheckpointError(f"the numbers {key!r} are missing.")
        return places[key]

    stream = BytesIO(content[: min(len(content), _MOST_PICKLE_BYTES)])
    magic, _version, _system = (_Unpickler(stream, content, place).load() for _ in range(3))
    if magic != _OLD_MAGIC:
        raise CheckpointError("it was not written by torch.save.")
    tables = _Unpickler(stream, content, place)
    found = tables.load()
    keys = _Unpickler(stream, content, place).load()
    at = stream.tell()
    for key in keys:
        (size,) = struct.unpack_from("<q", content, at)
        places[key] = at + 8
        storage = tables.storages[key]
        if size != storage.size:
            raise CheckpointError(f"the numbers {key!r} are {size} instead of {storage.size}.")
        at += 8 + size * storage.dtype.itemsize
    return found


class _Unpickler(pickle.Unpickler):
    """Makes nothing but plain values, `Lazy` and `Record`."""

    def __init__(
        self,
        stream: BytesIO,
        content: mmap.mmap | None,
        place: Callable[[str, int], int] | None,
    ) -> None:
        super().__init__(stream, encoding="utf-8")
        self._content, self._place = content, place
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _lazy,
            ("torch._utils", "_rebuild_tensor"): _lazy,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch", "Size"): tuple,
            ("builtins", "set"): set,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name, (Record,), {"class_name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, size, *_view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(size, int):
            raise CheckpointError(f"it refers to {kind!r}, which is not known.")
        key, n_bytes = str(key), size * dtype.itemsize
        storage = _Storage(dtype, size, lambda: self._place(key, n_bytes), self._content)
        return self.storages.setdefault(key, storage)


def _lazy(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_rest: Any
) -> Lazy:
    shape, stride = tuple(shape), tuple(stride)
    if len(shape) != len(stride) or any(n < 0 for n in (*shape, *stride, offset)):
        raise CheckpointError("a tensor has impossible sizes.")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= storage.size:
        raise CheckpointError("a tensor is longer than its numbers.")

    def read() -> Tensor:
        if 0 in shape:
            return torch.empty(shape, dtype=storage.dtype)
        n_bytes = storage.size * storage.dtype.itemsize
        start = storage.place()
        if start + n_bytes > len(storage.content):
            raise CheckpointError("the file is cut short: copy it again.")
        raw = np.frombuffer(storage.content, np.uint8, n_bytes, start)
        flat = torch.from_numpy(raw.copy()).view(storage.dtype)
        return flat.as_strided(shape, stride, offset)

    return Lazy(shape, storage.dtype, read)


def read_pickle(path: Path) -> Any:
    """A plain pickle of values, read as carefully; other classes are records.

    raises   CheckpointError for a file that is missing, damaged, or too large
    """
    try:
        if path.stat().st_size > _MOST_PICKLE_BYTES:
            raise CheckpointError(f"{path} has over {_MOST_PICKLE_BYTES >> 20} MB.")
        content = path.read_bytes()
    except OSError as bad:
        raise CheckpointError(f"{path} cannot be read: {bad.strerror or bad}.") from None
    try:
        return _Unpickler(BytesIO(content), None, None).load()
    except Exception as bad:
        raise CheckpointError(
            f"{path} is no pickle, or is damaged ({type(bad).__name__}: {str(bad)[:100]})."
        ) from None
