"""Tables are read as Python's csv writes them, and tables with tabs as their authors meant."""

import csv
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import DataError
from scratchlm.examples.tables import looks_tabbed, table_rows

PATH = Path("a.csv")
CELLS = st.text(st.sampled_from('ab ,;|\t"\n中'), max_size=6)
TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=5)
)


def rows(text: str, *, tabs: bool = False) -> list[list[str]]:
    return [row.cells for row in read(text, tabs=tabs)]


def read(text: str, *, tabs: bool = False):
    lines = text.removesuffix("\n").split("\n")
    return list(table_rows(PATH, lambda: lines, tabs=tabs))


def written(table: list[list[str]], **options) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", **options).writerows(table)
    return file.getvalue()


@settings(deadline=None)
@given(TABLES)
def test_what_csv_writes_is_read_with_tabs(table):
    """Of tables without quotation marks and with: the latter must all be where csv puts them."""
    assert rows(written(table, delimiter="\t"), tabs=True) == table


@settings(deadline=None)
@given(TABLES)
def test_what_csv_writes_is_read_with_commas(table):
    header = [f"c{i}" for i in range(len(table[0]))]
    assert rows(written([header, *table], quoting=csv.QUOTE_ALL)) == [header, *table]


def test_rows_know_the_line_they_begin_on():
    found = read('a,b\n"1\n\n2",3\n\n4,"5 ""x"""\n')
    assert [(row.line, row.cells) for row in found] == [
        (1, ["a", "b"]),
        (2, ["1\n\n2", "3"]),
        (6, ["4", '5 "x"']),
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_of_csv_is_what_makes_equal_rows(separator, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    table = [["label", "text"], ["1", 'a, b; c | "d"'], ["0", "e\tf, g; h"]]
    assert rows(written(table, delimiter=separator)) == table
    said = f"cells are separated by {separator!r}" in caplog.text
    assert said == (separator != ",")


def test_a_row_that_goes_on_behind_the_first_lines():
    table = [["a", "b"], *([str(i), "x"] for i in range(49)), ["1\n2\n3", "y"], ["z", "w"]]
    assert rows(written(table, delimiter=";")) == table


def test_semicolons_in_a_text_do_not_make_cells():
    assert rows("ham,a; b; c\nspam,d\n") == [["ham", "a; b; c"], ["spam", "d"]]


def test_quotation_marks_of_a_text_stay(caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    lines = 'ham\t"Hi," he said\nspam\t"all of it"\nham\tan "odd one\n'
    assert rows(lines, tabs=True) == [line.split("\t") for line in lines.split("\n")[:-1]]
    assert "a.csv: quotation marks are read as part of the text." in caplog.text


def test_tabs_without_quotation_marks_say_nothing(caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    assert rows("ham\thi\n\nspam\tho\n", tabs=True) == [["ham", "hi"], ["spam", "ho"]]
    assert not caplog.text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1,"x" y\n', 2),
        ('a,b\n1,2\n3,"x\n4,5\n', 3),
    ],
)
def test_marks_that_do_not_pair_up_name_the_line(text, line):
    with pytest.raises(DataError, match=rf"a\.csv:{line}: the quotation marks do not pair up"):
        rows(text)


def test_a_cell_may_be_longer_than_csv_thinks():
    long = "a" * 200_000
    assert rows(f"t,l\n{long},1\n")[1][0] == long


@pytest.mark.parametrize(
    ("lines", "tabbed"),
    [
        (["a\tb", "c\td", ""], True),
        (["a\tb"], False),
        (["a\tb", "c"], False),
        (["a", "b"], False),
        ([], False),
    ],
)
def test_what_looks_like_a_table(lines, tabbed):
    assert looks_tabbed(lines) == tabbed
