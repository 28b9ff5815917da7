"""CSV and TSV to documents."""

import pytest

from scratchlm.extraction.result import Unreadable
from scratchlm.extraction.tables import open_table


def table(text: str, ending: str = ".csv", text_key: str = "text", most: int = 1000):
    return open_table(text.splitlines(keepends=True), ending, text_key, most)


def documents(*args, **options) -> list[tuple[str, dict[str, str]]]:
    found = table(*args, **options)
    return [found.document(row) for row in found.rows]


def test_a_column_of_text_makes_documents_of_rows():
    assert documents('id,Text,stars\n1,"good, very\ngood",5\n2,bad,\n') == [
        ("good, very\ngood", {"id": "1", "stars": "5"}),
        ("bad", {"id": "2"}),
    ]


def test_any_other_table_is_lines():
    assert documents("诗人,年\n李白,701\n,\n杜甫,712\n") == [
        ("诗人\t年", {}),
        ("李白\t701", {}),
        ("杜甫\t712", {}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter):
    rows = [["id", "text"], ["1", "a b"]]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    assert documents(text) == [("a b", {"id": "1"})]


def test_tsv_has_tabs_even_where_commas_are_more():
    assert documents("text\tx,y,z\nhello, world\t1\n", ".tsv") == [("hello, world", {"x,y,z": "1"})]


def test_rows_that_are_short_or_long():
    assert documents("a,text\n1\n2,x,y,z\n") == [("", {"a": "1"}), ("x", {"a": "2"})]


def test_another_key():
    assert documents("review,text\nfine,no\n", text_key="REVIEW") == [("fine", {"text": "no"})]


def test_empty():
    assert documents("") == []
    assert documents("text\n") == []


def test_a_quote_that_is_never_closed():
    found = table('text\n"' + "a" * 100 + "\n" + "b" * 2000)
    with pytest.raises(Unreadable, match="broken table"):
        list(found.rows)


def test_many_rows_come_as_a_stream():
    lines = (f"{i},some text\n" if i else "n,text\n" for i in range(100_001))
    assert sum(1 for _ in open_table(lines, ".csv", "text", 1000).rows) == 100_000
