"""What files hold, as a stream: texts that are ready, documents to take apart, and failures.

Nothing ends the stream but the end of the file: what cannot be read is a `Failure` with its reason,
and the next document follows. Memory holds one document.
"""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scratchlm.corpus.read import Document, SourceFile
from scratchlm.corpus.records import (
    Failure,
    Origin,
    Peeked,
    Reading,
    exactly,
    json_documents,
    parquet_documents,
    table_documents,
    text_documents,
)
from scratchlm.extraction.archives import MOST_NESTED, Budget, Stream, Unpacked, members
from scratchlm.extraction.charset import decode_page
from scratchlm.extraction.extract import EXTRACTED
from scratchlm.extraction.kinds import HEAD, Kind, kind_of_bytes, kind_of_name
from scratchlm.extraction.result import Hints, Unreadable
from scratchlm.web.warc import Page, read_pages

_HIDDEN = (".", "__MACOSX")  # begin names that their owner does not see
_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_KINDS: dict[str, Kind] = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "text",
    "text/markdown": "text",
    "application/pdf": "pdf",
    "application/epub+zip": "epub",
    _DOCX: "docx",
}
_UNTOLD = ("", "application/octet-stream")  # content types of which the bytes must tell


@dataclass(frozen=True, slots=True)
class Raw:
    """A document that is to be taken apart; `kind` is one of EXTRACTED."""

    id: str
    source: str
    kind: Kind
    body: bytes
    hints: Hints
    meta: dict[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """A file; of a WARC file, the records that begin at byte `start` and in front of `end`."""

    file: SourceFile
    start: int = 0
    end: int | None = None


Item = Raw | Document | Failure


def contents(part: Part, reading: Reading) -> Iterator[Item]:
    """The documents of a file, in its order; where there are none, a failure says so."""
    is_empty = not part.start and part.end is None  # until the first one; a piece may be
    for item in _contents(part, Origin(part.file.name, str(part.file.path)), reading):
        is_empty = False
        yield item
    if is_empty:
        yield Failure(part.file.name, str(part.file.path), "empty", n_bytes=part.file.n_bytes)


def _contents(part: Part, origin: Origin, reading: Reading) -> Iterator[Item]:
    file = part.file
    try:
        if file.kind == "warc":
            yield from _pages(part, origin, reading.most)
        elif file.kind == "parquet":
            yield from parquet_documents(file, origin, reading.text_key)
        else:
            with open(file.path, "rb") as opened:
                inside = _Inside(reading, Budget(file.n_bytes))
                yield from inside.documents(opened, file.kind, origin)
    except Unreadable as bad:
        yield origin.failure(bad.reason, bad.detail, file.n_bytes)
    except OSError as bad:
        yield origin.failure("cannot be opened", bad.strerror or str(bad), file.n_bytes)


@dataclass(frozen=True)
class _Inside:
    """One file and the archives in it; `depth` counts those around us."""

    reading: Reading
    budget: Budget
    depth: int = 0

    def documents(self, stream: Any, kind: Kind, origin: Origin) -> Iterator[Item]:
        """The documents of a stream; raises Unreadable where it cannot be read (any further)."""
        packing = kind_of_name(origin.name).packing
        if packing:
            stream = Unpacked(stream, packing, self.budget)
        if kind == "packed":
            stream = peeked = Peeked(stream, HEAD)
            inner = kind_of_name(origin.name[: -len(packing)]).kind
            kind = kind_of_bytes(peeked.head) or inner or kind
        if kind in ("text", "code"):
            yield from text_documents(stream, origin, self.reading, {"kind": kind})
        elif kind == "jsonl":
            yield from json_documents(stream, origin, self.reading)
        elif kind == "table":
            yield from table_documents(stream, origin, self.reading)
        elif kind in ("zip", "tar"):
            if kind == "zip" and (packing or self.depth):  # it is read from its end
                stream = io.BytesIO(self._whole(stream))
            yield from self._archive(stream, kind, origin)
        elif kind in EXTRACTED:
            yield Raw(origin.name, origin.source, kind, self._whole(stream), Hints(), {})
        else:
            raise Unreadable("kind not read", kind)

    def _whole(self, stream: Stream) -> bytes:
        body = exactly(stream, self.reading.most + 1)
        if len(body) > self.reading.most:
            raise Unreadable("too large", f"over {self.reading.most >> 20} MB")
        return body

    def _archive(self, stream: Any, kind: Kind, origin: Origin) -> Iterator[Item]:
        if self.depth > MOST_NESTED:
            raise Unreadable("nested too deep")
        inner = replace(self, depth=self.depth + 1)
        for member in members(kind, stream, self.budget):
            here = Origin(f"{origin.name}/{member.name}", f"{origin.source}/{member.name}")
            is_hidden = any(part.startswith(_HIDDEN) for part in member.name.split("/"))
            fault = "hidden" if is_hidden else member.fault
            if fault:
                yield here.failure(fault, n_bytes=member.n_bytes)
                continue
            try:
                yield from inner._member(member.stream, here)
            except Unreadable as bad:
                yield here.failure(bad.reason, bad.detail, member.n_bytes)

    def _member(self, stream: Stream, origin: Origin) -> Iterator[Item]:
        kind = kind_of_name(origin.name).kind
        if kind is None:
            stream = peeked = Peeked(stream, HEAD)
            kind = kind_of_bytes(peeked.head)
        if kind is None:
            raise Unreadable("kind not read", Path(origin.name).suffix)
        yield from self.documents(stream, kind, origin)


def _pages(part: Part, origin: Origin, most: int) -> Iterator[Item]:
    """The pages of a part of a WARC file.

    What `read_pages` passes over belongs to the part that has the next page, and at the end of the
    file to the last part: so every record is counted once.
    """
    skipped: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for page in read_pages(part.file.path, most, skipped):
        if part.end is not None and page.offset >= part.end:
            return
        if page.offset >= part.start:
            yield from _passed_over(skipped - told, origin)
            yield _page(page, origin.numbered(page.offset))
        told = skipped.copy()
    if part.end is None:
        yield from _passed_over(skipped - told, origin)


def _passed_over(skipped: Counter[str], origin: Origin) -> Iterator[Failure]:
    yield from (origin.failure(reason) for reason in skipped.elements())


def _page(page: Page, origin: Origin) -> Item:
    """A page as what is to be taken apart, as text, or as a failure."""
    failed = Failure(origin.name, page.url, "", n_bytes=len(page.body))
    if not 200 <= page.status < 300:
        return replace(failed, reason="http status", detail=str(page.status))
    kind = _KINDS.get(page.content_type)
    if page.content_type in _UNTOLD:
        kind = kind_of_bytes(page.body[:HEAD])
    if kind is None:
        return replace(failed, reason="content type", detail=page.content_type)
    meta = {"url": page.url, "content_type": page.content_type, "fetched": page.date}
    meta = {name: value for name, value in meta.items() if value}
    charset = page.charset or ""
    if kind in EXTRACTED:
        hints = Hints(page.url, charset, page.date[:10])
        return Raw(origin.name, origin.source, kind, page.body, hints, meta)
    text = decode_page(page.body, charset)
    if "\0" in text:
        return replace(failed, reason="binary")
    return origin.document(text, {"kind": kind, **meta}, len(page.body))
