"""Files to documents: plain text, JSON lines and Parquet, of any size and any encoding we know.

Everything is read as a stream: memory holds one piece of a text file, one line of JSON or one
batch of a Parquet column, whatever the size of the file.
"""

import gzip
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from scratchlm.base.errors import DataError, MissingExtraError
from scratchlm.base.log import say, warn
from scratchlm.base.progress import counted
from scratchlm.base.zstd import read_lines
from scratchlm.corpus.accounts import DOCUMENTS, is_account, text_per_byte
from scratchlm.corpus.encodings import NAMES, Errors, decode, detect
from scratchlm.corpus.pieces import cut_pieces, split_documents
from scratchlm.extraction.kinds import KINDS, Kind

_PLAIN = (".txt", ".text", ".md", ".markdown", ".jsonl", ".ndjson", ".parquet")
_COMPRESSED = ".gz"  # of text and JSON lines
_LINK = "symbolic link"  # among the reasons to pass over
_MAX_LINE = 1 << 28  # characters of one JSON line, so that a wrong file cannot fill the memory
_PARQUET_ROWS = 256  # rows of one batch


@dataclass(frozen=True, slots=True)
class Document:
    """One text, or one piece of a long one.

    id       names the document on every machine: the file's name and the line or row
    source   the file's path, as it was asked for
    meta     what else the record says: the other keys of a JSON line
    ends     False: the next Document goes on with the same text, under the same id
    number   of the line, row or document in the file; None: the file is the document
    """

    id: str
    text: str
    source: str
    meta: dict[str, Any]
    ends: bool = True
    number: int | None = None

    @property
    def place(self) -> str:
        """Where the user finds it: the file's path and the line, row or document."""
        return self.source if self.number is None else f"{self.source}:{self.number}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that can be read; `name` is its path below the folder that was asked for."""

    path: Path
    name: str
    kind: Kind
    n_bytes: int


@dataclass
class Tally:
    """What was met while reading; filled by `read_documents`."""

    n_documents: int = 0
    n_empty: int = 0  # documents without text, left out
    n_replaced: int = 0  # U+FFFD in the text, nearly all for bytes that could not be decoded
    encodings: Counter[str] = field(default_factory=Counter)  # files of each
    examples: dict[str, Path] = field(default_factory=dict)  # the first file of each encoding

    def report(self) -> None:
        """Say what was not plain: encodings other than UTF-8, empty documents, replacements."""
        for codec, n_files in sorted(self.encodings.items()):
            if codec != "utf-8":
                files = counted(n_files, "file")
                say(f"{files} read as {NAMES[codec]}, for example {self.examples[codec]}.")
        if self.n_empty:
            say(f"Left out: {counted(self.n_empty, 'document')} without text.")
        if self.n_replaced:
            warn(f"{self.n_replaced} places could not be decoded and are U+FFFD now.")


def _plain_kind(path: Path) -> Kind | None:
    name = path.name.lower()
    if name.endswith(DOCUMENTS):
        return "jsonl"
    ending = Path(name.removesuffix(_COMPRESSED)).suffix
    kind = KINDS[ending] if ending in _PLAIN else None
    return None if kind == "parquet" and name.endswith(_COMPRESSED) else kind


@dataclass(frozen=True)
class Readable:
    """Which files are read.

    kind_of   the kind of a file; None: it is passed over
    endings   for messages
    cure      for a file of another kind that was named
    """

    kind_of: Callable[[Path], Kind | None] = _plain_kind
    endings: str = (
        f"{' '.join(_PLAIN)} (the text kinds and JSON lines also with {_COMPRESSED}), {DOCUMENTS}"
    )
    cure: str = "If it is plain text, rename it to end in .txt."


PLAIN = Readable()  # what is text already


def find_files(
    paths: Sequence[Path | str], readable: Readable = PLAIN, *, without: Path | None = None
) -> list[SourceFile]:
    """The readable files among `paths` and in the folders below them, in one order everywhere.

    In a folder, hidden files, files of other kinds and links to folders are counted in the log,
    not read.

    without   a folder whose files are not meant: the one that is being written
    raises    DataError for a path that does not exist, for a file of another kind that was named
              itself, and when there is nothing to read
    """
    if not paths:
        raise DataError("there is nothing to read: name a file or a folder.")
    found: dict[Path, SourceFile] = {}
    passed: Counter[str] = Counter()
    n_without = 0
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        files = _files_below(path, readable, passed) if path.is_dir() else [_named(path, readable)]
        for file in files:
            place = file.path.resolve()
            if without is None or not place.is_relative_to(without.resolve()):
                found.setdefault(place, file)
            else:
                n_without += 1
    if passed:
        counts = (
            counted(n, what) if what == _LINK else f"{n:,} {what}"
            for what, n in sorted(passed.items())
        )
        say(f"Passed over: {', '.join(counts)}.")
    if not found:
        others = f" outside of {without}, the folder to make" if n_without else ""
        raise DataError(
            f"there is no text in {', '.join(map(str, paths))}{others}: no file ends in one of "
            f"{readable.endings}."
        )
    return sorted(found.values(), key=lambda file: file.name)


