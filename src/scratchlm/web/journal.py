"""What became of each page, on disk at once: kill the process anywhere, and nothing is lost.

    pages-00000.warc.gz ...   the pages that were kept
    journal.tsv               a line for each page that is done: number, outcome, redirects, bytes
                              of its body, number of its WARC file, end of its record, address

Records are flushed to disk before their lines are written, so that a line is always true. Whoever
opens the folder again cuts off what has no line: a record that was being written, or was not
mentioned yet.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

from scratchlm.base.errors import DataError
from scratchlm.base.files import sync_folder
from scratchlm.web.client import Answer
from scratchlm.web.warc import info_record, response_record

NAME = "journal.tsv"
KEPT = "kept"
_HEAD = b"number\toutcome\tredirects\tbytes\tfile\tend\turl\n"


@dataclass(frozen=True, slots=True)
class Done:
    """A page that is done.

    number    in the list
    outcome   KEPT, or the reason to drop it
    n_hops    redirects that were followed
    url       that it was fetched from, behind all redirects, or that was its last
    answer    with the page, if it was kept
    """

    number: int
    outcome: str
    n_hops: int
    url: str
    answer: Answer | None = None


@dataclass
class Tally:
    """What is done so far; n_bytes of bodies."""

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
    seen_before   called for each page that is done already: number, redirects, address
    raises        DataError for a journal or a WARC file that somebody damaged
    """

    def __init__(
        self,
        folder: Path,
        n_pages: int,
        chunk_bytes: int,
        about: Mapping[str, str],
        seen_before: Callable[[int, int, str], None],
    ) -> None:
        self.tally = Tally()
        self._folder, self._chunk_bytes, self._about = folder, chunk_bytes, about
        self._chunk, self._end = 0, 0  # the WARC file at hand, and its length
        self._lines = open(folder / NAME, "ab+")  # noqa: SIM115
        for done, n_bytes, chunk, end in _read_lines(self._lines, folder / NAME, n_pages):
            if done.outcome == KEPT:
                self._chunk, self._end = chunk, end
            self._count(done.outcome, n_bytes)
            seen_before(done.number, done.n_hops, done.url)
        self._records = self._open_chunk()
        self._batch: list[Done] = []
        self._writing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1)
        self._failure: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._records.close()
        self._lines.close()
        if not self._end:  # not a page was kept
            (self._folder / _chunk_name(self._chunk)).unlink()

    async def add(self, done: Done) -> None:
        """Write down what became of a page; it is on disk when this returns.

        Those that come while others are written wait and are written together: as many flushes to
        disk as it has time for, and as few as there need be.
        """
        batch = self._batch
        batch.append(done)
        async with self._writing:
            if batch is self._batch:  # or somebody of this batch has written all of it
                self._batch = []
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._write, batch)
        self._count(done.outcome, len(done.answer.body) if done.answer else 0)

    def _count(self, outcome: str, n_bytes: int) -> None:
        if outcome == KEPT:
            self.tally.n_kept += 1
            self.tally.n_bytes += n_bytes
        else:
            self.tally.dropped[outcome] += 1

    def _write(self, batch: list[Done]) -> None:
        """Write a batch; behind one that failed, none: its record may stand there in part."""
        if self._failure is not None:
            raise self._failure
        try:
            self._write_all(batch)
        except OSError as failure:
            self._failure = failure
            raise

    def _write_all(self, batch: list[Done]) -> None:
        """Records first, then the lines; each time all the way to the disk."""
        lines = []
        for done in batch:
            place = ("-", "-", "-")
            if done.answer is not None:
                self._append(_record_of(done.answer))
                place = (str(len(done.answer.body)), str(self._chunk), str(self._end))
            facts = (str(done.number), done.outcome, str(done.n_hops), *place, done.url)
            lines.append("\t".join(facts))
        if any(done.answer for done in batch):
            _flush(self._records)
        self._lines.write("".join(f"{line}\n" for line in lines).encode())
        _flush(self._lines)

    def _append(self, record: bytes) -> None:
        if self._end >= self._chunk_bytes:
            _flush(self._records)
            self._records.close()
            self._chunk, self._end = self._chunk + 1, 0
            self._records = self._open_chunk()
        if not self._end:
            name = _chunk_name(self._chunk)
            record = info_record(name, self._about, datetime.now(UTC)) + record
        self._records.write(record)
        self._end += len(record)

    def _open_chunk(self) -> IO[bytes]:
        """Open the WARC file at hand to append at its known end, and remove those behind it."""
        path = self._folder / _chunk_name(self._chunk)
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


def _chunk_name(number: int) -> str:
    return f"pages-{number:05}.warc.gz"


def _record_of(answer: Answer) -> bytes:
    return response_record(
        answer.url,
        answer.status_line,
        answer.headers,
        answer.body,
        answer.date,
        answer.peer,
        is_packed=answer.encoding != "",
    )


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read_lines(file: IO[bytes], path: Path, n_pages: int) -> Iterator[tuple[Done, int, int, int]]:
    """The lines of a journal; the last one, if it was cut, is cut off."""
    file.seek(0)
    end = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        end += len(line)
        if number > 1:
            yield _parsed(line, n_pages, f"{path}, line {number}")
    file.truncate(end)
    file.seek(end)
    if not end:
        file.write(_HEAD)


def _parsed(line: bytes, n_pages: int, place: str) -> tuple[Done, int, int, int]:
    try:
        number, outcome, n_hops, *places, url = line.decode().rstrip("\n").split("\t")
        n_bytes, chunk, end = (0 if text == "-" else int(text) for text in places)
        done = Done(range(n_pages)[int(number)], outcome, int(n_hops), url)
        return done, n_bytes, chunk, end
    except (ValueError, IndexError):
        raise DataError(
            f"{place} cannot be read: the journal was damaged. Begin anew in another folder."
        ) from None
