"""The records of a task's files, whatever their form."""

import bz2
import gzip
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from scratchlm.base.errors import DataError
from scratchlm.examples.records import read_records
from scratchlm.examples.skipped import BadRecord

Found = tuple[int, str, dict[str, Any]]  # number, place, values
_OPENERS = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}


@dataclass(frozen=True, slots=True)
class Entry:
    """A record: its fields, and where it stands.

    values   and as `_path` the names of its file, without ending, and of the folders above it, by
             "0", "1", ...
    id       the file below its root, and the line or record: the same wherever the root lies
    place    for messages: the path with the line
    """

    values: dict[str, Any]
    id: str
    place: str


def matching(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The files below a folder whose paths match a pattern, in order; `**` is any folders."""
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return sorted(found)


def entries_of(
    files: Sequence[Path],
    root: Path,
    columns: Sequence[str] = (),
    lines: Sequence[str] = (),
    beside: Mapping[str, str] | None = None,
) -> Iterator[Entry]:
    """The records of files below a root.

    columns   names of the columns of a table that does not name them itself
    lines     the files are plain text, packed or not, and these name the lines of each record
    beside    field -> file in the same folder, whose lines belong to the records in their order
    raises    DataError naming file and line; MissingExtraError
    """
    for file in files:
        of_file = _of_lines(file, lines) if lines else _of_records(file, columns)
        name = file.relative_to(root).as_posix().removesuffix("".join(file.suffixes))
        path = {str(i): part for i, part in enumerate(reversed(name.split("/")))}
        for number, place, values in _with_beside(file, of_file, beside or {}):
            yield Entry({**values, "_path": path}, f"{name}:{number}", place)


def _of_records(file: Path, columns: Sequence[str]) -> Iterator[Found]:
    try:
        for record in read_records([file], is_header=lambda *_: not columns):
            values = record.values
            if columns:
                if len(values) != len(columns):
                    raise DataError(
                        f"{record.place}: it has {len(values)} columns, and {len(columns)} are "
                        f"expected: {', '.join(columns)}."
                    )
                values = dict(zip(columns, values.values()))
            yield record.number, record.place, values
    except BadRecord as bad:  # whose own words offer to leave it out, which a score must not
        raise DataError(f"{bad.place}: {bad.detail}. Mend it, or fetch the file again.") from None


def _of_lines(file: Path, names: Sequence[str]) -> Iterator[Found]:
    values: dict[str, Any] = {}
    number = 0
    for number, line in enumerate(_text_lines(file), start=1):
        values[names[len(values)]] = line
        if len(values) == len(names):
            first = number - len(names) + 1
            yield first, f"{file}:{first}", values
            values = {}
    if values:
        raise DataError(
            f"{file}:{number}: the last record has {len(values)} lines, and the others "
            f"{len(names)}: the file was cut off. Fetch it again."
        )


def _text_lines(file: Path) -> Iterator[str]:
    opened: TextIO = _OPENERS.get(file.suffix, open)(file, "rt", encoding="utf-8")  # type: ignore[operator]
    with opened:
        try:
            for line in opened:
                yield line.rstrip("\n")
        except (OSError, EOFError, ValueError, lzma.LZMAError) as bad:
            raise DataError(f"{file} cannot be read ({bad}). Fetch it again.") from None


def _with_beside(
    file: Path, records: Iterator[Found], beside: Mapping[str, str]
) -> Iterator[Found]:
    columns = {name: _column(file, other) for name, other in beside.items()}
    found = list(records) if columns else records
    for name, column in columns.items():
        if len(column) != len(list(found)):
            raise DataError(
                f"{file.parent / beside[name]} has {len(column)} lines for the {len(list(found))} "
                f"records of {file.name}: they are not of one version. Fetch both again."
            )
    for i, (number, place, values) in enumerate(found):
        yield number, place, {**values, **{name: column[i] for name, column in columns.items()}}


def _column(file: Path, other: str) -> list[str]:
    path = file.parent / other
    if not path.is_file():
        raise DataError(f"{path} is missing, which belongs to {file.name}. Fetch it as well.")
    lines = list(_text_lines(path))
    return lines[:-1] if lines and not lines[-1] else lines
