"""Labelled texts: which columns hold text and label is told by their names, or, in a table of two
columns without a header, by what they hold.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from scratchlm.base.errors import DataError
from scratchlm.base.log import say, warn
from scratchlm.base.progress import counted
from scratchlm.examples.records import Record, collect, read_records
from scratchlm.examples.skipped import BadRecord, Skipped

_USUAL = {  # names of columns, in any case
    "text": {"text", "sentence", "content", "message", "review", "comment", "document", "sms",
             "文本", "内容", "正文", "句子", "评论"},
    "label": {"label", "labels", "class", "category", "target", "sentiment",
              "标签", "类别", "分类"},
}  # fmt: skip
_SHOWN = 20  # classes in a message


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and the name of its class; `place` is where the record stands."""

    text: str
    label: str
    place: str


def read_labelled(
    paths: Sequence[Path | str],
    *,
    text_column: str = "",
    label_column: str = "",
    skip_bad: bool = False,
    known: Sequence[str] = (),
) -> list[Labelled]:
    """The labelled texts in files, and in the folders below them.

    Exact copies are kept, and counted in the log; `split_examples` puts them into one part.

    text_column    column or key of the text; in a table without a header "1", "2", ...; "": the
                   one with a usual name, such as text, sentence or review
    label_column   likewise of the label: label, class, category, ...
    skip_bad       leave bad records out, and say how many and why
    known          classes of a model that is to be tested: in a table without a header the label is
                   where they stand, and one class is enough; others are not refused
    raises         DataError that lists the columns where they are not clear, and where all texts
                   have one label; BadRecord naming file and line; MissingExtraError
    """
    columns = _Columns(text_column, label_column, frozenset(known))
    skipped = Skipped() if skip_bad else None
    records = read_records(paths, skipped=skipped, is_header=columns.is_header)
    found: list[Labelled] = []
    for path, of_file in groupby(records, key=lambda record: record.file):
        found += _of_file(path, list(of_file), columns, skipped)
    if skipped is not None:
        skipped.report(len(found), "labelled texts")
    _say_classes(found, enough=1 if known else 2)
    _say_copies(found)
    return found


