"""Pictures, words and comparisons of the report's page, each by itself."""

import itertools
import re
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.report import words as report_words
from scratchlm.report.charts import draw_histogram, median
from scratchlm.report.differences import differences
from scratchlm.report.facts import Leader
from scratchlm.report.flow import SHEETS, Gate, Terms, draw_flow, joined, wrapped
from scratchlm.report.page import cut, gauge_at, linked, percent, places
from scratchlm.report.words import Words

EN, ZH = Words("en"), Words("zh")
TERMS = Terms(EN.number, EN.share, lambda n: f"{n} others", "nothing", "start", "end")
counts = st.dictionaries(st.text(string.ascii_letters, min_size=1), st.integers(0, 10**6))


@st.composite
def rivers(draw):
    """Gates in a row, each handing on what it kept."""
    leaving = draw(st.lists(counts, min_size=1, max_size=8))
    n, gates = draw(st.integers(0, 10**6)) + sum(sum(one.values()) for one in leaving), []
    for one in leaving:
        gates.append(Gate("stage", n, n - sum(one.values()), one))
        n = gates[-1].n_kept
    return gates


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.name)
@given(gates=rivers())
def test_widths_are_true_and_nothing_overlaps(sheet, gates):
    picture = draw_flow(gates, sheet, TERMS)
    scale = sheet.river / max(1, gates[0].n_in)
    streams = [shape for shape in picture.shapes if shape.kind == "dropped"]
    expected = [n for gate in gates for _, n in joined(gate.leaving, 0.004 * gates[0].n_in, str)]
    bands = []
    for shape, n in zip(streams, expected, strict=True):
        top, bottom = (
            float(found) for found in re.findall(r"(?:A.* |V)(\d+\.\d)H", shape.path)[:2]
        )
        assert bottom - top == pytest.approx(max(n * scale, 1), abs=0.2)
        bands.append((top, bottom))
    assert all(a[1] < b[0] for a, b in itertools.pairwise(bands))
    assert not bands or bands[-1][1] < picture.height
    heights = [label.y for label in picture.texts if label.x == sheet.words]
    assert all(b - a > 14 for a, b in itertools.pairwise(heights))


def test_small_streams_are_joined_and_one_alone_is_not():
    leaving = {"a": 50, "b": 30, "c": 2, "d": 1, "nothing": 0}
    assert joined(leaving, 10, "{} more".format) == [("a", 50), ("b", 30), ("2 more", 3)]
    assert joined({"a": 50, "c": 2}, 10, str) == [("a", 50), ("c", 2)]
    assert joined({"a": 3, "b": 2, "c": 2}, 10, str) == [("a", 3), ("2", 4)]
    assert joined({}, 10, str) == []
    many = joined({f"r{i}": 100 - i for i in range(9)}, 10, str)
    assert (len(many), many[-1]) == (6, ("4", 100 - 5 + 100 - 6 + 100 - 7 + 100 - 8))


def test_a_flow_of_nothing_is_drawn():
    picture = draw_flow([Gate("only", 0, 0, {})], SHEETS[0], TERMS)
    assert [label.text for label in picture.texts] == ["start", "only", "nothing", "end"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("too few words", ["too few words"]),
        ("FineWeb: too few lines end with dots", ["FineWeb: too few lines", "end with dots"]),
        ("以标点结尾的行太少，以标点结尾", ["以标点结尾的行太少，以标", "点结尾"]),
        (
            "one two three four five six seven eight nine",
            ["one two three four", "five six seven eight…"],
        ),
        ("", [""]),
    ],
)
def test_names_are_wrapped_to_two_lines(text, lines):
    assert wrapped(text, 165) == lines


def test_a_long_word_is_cut():
    assert re.fullmatch("W{20,24}…", "".join(wrapped("W" * 60, 165)))


@given(st.text())
def test_any_name_can_be_wrapped(text):
    assert 1 <= len(wrapped(text, 165)) <= 2


def test_a_histogram_shows_every_bar_from_the_shortest_to_the_longest():
    drawn = draw_histogram("en", [0, 0, 4, 0, 8, 0], EN)
    assert [round(bar.height) for bar in drawn.bars] == [48, 0, 96, 0, 0, 0]
    assert drawn.bars[0].title == "4 to 7 characters: 4 documents"
    assert [mark.text for mark in drawn.scale] == ["4", "16", "64", "256"]
    assert (drawn.n, drawn.peak.text) == (12, "8")
    assert draw_histogram("zh", [0, 1], ZH).bars[0].title == "2 至 3 个字符：1 篇文档"


def test_the_median_is_within_its_bar():
    assert median([0] * 10 + [100]) == 1400  # 1,024 * 2 ** 0.5
    assert median([0] * 10 + [100, 300]) == 2600
    assert median([1]) == 1
    assert median([]) == 0


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("The red boat sank.", "The blue boat sank.",
         [("same", "The "), ("gone", "red"), ("new", "blue"), ("same", " "),
          ("same", "boat sank.")]),
        ("今天天气很好。", "今天天气不好。",
         [("same", "今天天气"), ("gone", "很"), ("new", "不"), ("same", "好。")]),
        ("a b", "a  b\n", [("same", "a  b\n")]),
        ("one two thr…", "one two three four…",
         [("same", "one two "), ("gone", "thr"), ("new", "three four"), ("same", "…")]),
        ("one two…", "one two three…", [("same", "one two "), ("same", "three"), ("same", "…")]),
        ("one two three…", "one two…", [("same", "one two"), ("same", "…")]),
        ("one two", "one two three", [("same", "one two "), ("new", "three")]),
        ("", "new", [("new", "new")]),
    ],
)  # fmt: skip
def test_differences_by_word_and_by_chinese_character(old, new, parts):
    assert differences(old, new) == parts


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_parts_make_up_both_texts(old, new):
    parts = differences(old, new)
    assert "".join(text for kind, text in parts if kind != "gone") == new
    if not (old.endswith("…") and new.endswith("…")):
        came_from = "".join(text for kind, text in parts if kind != "new")
        assert "".join(came_from.split()) == "".join(old.split())


