"""Zip files with XML in them, as docx and epub are, read so that none can do harm."""

import io
import zipfile
import zlib
from collections.abc import Callable
from xml.parsers import expat

from scratchlm.extraction.result import Unreadable

_OLE = b"\xd0\xcf\x11\xe0"  # begins what Office locks by a password, and Word's files before 2007
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError)


class Package:
    """The parts of a package, unpacked to `most` bytes in all.

    what     "docx" or "epub", for reasons
    raises   Unreadable: "encrypted", "too large", or broken
    """

    def __init__(self, body: bytes, what: str, most: int) -> None:
        self.what, self._left = what, most
        if body.startswith(_OLE):
            raise Unreadable("encrypted", "locked by a password, or older than 2007")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(body))
        except _BROKEN as bad:
            raise self.broken(str(bad)) from None
        self._parts = {info.filename: info for info in self._zip.infolist()}

    def broken(self, detail: str) -> Unreadable:
        """What to raise for what is damaged."""
        return Unreadable(f"broken {self.what}", detail)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def read(self, name: str) -> bytes:
        """The bytes of a part."""
        info = self._parts.get(name)
        if info is None:
            raise self.broken(f"{name} is missing")
        if info.flag_bits & 1:
            raise Unreadable("encrypted", name)
        unpack = self._zip.open
        try:
            with unpack(info) as part:
                data = part.read(self._left + 1)
        except _BROKEN as bad:
            raise self.broken(f"{name}: {bad}") from None
        self._left -= len(data)
        if self._left < 0:
            raise Unreadable("too large", "when unpacked")
        return data

    def parse(
        self,
        name: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None],
        text: Callable[[str], None],
    ) -> None:
        """Go through the XML of a part; names come as "namespace name".

        Entities are refused, since nobody declares any but to fill the memory.
        """
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.CharacterDataHandler = text
        parser.EntityDeclHandler = self._refuse_entity
        try:
            parser.Parse(self.read(name), True)
        except (expat.ExpatError, ValueError, LookupError) as bad:  # the latter: of encodings
            raise self.broken(f"{name}: {bad}") from None

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise self.broken(f"it declares the entity {name}")


def local(name: str) -> str:
    """The name of an element without its namespace."""
    return name.rpartition(" ")[2]


class Properties:
    """What a package says of itself in the words of Dublin Core: handlers for `Package.parse`."""

    _NAMES = ("title", "date", "created", "language")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._open: str | None = None

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        """An element begins: of each name the first one counts."""
        space, _, tag = name.rpartition(" ")
        is_ours = "purl.org/dc/" in space and tag in self._NAMES and tag not in self.values
        self._open = tag if is_ours else None

    def end(self, _name: str) -> None:
        """An element ends."""
        self._open = None

    def text(self, data: str) -> None:
        """Text inside one."""
        if self._open:
            self.values[self._open] = self.values.get(self._open, "") + data
