"""The texts of an evaluation set, whatever its format: what a model must not have learned."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scratchlm.base.errors import DataError
from scratchlm.corpus.encodings import detect

_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".txt")


def evaluation_texts(path: Path) -> Iterator[str]:
    """Each exercise as one text, question and answers alike.

    path     JSON lines or a JSON list: all text of a record; csv or tsv: a row; txt: a line
    raises   DataError for another kind of file, and for one that cannot be read, with the line
    """
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise DataError(f"{path}: an evaluation set must end in one of {' '.join(_ENDINGS)}.")
    with open(path, "rb") as file:
        codec = detect(file, path)
    number = 0

    def counted() -> Iterator[str]:
        nonlocal number
        for line in opened:
            number += 1
            yield line

    try:
        with open(path, encoding=codec, newline="") as opened:
            if ending == ".json":
                values = json.load(opened)
                yield from map(_joined, values if isinstance(values, list) else [values])
            elif ending == ".jsonl":
                yield from (_joined(json.loads(line)) for line in counted() if line.strip())
            elif ending == ".txt":
                yield from filter(None, map(str.strip, counted()))
            else:
                rows = csv.reader(counted(), delimiter="\t" if ending == ".tsv" else ",")
                yield from (" ".join(row) for row in rows)
    except (ValueError, RecursionError, csv.Error) as bad:
        place = f"{path}, line {number}," if number else f"{path}"
        why = bad.msg if number and isinstance(bad, json.JSONDecodeError) else bad
        raise DataError(f"{place} cannot be read as an evaluation set ({why}).") from None


def check_evaluation(paths: Sequence[Path]) -> None:
    """Read evaluation sets through, before hours of work: raises DataError naming what is wrong."""
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist, or is not a file.")
        if not sum(1 for text in evaluation_texts(path) if text.strip()):
            raise DataError(f"{path} holds no text: nothing could be found to overlap with it.")


def _joined(value: Any) -> str:
    """All text inside a JSON value, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return " ".join(filter(None, map(_joined, value)))
    return value if isinstance(value, str) else ""
