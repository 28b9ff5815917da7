"""Files of records to records: JSON, JSON lines, CSV, TSV and Parquet, packed or not.

What a record means is read by its keys, in `conversations.py` and `labels.py`; here is only where
it is from. A record that is broken in itself is a `BadRecord` that names its place.
"""

import codecs
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, cast

from scratchlm.base.errors import DataError
from scratchlm.base.log import say
from scratchlm.corpus.encodings import NAMES, decode, detect
from scratchlm.corpus.read import Readable, SourceFile, find_files, parquet_records
from scratchlm.examples.json_values import Found, json_lines, json_values
from scratchlm.examples.skipped import BadRecord, Skipped
from scratchlm.examples.tables import Row, looks_tabbed, table_rows
from scratchlm.extraction.archives import Budget, Unpacked
from scratchlm.extraction.kinds import Kind
from scratchlm.extraction.result import Unreadable

_PACKINGS = (".gz", ".zst")
_KINDS: dict[str, Kind] = {  # .json is told apart by its name
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
}
_MAYBE_TABLES = ("", ".txt")  # endings of files that are tables where they look so
_HEAD = 1 << 16  # bytes that tell
_MOST_LINE = 1 << 28  # characters, so that a wrong file cannot fill the memory

T = TypeVar("T")
IsHeader = Callable[[Path, list[str]], bool]  # whether the first row of a table names the columns


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    values   by key or column; those of a table without a header have the keys "1", "2", ...
    number   from 1, of what `unit` says: the line it begins on, the record in a JSON array, the
             row of a Parquet file
    line     of a record in a JSON array: where it begins; 0: unknown
    """

    values: dict[str, Any]
    file: Path
    number: int
    unit: Literal["line", "record", "row"] = "line"
    line: int = 0

    @property
    def place(self) -> str:
        """Where the user finds it: "a.csv:7", "a.json, record 7 (line 33)", "a.parquet, row 7"."""
        if self.unit == "line":
            return f"{self.file}:{self.number}"
        line = f" (line {self.line})" if self.line else ""
        return f"{self.file}, {self.unit} {self.number}{line}"


def _always(_file: Path, _row: list[str]) -> bool:
    return True


def read_records(
    paths: Sequence[Path | str], *, skipped: Skipped | None = None, is_header: IsHeader = _always
) -> Iterator[Record]:
    """The records of files, and of the folders below them, in the order of their names.

    Read are .json (an array, objects one behind the other, or one object with one list of objects),
    .jsonl, .ndjson, .csv, .tsv and .parquet, all but the last also with .gz or .zst; and tables
    with tabs whatever they are called. Text is in UTF-8, UTF-16 or GB18030.

    skipped     counts what is broken; None: the first bad record is an error
    is_header   of tables; where it says no, their first row is a record
    raises      BadRecord; DataError for a file that cannot be read (on), or holds no record;
                MissingExtraError
    """
    readable = Readable(
        _kind_of,
        f"{' '.join(_KINDS)} (all but .parquet also with {' or '.join(_PACKINGS)})",
        "Tables with tabs, as many on each line, may be called .txt or have no ending.",
    )
    for file in find_files(paths, readable):
        empty = True
        for record in _records(file, is_header):
            empty = False
            if isinstance(record, Record):
                yield record
            elif skipped is None:
                raise record
            else:
                skipped.add(record)
        if empty:
            raise DataError(f"{file.path} holds no records. Take it out, or fetch it again.")


def collect(
    records: Iterable[Record], make: Callable[[Record], Iterable[T]], skipped: Skipped | None
) -> Iterator[T]:
    """What `make` makes of each record.

    make      gives a list or the like, not a generator, whose errors would come too late
    skipped   counts those of which it raises a BadRecord; None: that is an error
    """
    for record in records:
        try:
            made = make(record)
        except BadRecord as bad:
            if skipped is None:
                raise
            skipped.add(bad)
        else:
            yield from made


def _kind_of(path: Path) -> Kind | None:
    ending, packing = _endings(path)
    if ending in _KINDS:
        return None if packing and ending == ".parquet" else _KINDS[ending]
    return "table" if ending in _MAYBE_TABLES and not packing and _looks_tabbed(path) else None


def _endings(path: Path) -> tuple[str, str]:
    """("." and the ending, that of the packing), either "" where there is none."""
    name = path.name.lower()
    packing = next((one for one in _PACKINGS if name.endswith(one)), "")
    return Path(name.removesuffix(packing)).suffix, packing


def _looks_tabbed(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    try:
        codec = detect(io.BytesIO(head), path)
    except DataError:  # binary
        return False
    lines = codecs.getincrementaldecoder(codec)("replace").decode(head).split("\n")
    return looks_tabbed(lines if len(head) < _HEAD else lines[:-1])


def _records(file: SourceFile, is_header: IsHeader) -> Iterator[Record | BadRecord]:
    path, (ending, _) = file.path, _endings(file.path)
    if file.kind == "parquet":
        rows = enumerate(parquet_records(path), start=1)
        yield from (Record(values, path, number, "row") for number, values in rows)
    elif file.kind == "table":
        lines = partial(_lines, path)
        _say_codec(path)
        yield from _table(path, table_rows(path, lines, tabs=ending != ".csv"), is_header)
    else:
        _say_codec(path)
        found = json_values(_texts(path), path) if ending == ".json" else json_lines(_lines(path))
        yield from (_checked(one, path) for one in found)


def _checked(found: Found, path: Path) -> Record | BadRecord:
    unit: Literal["line", "record"] = "line" if found.line is None else "record"
    record = Record(found.value, path, found.number, unit, found.line or 0)
    if found.fault:
        return BadRecord(record.place, *found.fault)
    if not isinstance(found.value, dict):
        kind = "null" if found.value is None else type(found.value).__name__
        return BadRecord(record.place, "not an object", f'not an object {{"key": ...}} but {kind}')
    return record


def _table(path: Path, rows: Iterator[Row], is_header: IsHeader) -> Iterator[Record | BadRecord]:
    first = next(rows, None)
    if first is None:
        return
    names = [str(number) for number in range(1, len(first.cells) + 1)]
    if is_header(path, first.cells):
        names = [cell.strip() or number for number, cell in zip(names, first.cells)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{path}:{first.line}: two columns are named {twice[0]!r}. Rename one.")
    else:
        yield Record(dict(zip(names, first.cells)), path, first.line)
    for row in rows:
        record = Record(dict(zip(names, row.cells)), path, row.line)
        if len(row.cells) == len(names):
            yield record
        else:
            detail = f"it has {len(row.cells)} cells, and line {first.line} has {len(names)}"
            yield BadRecord(record.place, "another number of cells", detail)


def _say_codec(path: Path) -> None:
    with closing(_Bytes(path)) as file:
        codec = detect(cast(BinaryIO, file), path)
    if not codec.startswith("utf-8"):
        say(f"{path} is read as {NAMES[codec]}.")


def _lines(path: Path) -> Iterator[str]:
    held = ""
    for text in _texts(path):
        *lines, held = (held + text).split("\n")  # not splitlines: JSON may hold U+2028
        yield from lines
        if len(held) > _MOST_LINE:
            raise DataError(f"{path} has a line of over {_MOST_LINE:,} characters.")
    if held:
        yield held


def _texts(path: Path) -> Iterator[str]:
    """A file's decoded text in parts of about 1 MB."""
    with closing(_Bytes(path)) as opened:
        file = cast(BinaryIO, opened)
        yield from decode(file, path, detect(file, path), "strict")


class _Bytes:
    """The bytes of a file, unpacked, as a stream that can go back to its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._file = open(path, "rb")  # noqa: SIM115 (closed by `close`)
        self._stream = self._begin()

    def _begin(self) -> Any:
        _, packing = _endings(self._path)
        if not packing:
            return self._file
        return Unpacked(self._file, packing, Budget(self._path.stat().st_size))

    def read(self, size: int, /) -> bytes:
        try:
            data = cast(bytes, self._stream.read(size))
        except Unreadable as bad:
            raise DataError(f"{self._path} cannot be unpacked: {bad}. Fetch it again.") from None
        self._at += len(data)
        return data

    def seek(self, _start: int, /) -> int:
        self._file.seek(0)
        self._stream, self._at = self._begin(), 0
        return 0

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
