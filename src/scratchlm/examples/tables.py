"""The rows of CSV and TSV files, as a stream, with the line on which each begins.

CSV is read as RFC 4180 has it: a cell in quotation marks may hold separators, line ends and
doubled quotation marks. Of tables with tabs there are two sorts. Where all quotation marks are as
CSV has them, they are read so; otherwise they are part of the text, as in the SMS Spam Collection,
of which a CSV reader makes two messages too few.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from scratchlm.base.errors import DataError
from scratchlm.base.log import say

_MOST = 1 << 28  # characters of one row, so that a wrong file cannot fill the memory
_SEPARATORS = ",;\t|"
_SAMPLE = 50  # lines that tell the separator
_QUOTED_ROW = re.compile(r'(?:"(?:[^"]|"")*"|[^"\t]*)(?:\t(?:"(?:[^"]|"")*"|[^"\t]*))*')
Lines = Callable[[], Iterable[str]]  # begins to read the lines of a file, without their ends


@dataclass(frozen=True, slots=True)
class Row:
    """Cells, and the line on which they begin."""

    cells: list[str]
    line: int


def table_rows(path: Path, lines: Lines, *, tabs: bool) -> Iterator[Row]:
    """All rows of a table, the one that names the columns among them; empty lines are passed over.

    tabs     the cells lie between tabs; False: the first lines tell what is between them
    raises   DataError naming the line, for quotation marks that do not pair up
    """
    if tabs and not _is_quoted(lines()):
        if any('"' in line for line in lines()):
            say(f"{path}: quotation marks are read as part of the text.")
        split = ((line.split("\t"), number) for number, line in enumerate(lines(), start=1))
        yield from (Row(cells, number) for cells, number in split if cells != [""])
        return
    csv.field_size_limit(_MOST)
    separator = "\t" if tabs else _separator(lines())
    if separator != "," and not tabs:
        say(f"{path}: cells are separated by {separator!r}.")
    reader = csv.reader((f"{line}\n" for line in lines()), delimiter=separator, strict=True)
    begins = 1
    try:
        for cells in reader:
            if cells:
                yield Row(cells, begins)
            begins = reader.line_num + 1
    except csv.Error as bad:  # a quotation mark that is never closed takes the rest of the file in
        raise DataError(
            f"{path}:{begins}: the quotation marks do not pair up ({bad}). One in a text is "
            'written twice, in a cell that has one at either end: "he said ""hi""".'
        ) from None


def looks_tabbed(lines: Iterable[str]) -> bool:
    """Whether there are at least two lines, and all have tabs, and as many."""
    counts = [line.count("\t") for line in lines if line]
    return len(counts) > 1 and min(counts) > 0 and min(counts) == max(counts)


def _separator(lines: Iterable[str]) -> str:
    """What makes as many cells of every row; a comma where nothing does."""
    sample = list(islice(lines, _SAMPLE + 1))
    for separator in _SEPARATORS:
        rows = [row for row in csv.reader(sample, delimiter=separator) if row]
        if len(sample) > _SAMPLE and len(rows) > 1:
            del rows[-1]  # it may go on
        widths = {len(row) for row in rows}
        if len(widths) == 1 and widths != {1}:
            return separator
    return ","


def _is_quoted(lines: Iterable[str]) -> bool:
    """Whether there are quotation marks, and each is where CSV would put it.

    An unfinished row has an odd number of them, a whole one an even number.
    """
    held: list[str] = []
    seen = is_open = False
    for line in lines:
        n_quotes = line.count('"')
        seen = seen or n_quotes > 0
        is_open ^= n_quotes % 2 == 1
        held.append(line)
        if not is_open:
            if seen and not _QUOTED_ROW.fullmatch("\n".join(held)):
                return False
            held = []
    return seen and not held
