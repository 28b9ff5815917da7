"""Documents to words that one space separates: what tutorials call NAME.tokenized.txt.

A line of words stands for each line of text that has any, and an empty line behind each document,
so that `text.split()` gives the words and `text.split("\\n\\n")` the documents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from scratchlm.base.files import write_whole
from scratchlm.corpus.encodings import Errors
from scratchlm.corpus.read import Document, Tally, find_files, read_documents
from scratchlm.corpus.stages import Counts
from scratchlm.corpus.store import ENDING, n_bytes, read_stored
from scratchlm.tokenizer.words import SEGMENTERS, Split

WORDS_ENDING = ".tokenized.txt"
NO_WORDS = "no words"

SegmenterName = Literal["spacy", "rjieba"]  # of English, of Chinese


@dataclass(frozen=True)
class SegmentSettings:
    """What the words of a file depend on; the three last as `read_documents` has them."""

    segmenter: SegmenterName
    limit: int = 0  # documents of each file; 0 takes all
    errors: Errors = "strict"
    text_key: str = "text"
    document_separator: str | None = None


def segment(shard: Path, out: Path, settings: SegmentSettings) -> Counts:
    """Write the words of a file of documents or of plain text: a job of a stage.

    raises   DataError for what cannot be read; MissingExtraError
    """
    counts, tally = Counts(), Tally()
    session = SEGMENTERS[settings.segmenter].session()
    with write_whole(out, text=True) as file, session as split:
        page = _Page(file, split)
        in_bytes = 0
        for piece in _read(shard, settings, tally):
            page.write(piece.text)
            in_bytes += n_bytes(piece.text)
            if not piece.ends:
                continue
            if kept_bytes := page.end_document():
                counts.keep(in_bytes, kept_bytes)
            else:
                counts.drop(NO_WORDS, in_bytes)
            in_bytes = 0
            if counts.n_in == settings.limit:
                break
    for _ in range(tally.n_empty):
        counts.drop(NO_WORDS)
    return counts


def _read(shard: Path, settings: SegmentSettings, tally: Tally) -> Iterator[Document]:
    if shard.name.endswith(ENDING):
        return read_stored(shard)
    return read_documents(
        find_files([shard]),
        errors=settings.errors,
        text_key=settings.text_key,
        document_separator=settings.document_separator,
        tally=tally,
    )


class _Page:
    """Words on their way into a file: a long document comes in pieces, and so may a long line."""

    def __init__(self, file: IO[str], split: Split) -> None:
        self._file = file
        self._split = split
        self._in_line = False
        self._n_bytes = 0  # of this document

    def write(self, text: str) -> None:
        """Write the words of a text, which goes on where the last one ended."""
        first, *others = text.split("\n")
        self._add(first)
        for line in others:
            self._end_line()
            self._add(line)

    def _add(self, text: str) -> None:
        # split once more: a piece may have other white space in it, such as U+2028
        words = " ".join(" ".join(self._split(text)).split())
        if words:
            self._put(f" {words}" if self._in_line else words)
            self._in_line = True

    def _end_line(self) -> None:
        if self._in_line:
            self._put("\n")
        self._in_line = False

    def _put(self, text: str) -> None:
        self._file.write(text)
        self._n_bytes += n_bytes(text)

    def end_document(self) -> int:
        """The bytes that were written of the document; 0: it has no words."""
        self._end_line()
        written, self._n_bytes = self._n_bytes, 0
        if written:
            self._file.write("\n")
        return written