def _named(path: Path, readable: Readable) -> SourceFile:
    if not path.is_file():  # a pipe would be waited for without end
        raise DataError(f"{path} is neither a file nor a folder. Write what it gives into a file.")
    kind = readable.kind_of(path)
    if kind is None:
        raise DataError(
            f"{path} is not a kind of file that can be read: its name must end in one of "
            f"{readable.endings}. {readable.cure}"
        )
    return SourceFile(path, path.name, kind, _size_of(path))


def _files_below(folder: Path, readable: Readable, passed: Counter[str]) -> Iterator[SourceFile]:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if not path.is_file():
            if path.is_symlink() and not hidden:  # to a folder, or to nothing
                passed[_LINK] += 1
        elif hidden:
            passed["hidden"] += 1
        elif is_account(path):
            continue
        elif (kind := readable.kind_of(path)) is None:
            passed[path.suffix.lower() or "without an ending"] += 1
        else:
            name = (folder.resolve().name / inside).as_posix()
            yield SourceFile(path, name, kind, _size_of(path))


def _size_of(path: Path) -> int:
    """The bytes of a file; of documents of ours, about those of their text."""
    size = path.stat().st_size
    is_ours = path.name.lower().endswith(DOCUMENTS)
    return int(size * text_per_byte(path.parent)) if is_ours else size


def read_documents(
    files: Iterable[SourceFile],
    *,
    errors: Errors = "strict",
    text_key: str = "text",
    document_separator: str | None = None,
    share: float = 1.0,
    tally: Tally | None = None,
) -> Iterator[Document]:
    """The documents of all files, in order; a text of more than about 1 MB comes in pieces.

    errors              "replace" puts U+FFFD in the place of what cannot be decoded
    text_key            key of a JSON line, or column of a Parquet file, that holds the text
    document_separator  what stands between the documents of a text file ("<|endoftext|>");
                        None: a file is one document
    share               of each file, from its beginning; what is compressed counts as it lies there
    raises              DataError naming the file and the byte, line or row
    """
    tally = tally if tally is not None else Tally()
    for file in files:
        if file.kind == "parquet":
            records = _parquet_records(file, text_key)
        elif file.kind == "jsonl":
            records = _json_records(file, text_key, errors, tally)
        else:
            records = _text_records(file, errors, document_separator, tally)
        yield from _documents(file, records, share, tally)


# number in the file (None: the file is the document), text, what else is known, ends
Record = tuple[int | None, str, dict[str, Any], bool]


def _documents(
    file: SourceFile, records: Iterator[Record], share: float, tally: Tally
) -> Iterator[Document]:
    left = share * file.n_bytes if share < 1 else math.inf
    for number, text, meta, ends in records:
        if not text:
            tally.n_empty += 1
            continue
        left -= len(text.encode()) if share < 1 else 0
        ends = ends or left <= 0
        tally.n_documents += ends
        name = file.name if number is None else f"{file.name}:{number}"
        yield Document(name, text, str(file.path), meta, ends, number)
        if left <= 0:
            return


def _text_records(
    file: SourceFile, errors: Errors, separator: str | None, tally: Tally
) -> Iterator[Record]:
    number = 1
    for text, ends in cut_pieces(split_documents(_texts(file, errors, tally), separator)):
        yield number if separator else None, text, {}, ends
        number += ends


def _texts(file: SourceFile, errors: Errors, tally: Tally) -> Iterator[str]:
    """A file's decoded text in parts of about 1 MB."""
    try:
        with _open(file.path) as opened:
            codec = detect(opened, file.path)
            tally.encodings[codec] += 1
            tally.examples.setdefault(codec, file.path)
            for text in decode(opened, file.path, codec, errors):
                if errors == "replace":
                    tally.n_replaced += text.count("\ufffd")
                yield text
    except (EOFError, gzip.BadGzipFile, zlib.error) as bad:
        raise DataError(f"{file.path} is not a whole gzip file ({bad}). Fetch it again.") from None


