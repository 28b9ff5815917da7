"""The texts of an evaluation set, whatever its format: what a model must not have learned."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scratchlm.base.errors import DataError

_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".txt")


def evaluation_texts(path: Path) -> Iterator[str]:
    """Each exercise as one text, question and answers alike.

    path     JSON lines or a JSON list: all text of a record; csv or tsv: a row; txt: a line
    raises   DataError for another kind of file, and for one that cannot be read
    """
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise DataError(f"{path}: an evaluation set must end in one of {' '.join(_ENDINGS)}.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if ending == ".json":
                values = json.load(file)
                yield from map(_joined, values if isinstance(values, list) else [values])
            elif ending == ".jsonl":
                yield from (_joined(json.loads(line)) for line in file if line.strip())
            elif ending == ".txt":
                yield from filter(None, map(str.strip, file))
            else:
                rows = csv.reader(file, delimiter="\t" if ending == ".tsv" else ",")
                yield from (" ".join(row) for row in rows)
    except (ValueError, RecursionError, csv.Error) as bad:
        raise DataError(f"{path} cannot be read as an evaluation set ({bad}).") from None


def _joined(value: Any) -> str:
    """All text inside a JSON value, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return " ".join(filter(None, map(_joined, value)))
    return value if isinstance(value, str) else ""
