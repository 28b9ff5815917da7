"""What became of each page, written at once: kill the process anywhere, and nothing is lost.

    pages-00000.warc.gz ...   the pages that were kept
    journal.tsv               a line for each page that is done: number, outcome, redirects, bytes
                              of its body; file, offset and length of its record; address

A record is written before its line, so that a line is true whenever the process is killed; whoever
opens the folder again cuts off a record that has none. To the disk both are flushed once a second:
behind a power cut there can be lines whose records have not come that far, which are cut off too.
"""

import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

from scratchlm.base.errors import DataError
from scratchlm.base.files import sync_folder
from scratchlm.base.log import warn
from scratchlm.base.progress import counted
from scratchlm.web.client import Answer
from scratchlm.web.warc import info_record, response_record

NAME = "journal.tsv"
KEPT = "kept"
_HEAD = b"number\toutcome\tredirects\tbytes\tfile\toffset\tlength\turl\n"
_SYNC_SECONDS = 1.0
_TAIL = 1 << 20  # bytes at the end of a journal in which a power cut can have left false lines


@dataclass(frozen=True, slots=True)
class Done:
    """A page that is done.

    number    in the list
    outcome   KEPT, or the reason to drop it
    n_hops    redirects that were followed
    url       that it was fetched from, behind all redirects, or that was its last
    """

    number: int
    outcome: str
    n_hops: int
    url: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page's record is; n_bytes of its body."""

    n_bytes: int
    chunk: int
    offset: int
    length: int


@dataclass
class Tally:
    """What is done so far; n_bytes of bodies, as they came."""

    n_kept: int = 0
    n_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by reason

    @property
    def n_done(self) -> int:
        """All pages that are done."""
        return self.n_kept + self.dropped.total()


class Journal:
    """Where pages that are done are written; one process at a time may have it open.

    folder        its folder, which exists
    n_pages       of the list
    chunk_bytes   a WARC file ends with the page that brings it to this
    about         what each WARC file says of its making
    seen_before   called for each page that is done already
    raises        DataError for a journal or a WARC file that somebody damaged
    """

    def __init__(
        self,
        folder: Path,
        n_pages: int,
        chunk_bytes: int,
        about: Mapping[str, str],
        seen_before: Callable[[Done], None],
    ) -> None:
        self.tally = Tally()
        self._folder, self._chunk_bytes, self._about = folder, chunk_bytes, about
        self._chunk, self._end = 0, 0  # the WARC file at hand, and its length
        path = folder / NAME
        self._lines = open(path, "ab+")  # noqa: SIM115
        self._cut_false_lines(path, n_pages)
        for done, place in _read_lines(self._lines, path, n_pages):
            if place is not None:
                self._chunk, self._end = place.chunk, place.offset + place.length
            self._count(done, place)
            seen_before(done)
        self._records = self._open_chunk()
        self._failure: OSError | None = None
        self._thread = ThreadPoolExecutor(1)
        self._syncing: Future[None] | None = None
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        for file in (self._records, self._lines):
            with suppress(OSError) if self._failure else nullcontext():
                file.flush()
                os.fsync(file.fileno())
                file.close()
        if not self._end:  # not a page was kept
            self._path_of(self._chunk).unlink()

    def add(self, done: Done, answer: Answer | None = None) -> None:
        """Write down what became of a page; a kill leaves it written when this has returned.

        answer   with the page, if it was kept
        raises   OSError for a full disk; then nothing more can be written, since a part of a record
                 may stand at the end
        """
        if self._failure is not None:
            raise self._failure
        try:
            place = None if answer is None else self._add_record(answer)
            self._lines.write(_line_of(done, place))
            self._lines.flush()
            self._keep_synced()
        except OSError as failure:
            self._failure = failure
            raise
        self._count(done, place)

    def _count(self, done: Done, place: _Place | None) -> None:
        if place is not None:
            self.tally.n_kept += 1
            self.tally.n_bytes += place.n_bytes
        else:
            self.tally.dropped[done.outcome] += 1

    def _add_record(self, answer: Answer) -> _Place:
        if self._end >= self._chunk_bytes:
            _sync(os.dup(self._records.fileno()))
            self._records.close()
            self._chunk, self._end = self._chunk + 1, 0
            self._records = self._open_chunk()
        if not self._end:
            name = self._path_of(self._chunk).name
            self._end += self._records.write(info_record(name, self._about, datetime.now(UTC)))
        record = response_record(
            answer.url,
            answer.status_line,
            answer.headers,
            answer.body,
            answer.date,
            answer.peer,
            is_packed=_is_packed(answer),
        )
        place = _Place(len(answer.body), self._chunk, self._end, len(record))
        self._end += self._records.write(record)
        self._records.flush()
        return place

    def _keep_synced(self) -> None:
        """Once a second, let a thread flush to the disk what stands there."""
        now = time.monotonic()
        if now - self._synced < _SYNC_SECONDS:
            return
        if self._syncing is None or self._syncing.done():
            if self._syncing is not None:
                self._syncing.result()
            self._synced = now
            files = (self._records, self._lines)
            handles = [os.dup(file.fileno()) for file in files]  # the files may be closed meanwhile
            self._syncing = self._thread.submit(_sync, *handles)

    def _path_of(self, chunk: int) -> Path:
        return self._folder / f"pages-{chunk:05}.warc.gz"

    def _open_chunk(self) -> IO[bytes]:
        """Open the WARC file at hand to append at its known end, and remove those behind it."""
        path = self._path_of(self._chunk)
        size = path.stat().st_size if path.exists() else 0
        if size < self._end:
            raise DataError(
                f"{path} has {size:,} bytes, and the journal knows of {self._end:,}: it was "
                "damaged or removed. Begin anew in another folder."
            )
        for other in self._folder.glob("pages-*.warc.gz"):
            if other.name > path.name:
                other.unlink()
        file = open(path, "ab")  # noqa: SIM115
        file.truncate(self._end)
        sync_folder(self._folder)
        return file

    def _cut_false_lines(self, path: Path, n_pages: int) -> None:
        """Cut the journal in front of the lines at its end whose records are not on the disk."""
        n_cut, end = 0, None
        for start, line in _last_lines(self._lines):
            if b"\0" in line or not line.endswith(b"\n"):  # what was never written
                end = start
                continue
            place = _parsed(line, n_pages, f"the end of {path}")[1]
            if place is not None:
                if self._is_whole(place):
                    break
                n_cut, end = n_cut + 1, start
        if end is not None:
            self._lines.truncate(end)
        if n_cut:
            warn(f"{path}: {counted(n_cut, 'page')} had not come to the disk, and will be again.")

    def _is_whole(self, place: _Place) -> bool:
        """Whether a record can be read, to its checksum."""
        try:
            with open(self._path_of(place.chunk), "rb") as file:
                file.seek(place.offset)
                zlib.decompress(file.read(place.length), 31)
        except (FileNotFoundError, zlib.error):
            return False
        return True


