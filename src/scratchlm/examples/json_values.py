"""The records in JSON files, as a stream: lines, arrays, or one object that holds a list of them.

Memory holds about 1 MB of the file and one record, but for an object with a list, which is read
whole.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from scratchlm.base.errors import DataError

_MOST = 1 << 28  # characters of one record, so that a wrong file cannot fill the memory
_SPACE = re.compile(r"[ \t\n\r]*")
_NEAR_END = 16  # characters: what is cut there, such as -Infinity or an escape, is not yet wrong
# keys whose lists do not make their object a file
_OF_A_RECORD = {"messages", "conversations", "conversation", "prompt", "completion", "response",
                "chosen", "rejected", "instances", "history", "tools"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A record of a file, or what is wrong with it.

    value    any JSON value; only objects are records
    number   of the line, or of the record in an array
    line     where a record of an array begins; 0: unknown; None: `number` is the line
    fault    (reason, detail) of one that is no JSON; None where it is
    """

    value: Any
    number: int
    line: int | None = None
    fault: tuple[str, str] | None = None


def json_lines(lines: Iterable[str]) -> Iterator[Found]:
    """An object a line; empty lines are passed over."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as bad:
            begins = line.lstrip()[0] == "[" and number == 1
            hint = ": an array, as it seems, so name the file .json" if begins else ""
            detail = f"column {bad.colno} is not valid JSON ({bad.msg}){hint}"
            yield Found(None, number, fault=("invalid JSON", detail))
        except (ValueError, RecursionError) as bad:  # a number of 5,000 digits, lists 1,000 deep
            yield Found(None, number, fault=("invalid JSON", f"not valid JSON ({bad})"))
        else:
            yield Found(value, number, fault=_broken_text(value, line))


def json_values(texts: Iterable[str], path: Path) -> Iterator[Found]:
    """The elements of an array, or objects one behind the other.

    A file that is one object with one list of objects, as {"data": [...]}, is taken as that list;
    lists of messages are part of a record.

    raises   DataError naming the line, for what is not JSON: where it goes on, nobody can tell
    """
    text = _Text(texts, path)
    number = 0
    while (begins := text.peek()) != "":
        if begins == "[":
            for line, value, fault in _elements(text):
                number += 1
                yield Found(value, number, line, fault)
            continue
        line = text.line
        value, fault = text.value()
        number += 1
        inner = _list_in(value, path) if number == 1 and text.peek() == "" else None
        if inner is None:
            yield Found(value, line, fault=fault)
            continue
        fault = _broken_text(inner, "\\ud") if fault else None
        for i, one in enumerate(inner, start=1):
            yield Found(one, i, 0, _broken_text(one, "\\ud") if fault else None)


def _elements(text: "_Text") -> Iterator[tuple[int, Any, tuple[str, str] | None]]:
    text.skip("[")
    if text.peek() == "]":
        text.skip("]")
        return
    while True:
        text.peek()
        line = text.line
        yield line, *text.value()
        if text.peek() == "]":
            text.skip("]")
            return
        text.skip(",")


def _list_in(value: Any, path: Path) -> list[Any] | None:
    """The list of objects that an object is there to hold; None where it is a record itself."""
    if not isinstance(value, dict):
        return None
    lists = [
        key
        for key, inner in value.items()
        if isinstance(inner, list)
        and inner
        and isinstance(inner[0], dict)
        and key not in _OF_A_RECORD
    ]
    if len(lists) > 1:
        raise DataError(
            f"{path} holds several lists of records: {', '.join(map(repr, lists))}. Put the one "
            "that is meant into a file of its own."
        )
    return cast(list[Any], value[lists[0]]) if lists else None


def _broken_text(value: Any, source: str) -> tuple[str, str] | None:
    """JSON can spell half of a character pair ("\\ud800"), which is no text in any encoding."""
    if "\\ud" not in source and "\\uD" not in source:
        return None
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as bad:
        half = bad.object[bad.start]
        return "broken characters", f"it holds {half!r}, half of a surrogate pair"
    return None


class _Text:
    """A text that is read as a stream of JSON values; `line` is where the reading is."""

    def __init__(self, texts: Iterable[str], path: Path) -> None:
        self._texts = iter(texts)
        self._path = path
        self._held, self._at = "", 0
        self._decode = json.JSONDecoder().raw_decode
        self.line = 1

    def peek(self) -> str:
        """The next character that is not a space; "" at the end."""
        while True:
            space = _SPACE.match(self._held, self._at)
            assert space is not None  # it may be empty
            self.line += space[0].count("\n")
            self._at = space.end()
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._read_more():
                return ""

    def skip(self, char: str) -> None:
        """Go past a character that must be the next."""
        if self.peek() != char:
            there = repr(self._held[self._at : self._at + 20]) if self.peek() else "the file's end"
            raise self._error(f"{char!r} is expected instead of {there}", self.line)
        self._at += 1

    def value(self) -> tuple[Any, tuple[str, str] | None]:
        """The next value, and what is wrong with its text."""
        while True:
            try:
                value, end = self._decode(self._held, self._at)
            except json.JSONDecodeError as bad:
                line = self.line + self._held.count("\n", self._at, bad.pos)
                unfinished = bad.msg.startswith("Unterminated string") or (
                    bad.pos > len(self._held) - _NEAR_END
                )
                if not (unfinished and self._read_more()):
                    raise self._error(bad.msg, line) from None
            except (ValueError, RecursionError) as bad:
                raise self._error(str(bad), self.line) from None
            else:
                source = self._held[self._at : end]
                goes_on = end > len(self._held) - _NEAR_END  # as a number may: 1e5
                if not (goes_on and self._read_more()):
                    break
        self.line += source.count("\n")
        self._at += len(source)
        return value, _broken_text(value, source)

    def _read_more(self) -> bool:
        """Hold twice as much of what is not yet read, so that a long value is tried few times."""
        self._held, self._at = self._held[self._at :], 0
        if len(self._held) > _MOST:
            raise self._error(f"a record has over {_MOST:,} characters", self.line)
        parts, n = [self._held], 0
        while n <= len(self._held) and (part := next(self._texts, None)) is not None:
            parts.append(part)
            n += len(part)
        self._held = "".join(parts)
        return n > 0

    def _error(self, what: str, line: int) -> DataError:
        return DataError(
            f"{self._path}:{line}: not valid JSON ({what}). Where the next record begins cannot be "
            "told, so that it is not left out: mend it. Objects on lines of their own belong in a "
            "file that ends in .jsonl."
        )
