"""The stream of JSON values gives what json.loads gives, wherever it is cut into pieces."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import DataError
from scratchlm.examples.json_values import json_lines, json_values

PATH = Path("a.json")
BETWEEN = st.sampled_from(["", "\n", " \n\n "])
SIZES = st.integers(1, 9)  # characters of a piece
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.fixed_dictionaries({}, optional={"": SCALARS})
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
ELEMENTS = st.lists(OBJECTS | SCALARS, max_size=4)


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def values(text: str, size: int = 1 << 20) -> list:
    return [found.value for found in json_values(cut(text, size), PATH)]


@settings(deadline=None, max_examples=40)
@given(
    ELEMENTS,
    st.integers(1, 9),
    st.sampled_from([None, 2]),
    st.booleans(),
)
@example([-1e300, 12, True], 1, None, True)
@example([{"a": '\\"]}'}, {"ab": "\ud800"}], 1, None, True)
def test_an_array_is_what_json_loads_reads(elements, size, indent, ascii_only):
    text = json.dumps(elements, indent=indent, ensure_ascii=ascii_only)
    assert values(text, size) == json.loads(text)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(OBJECTS, min_size=2, max_size=4),
    BETWEEN,
    st.integers(1, 9),
)
def test_objects_behind_each_other(objects, between, size):
    assert values(between.join(map(json.dumps, objects)), size) == objects


@settings(deadline=None, max_examples=40)
@given(st.lists(OBJECTS, max_size=4), SIZES)
def test_records_of_an_array_know_their_lines(objects, size):
    text = json.dumps(objects, indent=2)
    found = list(json_values(cut(text, size), PATH))
    assert [one.number for one in found] == list(range(1, len(objects) + 1))
    lines = text.split("\n")
    for one in found:
        assert lines[one.line - 1].strip()[0] == "{"
    starts = [number for number, line in enumerate(lines, 1) if line.startswith("  {")]
    assert [one.line for one in found] == starts


def test_a_long_record_is_read_in_few_tries():
    text = json.dumps([{"text": "a" * 300_000}, {"text": "b"}])
    assert [one["text"][0] for one in values(text, 100)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"data": [{"a": 1}, {"a": 2}], "version": "1"}', [{"a": 1}, {"a": 2}]),
        ('\n {"train": [{"a": "一"}], "names": ["x"]}\n', [{"a": "一"}]),
        ('{"messages": [{"role": "user"}]}', [{"messages": [{"role": "user"}]}]),
        ('{"a": [1, 2]}', [{"a": [1, 2]}]),
        ('{"data": [{"a": 1}]} {"data": [{"a": 2}]}', [{"data": [{"a": 1}]}, {"data": [{"a": 2}]}]),
        ("[{}][{}]", [{}, {}]),
        ("[]", []),
        ("  ", []),
    ],
)
def test_where_the_records_are(text, expected):
    assert values(text) == expected


def test_two_lists_of_records_are_an_error():
    text = json.dumps({"train": [{"a": 1}], "test": [{"a": 2}]})
    with pytest.raises(DataError, match=r"a\.json holds several lists of records: 'train', 'test'"):
        values(text)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[\n{"a": 1},\n{"a": 2\n', "a.json:4: not valid JSON .Expecting ',' delimiter"),
        ('[\n{"a": 1}\n{"a": 2}]', "a.json:3: not valid JSON .',' is expected instead of '{"),
        ('[\n{"a": 1},\n{"a": "2}]', "a.json:3: not valid JSON .Unterminated string"),
        ('[\n{"a": 1},\n{a: 2}]', "a.json:3: not valid JSON .Expecting property name"),
        ('[\n{"a": 1},\n]', "a.json:3: not valid JSON"),
        ('[\n{"a": 1}', "a.json:2: not valid JSON .',' is expected instead of the file's end"),
        ('{"a": 1}\n\nx', "a.json:3: not valid JSON .Expecting value"),
        ("[" * 100_000, "a.json:1: not valid JSON .*recursion"),
        ("[" + "9" * 5000 + "]", "a.json:1: not valid JSON .*Exceeds the limit"),
    ],
)
def test_broken_json_names_the_line(text, place, size):
    if size == 1 and len(text) > 1000:
        pytest.skip("a text of 100,000 pieces takes long")
    with pytest.raises(DataError, match=f"{place}.*ends in .jsonl"):
        values(text, size)


def test_an_early_fault_is_found_before_the_whole_file_is_read():
    def pieces():
        yield '[{"a": x}, '
        yield '{"a": "' + "b" * 100
        pytest.fail("read on")

    with pytest.raises(DataError, match="Expecting value"):
        list(json_values(pieces(), PATH))


def test_half_a_surrogate_pair_is_a_fault_of_its_record():
    halves = '{"a": "\\ud83d\\ude00"}', '{"a": "\\uD83D"}', '{"a": "\\\\ud83d"}'
    for found in (json_lines(halves), json_values([f"[{','.join(halves)}]"], PATH)):
        faults = [one.fault for one in found]
        assert faults[0] is None
        assert faults[2] is None
        assert faults[1] == (
            "broken characters",
            "it holds '\\ud83d', half of a surrogate pair",
        )
    inside = list(json_values([f'{{"data": [{",".join(halves)}]}}'], PATH))
    assert [one.fault is None for one in inside] == [True, False, True]


def test_lines_go_on_behind_a_broken_one():
    lines = ['{"a": 1}', "", "{a}", "[[" * 5000, "9" * 5000, "7", '{"b": "二"}']
    found = list(json_lines(lines))
    assert [one.number for one in found] == [1, 3, 4, 5, 6, 7]
    assert [one.fault[0] if one.fault else one.value for one in found] == [
        {"a": 1}, "invalid JSON", "invalid JSON", "invalid JSON", 7, {"b": "二"},
    ]  # fmt: skip
    assert found[1].fault == (
        "invalid JSON",
        "column 2 is not valid JSON (Expecting property name enclosed in double quotes)",
    )


def test_an_array_in_a_file_of_lines_is_recognised():
    (found, *_) = json_lines(["[", "{},", "]"])
    assert "an array, as it seems, so name the file .json" in found.fault[1]
