"""`.pt`, `.pth` and `pytorch_model.bin`: what torch.save wrote, read without running what is in it.

A pickle is a program; this reader knows the few things that one for tensors says, and takes every
class that it does not know for a record of its fields. Tensors stay in the file until asked for.

    a zip archive     NAME/data.pkl, and NAME/data/0, 1, ... with the numbers    since PyTorch 1.6
    pickles in a row  with the numbers behind them                               before
"""

import math
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.formats.mapped import take

_MOST_PICKLE_BYTES = 64 << 20  # tables of a model with 100,000 tensors have under 30 MB
_MOST_ARGUMENTS = 16  # those that make a tensor are 7
_MOST_DIMENSIONS = 8
_MOST_NUMBERS = 2**60
_LOCAL_HEADER = 30  # bytes of a zip entry's, without its name and extra field
_LITTLE = b"little"
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
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _STORAGES.values()}


@dataclass
class Record:
    """An object of a class that is not known here.

    fields   what it was said to hold; what the class was called with is left aside
    """

    class_name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Lazy:
    """A tensor that is still in the file.

    read    makes it: a copy
    place   tensors of one place are one tensor; None: nobody knows
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    place: Any = None


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file: `size` of them; `place` tells where, once it is known."""

    dtype: torch.dtype
    size: int
    place: Callable[[], int]
    content: mmap.mmap
    where: str


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
            found = (_zipped if zipped else _in_a_row)(file, content, str(path))
        except CheckpointError as bad:
            raise CheckpointError(f"{path}: {bad}") from None
        except Exception as bad:  # a pickle that was not meant to be read fails in any way
            raise CheckpointError(
                f"{path} was not written by torch.save, or is damaged ({type(bad).__name__}: "
                f"{str(bad)[:100]}). Copy it again."
            ) from None
        yield found


def check_weights(found: Any, where: str) -> dict[str, Lazy]:
    """What was found, once it is known to be tensors by their names.

    raises   CheckpointError for anything else
    """
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(weight, Lazy) for name, weight in found.items()
    ):
        raise CheckpointError(f"{where} does not hold weights by their names.")
    return found


def _zipped(file: IO[bytes], content: mmap.mmap, where: str) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        tables = [entry for name, entry in entries.items() if name.endswith("/data.pkl")]
        if len(tables) != 1 or tables[0].file_size > _MOST_PICKLE_BYTES:
            raise CheckpointError("it is a zip archive, but not one of torch.save.")
        if tables[0].compress_type != zipfile.ZIP_STORED:  # 64 kB could become 64 MB
            raise CheckpointError(
                "its table of tensors is compressed, which torch.save never does."
            )
        root = tables[0].filename.removesuffix("data.pkl")
        order = entries.get(f"{root}byteorder")
        if order and (order.file_size != len(_LITTLE) or archive.read(order) != _LITTLE):
            raise CheckpointError("it was written on a big-endian machine, or is damaged.")
        table = archive.read(tables[0])

    def place(key: str, n_bytes: int) -> int:
        entry = entries.get(f"{root}data/{key}")
        if entry is None or entry.compress_type != zipfile.ZIP_STORED or entry.file_size < n_bytes:
            raise CheckpointError(
                f"{where}: the numbers {key!r} are missing, cut short or compressed."
            )
        begin = entry.header_offset
        if not 0 <= begin <= len(content) - _LOCAL_HEADER:
            raise CheckpointError(f"{where}: the numbers {key!r} lie outside of the file.")
        # The local header's own lengths count: its extra field aligns the numbers.
        name, extra = struct.unpack_from("<HH", content, begin + 26)
        return begin + _LOCAL_HEADER + name + extra

    return _Unpickler(BytesIO(table), _Numbers(content, where, place)).load()


def _in_a_row(_file: IO[bytes], content: mmap.mmap, where: str) -> Any:
    places: dict[str, int] = {}

    def place(key: str, _n_bytes: int) -> int:
        if key not in places:
            raise CheckpointError(f"{where}: the numbers {key!r} are missing.")
        return places[key]

    stream = BytesIO(content[: min(len(content), _MOST_PICKLE_BYTES)])
    magic, _version, _system = (_Unpickler(stream).load() for _ in range(3))
    if type(magic) is not int or magic != _OLD_MAGIC:
        raise CheckpointError("it was not written by torch.save.")
    tables = _Unpickler(stream, _Numbers(content, where, place))
    found = tables.load()
    keys = _Unpickler(stream).load()
    at = stream.tell()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError("it does not say which numbers it holds.")
    for key in keys:
        (size,) = struct.unpack_from("<q", content, at)
        places[key] = at + 8
        storage = tables.storages[key]
        if size != storage.size:
            raise CheckpointError(f"the numbers {key!r} are {size} instead of {storage.size}.")
        at += 8 + size * storage.dtype.itemsize
    return found


@dataclass(frozen=True)
class _Numbers:
    """Where the numbers of tensors are.

    place   (key, bytes) -> where they begin
    """

    content: mmap.mmap
    where: str
    place: Callable[[str, int], int]


