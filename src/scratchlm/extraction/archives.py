"""Archives and compressed files as streams: nothing is written to the disk, so that no path in an
archive can lead anywhere, and what is unpacked has a bound.
"""

import bz2
import gzip
import io
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from scratchlm.base.zstd import zstandard
from scratchlm.extraction.result import Unreadable

MOST_NESTED = 2  # levels of archives in an archive: OpenWebText is a tar of tars of packed tars
_RATIO = 200  # unpacked bytes for each byte of the file: text reaches 20, logs 100
_SLACK = 1 << 26  # and so many in any case
_MOST_MEMBERS = 10_000_000  # of one archive: OpenWebText has eight million
_MOST_DIRECTORY = 1 << 25  # bytes of a zip file's list, which takes up to 15 times that in memory
_MOST_HEADER = 1 << 20  # bytes that a tar file may spend on the name of one member
_WINDOW = 1 << 27  # bytes that zstandard may look back; also what `zstd -d` allows
_XZ_MEMORY = 1 << 28  # bytes; `xz -9` needs a quarter of it
_CHUNK = 1 << 16
_SMALL_CHUNK = 1 << 9  # of zstandard, which gives all at once: at its best, 32,000 : 1, 16 MB
_END = b"PK\x05\x06"  # of a zip file, followed by at most 64 kB of comment
_BROKEN = (
    OSError,
    EOFError,
    ValueError,  # UnicodeDecodeError is one
    NotImplementedError,
    OverflowError,
    RuntimeError,  # zipfile's word for a password
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


class Stream(Protocol):
    """What is read forward; raises Unreadable where it is broken or unpacks to too much."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; b"" at the end."""
        ...


class Budget:
    """How much may still be unpacked from one file, on all its levels.

    n_bytes   of the file
    """

    def __init__(self, n_bytes: int) -> None:
        self.left = _SLACK + _RATIO * n_bytes

    def spend(self, n_bytes: int) -> None:
        """Count bytes; raises Unreadable when there are too many."""
        self.left -= n_bytes
        if self.left < 0:
            raise Unreadable("unpacks to too much", f"over {_RATIO} times its size")


class Unpacked:
    """A stream that was compressed as a whole."""

    def __init__(self, raw: Stream, packing: str, budget: Budget) -> None:
        self._budget = budget
        self._broken: tuple[type[Exception], ...] = _BROKEN
        self._stream: Any
        if packing == ".gz":
            self._stream = gzip.GzipFile(fileobj=raw)  # type: ignore[call-overload]
        elif packing == ".bz2":
            self._stream = bz2.BZ2File(raw)  # type: ignore[call-overload]
        elif packing == ".xz":
            make = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            self._stream = _Frames(raw, make, bounded=True)
        else:
            library = zstandard(f"What ends in {packing}")
            self._broken = (*_BROKEN, library.ZstdError)
            make = library.ZstdDecompressor(max_window_size=_WINDOW).decompressobj
            self._stream = _Frames(raw, make, bounded=False)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""
        try:
            data: bytes = self._stream.read(size)
        except self._broken as bad:
            raise Unreadable("broken archive", str(bad)) from None
        self._budget.spend(len(data))
        return data


class _Frames:
    """What the makers of .xz and .zst call streams and frames, one behind the other.

    make      a decompressor for the next one
    bounded   whether it lets the size of what it gives be bounded
    """

    def __init__(self, raw: Stream, make: Callable[[], Any], bounded: bool) -> None:
        self._raw, self._make, self._bounded = raw, make, bounded
        self._chunk = _CHUNK if bounded else _SMALL_CHUNK
        self._frame = make()
        self._held = io.BytesIO()

    def read(self, size: int, /) -> bytes:
        while not (given := self._held.read(size)):
            data = b""
            if self._frame.eof:
                data = (self._frame.unused_data or self._raw.read(self._chunk)).lstrip(b"\0")
                if not data:
                    return b""
                self._frame = self._make()
            elif not self._bounded or self._frame.needs_input:
                data = self._raw.read(self._chunk)
                if not data:
                    raise EOFError("it is cut short")
            bound = (size,) if self._bounded else ()
            self._held = io.BytesIO(self._frame.decompress(data, *bound))
        return given


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; folders are none.

    name     its path in there, without anything that leads out
    stream   to be read before the next member is asked for
    fault    why it cannot be read, "" where it can: "link", "encrypted", ...
    """

    name: str
    n_bytes: int
    stream: Stream
    fault: str = ""


def members(kind: str, stream: Any, budget: Budget) -> Iterator[Member]:
    """The files of an archive, in its order.

    kind     "zip", whose stream can seek, or "tar"
    raises   Unreadable, also after some members: "broken archive", "unpacks to too much"
    """
    found = _zip_members(stream, budget) if kind == "zip" else _tar_members(stream, budget)
    try:
        for number, member in enumerate(found):
            if number == _MOST_MEMBERS:
                raise Unreadable("broken archive", f"over {_MOST_MEMBERS:,} members")
            yield member
    except _BROKEN as bad:
        raise Unreadable("broken archive", str(bad)) from None


def _safe(name: str) -> str:
    """A member's path from the archive's root on: names of documents, and nothing else."""
    parts = posixpath.normpath("/" + name.replace("\\", "/").replace("\0", "")).split("/")
    return "/".join(part for part in parts if part) or "unnamed"


class _Part:
    """A member's stream, with its errors and its budget."""

    def __init__(self, opened: Any, budget: Budget) -> None:
        self._opened, self._budget = opened, budget

    def read(self, size: int, /) -> bytes:
        try:
            data: bytes = self._opened.read(size)
        except _BROKEN as bad:
            raise Unreadable("broken archive", str(bad)) from None
        self._budget.spend(len(data))  # also of a sparse file's holes, which cost no bytes
        return data


class _Nothing:
    """The stream of what cannot be read."""

    def read(self, _size: int, /) -> bytes:
        return b""


def _zip_members(file: Any, budget: Budget) -> Iterator[Member]:
    if _directory_size(file) > _MOST_DIRECTORY:
        raise Unreadable("broken archive", f"its list has over {_MOST_DIRECTORY >> 20} MB")
    with zipfile.ZipFile(file) as archive:
        unpack = archive.open
        for info in archive.infolist():
            if info.is_dir():
                continue
            name, fault = _safe(_zip_name(info)), _zip_fault(info)
            stream: Stream = _Nothing()
            if not fault:
                try:
                    stream = _Part(unpack(info), budget)
                except _BROKEN:
                    fault = "broken archive"
            yield Member(name, info.file_size, stream, fault)


def _zip_fault(info: zipfile.ZipInfo) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "link"
    return "encrypted" if info.flag_bits & 1 else ""


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member: before Unicode, Windows in China wrote names in its own encoding."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    raw = info.filename.encode("cp437", "replace")  # what zipfile decoded it from
    for codec in ("utf-8", "gb18030"):
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return info.filename


def _directory_size(file: Any) -> int:
    """Bytes of a zip file's list of members, as its end says; 0 where there is no end."""
    size = file.seek(0, 2)
    start = max(0, size - len(_END) - 18 - 0xFFFF)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(_END)
    known = tail[at + 12 : at + 16]
    if at < 0 or len(known) < 4:
        return 0
    if known != b"\xff" * 4:
        return int.from_bytes(known, "little")
    place = int.from_bytes(tail[at - 12 : at - 4], "little")  # zip64: the end says where its own is
    if not 0 <= place < size:
        return 0
    file.seek(place + 40)
    return int.from_bytes(file.read(8), "little")


class _Forward:
    """A stream as tarfile wants a file: it can be skipped through, never gone back in.

    allowance   bytes that may still be read now; None: any number. tarfile takes into memory what
                a header says that a name is long
    """

    def __init__(self, stream: Stream) -> None:
        self._stream, self._at = stream, 0
        self.allowance: int | None = None
        self.last = b""  # what was read last

    def tell(self) -> int:
        return self._at

    def seek(self, at: int) -> int:
        if at < self._at:
            raise tarfile.ReadError("it leads back")
        while self._at < at and (skipped := self._stream.read(min(_CHUNK, at - self._at))):
            self._at += len(skipped)
        return self._at

    def read(self, size: int) -> bytes:
        if self.allowance is not None:
            self.allowance -= size
            if self.allowance < 0:
                raise tarfile.ReadError(f"a header of over {_MOST_HEADER >> 20} MB")
        parts = []
        while size > 0 and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
            self._at += len(part)
        self.last = b"".join(parts)
        return self.last


def _tar_members(stream: Stream, budget: Budget) -> Iterator[Member]:
    forward = _Forward(stream)
    forward.allowance = _MOST_HEADER
    with tarfile.TarFile(fileobj=forward) as archive:  # type: ignore[arg-type]
        while True:
            forward.allowance = _MOST_HEADER
            info = archive.next()
            if info is None:
                break
            forward.allowance = None
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            archive.pax_headers = {}
            if info.isdir():
                continue
            opened = archive.extractfile(info) if info.isreg() else None
            part: Stream = _Part(opened, budget) if opened else _Nothing()
            fault = "" if opened else "link" if info.islnk() or info.issym() else "no file"
            yield Member(_safe(info.name), info.size, part, fault)
    if forward.last.strip(b"\0"):  # a whole archive ends in zeros
        raise Unreadable("broken archive", "it is damaged or cut short")