def test_no_pair_of_texts_takes_long():
    began = time.monotonic()
    differences("a b " * 120, "b a c " * 80)
    differences("啊" * 480, "啊吧" * 240)
    differences("".join(chr(0x4E00 + i % 7 * i % 11) for i in range(480)), "一丁七" * 160)
    assert time.monotonic() - began < 5


def test_a_text_is_cut_by_characters_and_by_lines():
    assert cut("short\n\n\ntext", 20) == "short\ntext"
    assert cut("a" * 30, 20) == "a" * 20 + "…"
    assert cut("\n".join("abcdefghijklmnop"), 80).count("\n") == 11
    assert cut("", 5) == ""


def test_only_numbers_of_arxiv_become_links():
    assert linked("Gopher, arXiv:2112.11446, A.1") == [
        ("Gopher, ", ""),
        ("arXiv:2112.11446", "https://arxiv.org/abs/2112.11446"),
        (", A.1", ""),
    ]
    assert linked("javascript:x") == [("javascript:x", "")]
    assert linked("") == []


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://a.example/x", ["https://a.example/x", "x:7"]),
        ("x:7", ["x:7"]),
        ("/some/folder/x", ["x:7"]),
        ("C:\\folder\\x", ["x:7"]),
        ("a.example", ["a.example", "x:7"]),
    ],
)
def test_the_page_tells_addresses_and_no_paths(source, shown):
    assert places(Leader("x:7", source, "")) == shown


def test_a_bar_is_seen_where_there_is_something():
    assert [percent(0, 5), percent(1, 10**6), percent(1, 2), percent(3, 0)] == [
        "0",
        "0.30",
        "50.00",
        "0",
    ]


def test_a_gauge_has_the_limit_in_its_middle():
    assert [float(gauge_at(score)) for score in (0, 0.25, 0.5, 1, 2, 4, 99)] == [
        *(4, 4, 17, 30, 43, 56, 56)
    ]


def fields_of(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same_with_the_same_values():
    for key, (english, chinese) in report_words._WORDS.items():
        assert fields_of(english) == fields_of(chinese), key
        assert english
        assert chinese


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (EN.number(1_234_567), "1,234,567"),
        (EN.short(99_999), "99,999"),
        (EN.short(312_400_000), "312M"),
        (EN.short(1_234_567), "1.23M"),
        (EN.short(10**13), "10.0T"),
        (ZH.short(312_400_000), "3.12 亿"),
        (ZH.short(1_234_567), "123 万"),
        (EN.between(612_000_000, 745_000_000), "612M – 745M"),
        (EN.between(5, 5), "5"),
        (EN.documents(1), "1 document"),
        (EN.documents(0), "0 documents"),
        (ZH.documents(1_000), "1,000 篇文档"),
        (EN.share(0, 9), "0%"),
        (EN.share(9, 9), "100%"),
        (EN.share(1, 10**6), "< 0.1%"),
        (EN.share(10**6 - 1, 10**6), "> 99.9%"),
        (EN.share(1, 3), "33.3%"),
        (EN.share(0, 0), "0%"),
        (EN.score(1.0), "1"),
        (EN.score(0.974), "0.97"),
        (EN.score(1.004), "1.004"),
        (EN.score(1.0000001), "> 1"),
        (EN.score(0.9999999), "< 1"),
        (EN.score(1e9), "> 10"),
        (EN.size(24_100_000), "24.1\u00a0MB"),
        (EN.stage("near duplicates"), "Near-duplicates"),
        (EN.stage("own"), "own"),
        (ZH.kind("RESIDENT_ID"), "身份证号"),
        (ZH.tongue("zh"), "中文"),
        (EN.tongue("xx"), "xx"),
        (EN.reason("Gopher: too few words"), "Gopher: too few words"),
        (ZH.reason("Gopher: too few words"), "Gopher：词太少"),
        (ZH.reason("Gopher: one 2-gram too often"), "Gopher：某个 2-gram 过于频繁"),
        (ZH.reason("Gopher: repeated lines, by characters"), "Gopher：重复的行（按字符）"),
        (ZH.reason("C4: holds 'lorem ipsum'"), "C4：含有 'lorem ipsum'"),
        (ZH.reason("broken pdf"), "pdf 损坏"),
        (ZH.reason("overlap: C-Eval"), "与 C-Eval 重叠"),
        (ZH.reason("language: de"), "德语"),
        (EN.reason("language: de"), "German"),
        (ZH.reason("of tomorrow"), "of tomorrow"),
    ],
)
def test_numbers_and_names_in_words(said, expected):
    assert said == expected