def _open(path: Path) -> BinaryIO:
    if path.name.lower().endswith(_COMPRESSED):
        return cast(BinaryIO, gzip.open(path, "rb"))  # it has every method that is used here
    return open(path, "rb")


def _json_records(
    file: SourceFile, text_key: str, errors: Errors, tally: Tally
) -> Iterator[Record]:
    for number, line in enumerate(_lines(file, errors, tally), start=1):
        if not line.strip():
            continue
        record = _parse_line(line, f"{file.path}, line {number}", text_key)
        whole = _without_surrogates(record.pop(text_key), file, number, errors, tally)
        for text, ends in cut_pieces([(whole, True)]):
            yield number, text, record, ends


def _lines(file: SourceFile, errors: Errors, tally: Tally) -> Iterator[str]:
    if file.path.name.lower().endswith(DOCUMENTS):
        yield from (line.decode("utf-8", "replace") for line in read_lines(file.path))
        return
    held = ""
    for text in _texts(file, errors, tally):
        *lines, held = (held + text).split("\n")  # not splitlines: JSON may hold U+2028
        yield from lines
        if len(held) > _MAX_LINE:
            raise DataError(
                f"{file.path} has a line of over {_MAX_LINE} characters: not JSON lines."
            )
    yield held


def _parse_line(line: str, place: str, text_key: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as bad:
        raise DataError(f"{place}, column {bad.colno}: not valid JSON ({bad.msg}).") from None
    except (ValueError, RecursionError) as bad:  # a number of 5,000 digits, lists 1,000 deep
        raise DataError(f"{place}: not valid JSON ({bad}).") from None
    if not isinstance(record, dict):
        raise DataError(f'{place}: not a JSON object like {{"{text_key}": "..."}}.')
    if not isinstance(record.get(text_key), str):
        fault = f"is not text but {record[text_key]!r:.40}" if text_key in record else "is missing"
        raise DataError(
            f"{place}: the key {text_key!r} {fault}. The line has the keys "
            f"{', '.join(map(repr, record)) or '(none)'}; set text_key to the one that holds text."
        )
    return record


def _without_surrogates(
    text: str, file: SourceFile, number: int, errors: Errors, tally: Tally
) -> str:
    """JSON can spell half of a character pair ("\\ud800"), which is no text in any encoding."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as bad:
        if errors == "strict":
            raise DataError(
                f"{file.path}, line {number}: {text[bad.start]!r} at character {bad.start} is half "
                'of a surrogate pair. Mend the line, or set errors = "replace".'
            ) from None
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        tally.n_replaced += text.count("\ufffd")
    return text


def _parquet_records(file: SourceFile, text_key: str) -> Iterator[Record]:
    for number, text, _ in parquet_rows(file, text_key):
        if text is not None and not isinstance(text, str):
            raise DataError(
                f"{file.path}, row {number}: the column holds {type(text).__name__}, not text. Set "
                "text_key to the column that holds the text."
            )
        for piece, ends in cut_pieces([(text or "", True)]):
            yield number, piece, {}, ends


def parquet_rows(
    file: SourceFile, text_key: str, *, with_meta: bool = False
) -> Iterator[tuple[int, object, dict[str, Any]]]:
    """The number of each row, what its column `text_key` holds, and what others say.

    with_meta   other columns are read as well, those of lists and the like apart
    raises      DataError naming the file
    """

    def choose(schema: Any) -> list[str]:
        if text_key not in schema.names:
            raise DataError(
                f"{file.path} has no column {text_key!r}; it has {', '.join(schema.names)}. Set "
                "text_key to the one that holds the text."
            )
        return [text_key, *(_columns_of_facts(schema, text_key) if with_meta else [])]

    for number, row in enumerate(parquet_records(file.path, choose), start=1):
        yield number, row.pop(text_key), row


def parquet_records(
    path: Path, choose: Callable[[Any], list[str]] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, as a stream.

    choose   the columns to read, of the file's Arrow schema; None: all
    raises   DataError naming the file
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "parquet", f"Reading {path.name}") from None
    try:
        with parquet.ParquetFile(path) as table:
            columns = choose(table.schema_arrow) if choose else None
            for batch in table.iter_batches(_PARQUET_ROWS, columns=columns):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError) as bad:  # of times, the latter two
        raise DataError(f"{path} cannot be read as Parquet ({bad}). Fetch it again.") from None


def _columns_of_facts(schema: Any, text_key: str) -> list[str]:
    """The columns whose values JSON can hold, or that have a plain spelling."""
    plain = re.compile(r"(large_)?string|u?int\d+|bool|float|double|halffloat|date|timestamp")
    return [one.name for one in schema if one.name != text_key and plain.match(str(one.type))]