def label_names(examples: Iterable[Labelled]) -> list[str]:
    """The names of the classes, sorted; where all are whole numbers, by their value."""
    names = {example.label for example in examples}
    if all(name.isascii() and name.removeprefix("-").isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


@dataclass(frozen=True)
class _Columns:
    """Which columns the user has named; "" where their names must tell.

    known   names of classes, one of which a label may be
    """

    text: str
    label: str
    known: frozenset[str] = frozenset()

    @property
    def given(self) -> list[str]:
        return [name for name in (self.text, self.label) if name]

    def is_header(self, path: Path, row: list[str]) -> bool:
        """Whether the first row of a table names columns; raises DataError where that is open."""
        cells = [cell.strip() for cell in row]
        if self.given:
            return all(name in cells for name in self.given)  # if not, they may be numbers
        known = {role: _usual(role, cells) for role in _USUAL}
        if bool(known["text"]) != bool(known["label"]):
            role = "label" if known["text"] else "text"
            raise DataError(
                f"{path}: its first line, {_listed(cells)}, names no column that is known to hold "
                f"the {role}. Set {role}_column to the one that does; if the line is an example, "
                "set text_column and label_column to the columns' numbers, 1, 2, ..."
            )
        return bool(known["text"])

    def of(self, record: Record) -> tuple[str, str]:
        """The keys of text and label; raises DataError where several fit, BadRecord where none."""
        found = {"text": self._one("text", record), "label": self._one("label", record)}
        for role, other in (("text", "label"), ("label", "text")):
            if not found[role] and self.given and len(record.values) == 2:
                found[role] = next((key for key in record.values if key != found[other]), "")
            if not found[role]:
                raise BadRecord(
                    record.place,
                    f"no {role}",
                    f"none of {_listed(record.values)} is known to hold the {role}: if one does, "
                    f"set {role}_column to it",
                )
        if found["text"] == found["label"]:
            raise DataError(f"{record.place}: {found['text']!r} cannot be both text and label.")
        return found["text"], found["label"]

    def _one(self, role: str, record: Record) -> str:
        given = self.text if role == "text" else self.label
        if given and given not in record.values:
            detail = f"there is no {given!r}, the {role}_column, among {_listed(record.values)}"
            raise BadRecord(record.place, f"no {role}", detail)
        fitting = [given] if given else _usual(role, record.values)
        if len(fitting) > 1:
            raise DataError(
                f"{record.place}: any of {_listed(fitting)} may hold the {role}. Set {role}_column "
                "to the one that is meant."
            )
        return fitting[0] if fitting else ""


def _usual(role: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.strip().casefold() in _USUAL[role]]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{name!r:.40}" for name in names)


def _of_file(
    path: Path, records: list[Record], columns: _Columns, skipped: Skipped | None
) -> Iterator[Labelled]:
    keys = _of_headerless(path, records, columns) if _is_headerless(records[0]) else None

    def make(record: Record) -> list[Labelled]:
        text, label = keys or columns.of(record)
        return [_labelled(record, text, label)]

    yield from collect(records, make, skipped)


def _is_headerless(record: Record) -> bool:
    return list(record.values) == [str(n) for n in range(1, len(record.values) + 1)]


def _of_headerless(path: Path, records: list[Record], columns: _Columns) -> tuple[str, str]:
    """The keys of text and label of a table without a header; raises DataError where unclear."""
    first = records[0]
    row = _listed(map(str, first.values.values()))
    unknown = [name for name in columns.given if name not in first.values]
    if not unknown and (len(columns.given) == 2 or (columns.given and len(first.values) == 2)):
        return columns.of(first)
    if unknown or len(first.values) != 2:
        which = f"no column {unknown[0]!r}" if unknown else "no columns that are known"
        raise DataError(
            f"{path}: its first line, {row}, names {which}. Set text_column and label_column to "
            "names that it has, or, if it is an example, to the columns' numbers, 1, 2, ..."
        )
    n_known = {
        key: sum(str(record.values[key]).strip() in columns.known for record in records)
        for key in ("1", "2")
    }
    if n_known["1"] != n_known["2"]:
        label, text = sorted(n_known, key=lambda key: -n_known[key])
        return text, label
    return _told_by_contents(path, records, row)


def _told_by_contents(path: Path, records: list[Record], row: str) -> tuple[str, str]:
    """Of two columns the label is the one that has at most half as many different values."""
    different = {key: len({record.values[key] for record in records}) for key in ("1", "2")}
    label, text = sorted(different, key=lambda key: different[key])
    if different[label] * 2 > different[text]:
        raise DataError(
            f"{path}: which of its two columns holds the label cannot be told: in "
            f"{len(records):,} lines, the first has {different['1']:,} different values and the "
            f"second {different['2']:,}. Set text_column and label_column to 1 and 2, or 2 and 1."
        )
    name = records[0].values[label]
    if sum(record.values[label] == name for record in records) == 1:
        raise DataError(
            f"{path}: the first line, {row}, has a label that no other line has. If it names the "
            "columns, set text_column and label_column to these names; if it is an example, to "
            f"{text} and {label}."
        )
    say(f"{path}: column {label} is read as the label, column {text} as the text.")
    return text, label


def _labelled(record: Record, text_key: str, label_key: str) -> Labelled:
    text = record.values.get(text_key)
    if text is None or (isinstance(text, str) and not text.strip()):
        raise BadRecord(record.place, "empty text", f"the text ({text_key!r}) is empty")
    if not isinstance(text, str):
        detail = f"the text ({text_key!r}) is no text but {type(text).__name__} ({text!r:.40})"
        raise BadRecord(record.place, "not text", detail)
    label = _label(record.values.get(label_key), label_key, record.place)
    return Labelled(text, label, record.place)


def _label(value: Any, key: str, place: str) -> str:
    """The name of a class, which JSON and Parquet may give as a number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRecord(place, "empty label", f"the label ({key!r}) is empty")
    if not isinstance(value, str):
        detail = f"the label ({key!r}) is {value!r:.40}, and must be the name of one class"
        raise BadRecord(place, "not a label", detail)
    return value.strip()


def _say_classes(found: list[Labelled], enough: int) -> None:
    """Say how many texts each class has; raises DataError for less than enough classes."""
    counts = Counter(one.label for one in found)
    if len(counts) < enough:
        raise DataError(
            f"all {len(found):,} texts have the label {found[0].label!r} (the first is "
            f"{found[0].place}). Classes are learned from examples of two at least: add others."
        )
    shown = ", ".join(f"{name} {counts[name]:,}" for name in label_names(found)[:_SHOWN])
    more = f" and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else ""
    say(
        f"{len(found):,} labelled texts in {counted(len(counts), 'class', 'classes')}: "
        f"{shown}{more}."
    )


def _say_copies(found: list[Labelled]) -> None:
    by_text: dict[str, Labelled] = {}
    n_copies = 0
    torn = set()
    for one in found:
        before = by_text.setdefault(one.text, one)
        if before is not one:
            n_copies += 1
            if before.label != one.label:
                torn.add((before.place, one.place))
    if n_copies:
        say(f"{n_copies:,} of them are exact copies of another; copies fall into one part.")
    if torn:
        first, second = min(torn)
        warn(
            f"{len(torn):,} texts stand there again with another label, for example {first} and "
            f"{second}."
        )
