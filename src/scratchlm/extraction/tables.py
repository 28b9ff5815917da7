"""Tables in text, as CSV and TSV, to documents.

A table whose first line names a column like the text key holds a document in each row; the other
columns are its meta. Any other table is one document: a row a line, its cells between tabs.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from scratchlm.extraction.result import Unreadable

_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is read as a stream.

    columns   their names; where `at` is None, what the first line holds
    at        the column of text; None: each row is a line
    rows      without the one that names the columns; going through them raises Unreadable
              "broken table"
    """

    columns: list[str]
    at: int | None
    rows: Iterator[list[str]]

    def document(self, row: list[str]) -> tuple[str, dict[str, str]]:
        """The text of a row, and what the other cells that are not empty say."""
        if self.at is None:
            return "\t".join(row), {}
        text = row[self.at] if self.at < len(row) else ""
        cells = enumerate(zip(self.columns, row))
        return text, {name: cell for i, (name, cell) in cells if i != self.at and name and cell}


def open_table(lines: Iterable[str], ending: str, text_key: str, most: int) -> Table:
    """Begin to read a table.

    lines      with their ends
    ending     ".tsv" has tabs between cells; of others the first line tells
    text_key   name of the column of text, in any case
    most       characters of one cell
    """
    lines = iter(lines)
    first = next(lines, "")
    delimiter = "\t" if ending == ".tsv" else max(_DELIMITERS, key=first.count)
    csv.field_size_limit(most)
    rows = _rows(csv.reader(chain([first], lines), delimiter=delimiter))
    names = next(rows, [])
    keys = [name.strip().lower() for name in names]
    if text_key.lower() in keys:
        return Table(names, keys.index(text_key.lower()), rows)
    return Table(names, None, chain([names], rows) if names else rows)


def _rows(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from (row for row in reader if any(cell.strip() for cell in row))
    except csv.Error as bad:  # a quote that is never closed takes the rest of the file in
        raise Unreadable("broken table", str(bad)) from None