def _sync(*handles: int) -> None:
    """Flush files to the disk, and close these handles of theirs."""
    for handle in handles:
        os.fsync(handle)
        os.close(handle)


def _is_packed(answer: Answer) -> bool:
    """Whether a body is compressed already: by its encoding, or as PDF, docx and epub are."""
    kind = answer.content_type
    return answer.encoding != "" or not (kind.startswith("text/") or kind.endswith("+xml"))


def _line_of(done: Done, place: _Place | None) -> bytes:
    where = ("-",) * 4
    if place is not None:
        where = (str(place.n_bytes), str(place.chunk), str(place.offset), str(place.length))
    facts = (str(done.number), done.outcome, str(done.n_hops), *where, done.url)
    return ("\t".join(facts) + "\n").encode()


def _read_lines(file: IO[bytes], path: Path, n_pages: int) -> Iterator[tuple[Done, _Place | None]]:
    """The lines of a journal, behind its head, which is written where it is missing."""
    file.seek(0)
    head = file.readline()
    if not head.endswith(b"\n"):  # killed while it was written
        file.truncate(0)
        file.write(_HEAD)
        return
    if head != _HEAD:
        raise DataError(f"{path} is no journal of this version. Begin anew in another folder.")
    for number, line in enumerate(file, 2):
        yield _parsed(line, n_pages, f"{path}, line {number}")


def _last_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The last lines, the head apart, with their offsets, the very last one first."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL, 0))
    file.readline()  # the head, or a part of a line
    lines = []
    while line := file.readline():
        lines.append((file.tell() - len(line), line))
    yield from reversed(lines)


def _parsed(line: bytes, n_pages: int, place: str) -> tuple[Done, _Place | None]:
    try:
        number, outcome, n_hops, *where, url = line.decode().removesuffix("\n").split("\t")
        done = Done(range(n_pages)[int(number)], outcome, int(n_hops), url)
        if where == ["-"] * 4:
            return done, None
        n_bytes, chunk, offset, length = map(int, where)
        return done, _Place(n_bytes, chunk, offset, length)
    except (ValueError, IndexError):
        raise DataError(
            f"{place} cannot be read: the journal was damaged. Begin anew in another folder."
        ) from None