class _Table(dict[Any, Any]):
    """An OrderedDict, whose attributes are left aside: a pickle could hide `items` by one."""


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A class or function that is not known here."""

    name: str


_REFUSED = b"".join((
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8, pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER, pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4,
))  # fmt: skip


class _Unpickler(pickle._Unpickler):
    """Makes nothing but plain values, `Lazy` and `Record`.

    It is Python's own unpickler and not the faster one in C, whose steps cannot be changed: from
    one number in the file C makes a memo of 32 GB, it sets attributes of whatever is named, and it
    hashes a key that is a tuple of tuples of tuples for days.
    """

    stack: list[Any]

    def __init__(self, stream: BytesIO, numbers: _Numbers | None = None) -> None:
        super().__init__(stream, encoding="utf-8")
        self._numbers = numbers
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function: nothing that is not in these tables is ever run."""
        return _KNOWN.get(module, {}).get(name, _Foreign(f"{module}.{name}"))

    def persistent_load(self, pid: Any) -> _Storage:
        """("storage", dtype, key, device, how many numbers, a part of them in very old files)."""
        if self._numbers is None or not isinstance(pid, tuple) or len(pid) not in (5, 6):
            raise CheckpointError("it refers to what is not known.")
        kind, dtype, key, _device, size, *part = pid
        if type(kind) is not str or kind != "storage" or not isinstance(dtype, torch.dtype):
            raise CheckpointError("it refers to what is not known.")
        if type(key) is not str or type(size) is not int or not 0 <= size < _MOST_NUMBERS:
            raise CheckpointError("it refers to numbers in a way that is not known.")
        if part not in ([], [None]):
            raise CheckpointError("its tensors share numbers as only very old files have it.")
        numbers, n_bytes = self._numbers, size * dtype.itemsize
        storage = _Storage(
            dtype, size, lambda: numbers.place(key, n_bytes), numbers.content, numbers.where
        )
        return self.storages.setdefault(key, storage)

    def _made(self, function: Any, arguments: Any) -> Any:
        """What a function or class makes of its arguments."""
        if isinstance(function, _Foreign):
            return Record(function.name, {})
        # Even to hand over a long tuple takes time, and one byte can ask for it again.
        if not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
            raise CheckpointError("it calls something in a way that is not known.")
        return function(*arguments)

    def _refuse(self) -> None:
        raise CheckpointError("it holds sets, buffers or objects of old classes.")

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._made(function, arguments))

    def _reduce_with_names(self) -> None:
        self.stack.pop()
        self._reduce()

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Record):
            made.fields = state if isinstance(state, dict) else {"state": state}
        elif not isinstance(made, _Table):
            raise CheckpointError("it changes an object that has no fields.")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def _set_items(self) -> None:
        self._put(self.pop_mark())  # type: ignore[attr-defined]

    def _dict(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.stack.append({})
        self._put(items)

    def _put(self, items: list[Any]) -> None:
        """Add key, value, key, value, ... to the table on top of the stack."""
        table = self.stack[-1]
        if not isinstance(table, dict):
            raise CheckpointError("it adds entries to what is no table.")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Larger numbers can be chosen to share one hash, which makes a table slow.
            if type(key) is not str and not (type(key) is int and abs(key) < _MOST_NUMBERS):
                raise CheckpointError(
                    f"a key in it is neither text nor number: {type(key).__name__}."
                )
            table[key] = value

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _reduce_with_names,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        **dict.fromkeys(_REFUSED, _refuse),
    }


def _lazy(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_rest: Any
) -> Lazy:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple):
        raise CheckpointError("a tensor has no numbers or no sizes.")
    if len(shape) > _MOST_DIMENSIONS or len(shape) != len(stride):
        raise CheckpointError("a tensor has impossible sizes.")
    if not all(type(n) is int and 0 <= n < _MOST_NUMBERS for n in (offset, *shape, *stride)):
        raise CheckpointError("a tensor has impossible sizes.")
    if math.prod(n or 1 for n in shape) >= _MOST_NUMBERS:
        raise CheckpointError("a tensor has impossible sizes.")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    # A product that is larger means that numbers are repeated: few bytes would become many.
    if 0 not in shape and max(last + 1, math.prod(shape)) > storage.size:
        raise CheckpointError("a tensor is longer than its numbers.")

    def read() -> Tensor:
        if 0 in shape:
            return torch.empty(shape, dtype=storage.dtype)
        size = storage.dtype.itemsize
        start, n_bytes = storage.place() + offset * size, (last + 1 - offset) * size
        if start + n_bytes > len(storage.content):
            raise CheckpointError(f"{storage.where} is cut short: copy it again.")
        flat = torch.from_numpy(take(storage.content, start, n_bytes)).view(storage.dtype)
        return flat.as_strided(shape, stride)

    return Lazy(shape, storage.dtype, read, place=(id(storage), offset, shape, stride))


def _data(data: Any, *_rest: Any) -> Any:
    return data


# module -> name there -> what stands, or is called, in its place
_KNOWN: dict[str, dict[str, Any]] = {
    "torch": _STORAGES | _DTYPES,
    "collections": {"OrderedDict": lambda: _Table()},
    "torch._utils": {
        "_rebuild_tensor": _lazy,
        "_rebuild_tensor_v2": _lazy,
        "_rebuild_parameter": _data,
    },
}


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
        return _Unpickler(BytesIO(content)).load()
    except CheckpointError as bad:
        raise CheckpointError(f"{path}: {bad}") from None
    except Exception as bad:  # as above
        raise CheckpointError(
            f"{path} is no pickle, or is damaged ({type(bad).__name__}: {str(bad)[:100]})."
        ) from None
