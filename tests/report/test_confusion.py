"""The picture of a confusion matrix: every count in its place, any label as text."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.report.confusion import MOST_CLASSES, confusion_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*arguments, **words):
    return ET.fromstring(confusion_svg(*arguments, **words))


def texts_of(svg):
    """The lines of text with their attributes, without what they say when pointed at."""
    return {
        "".join(t.itertext()).removeprefix(title_of(t)): t.attrib for t in svg.iter(f"{SVG}text")
    }


def title_of(element):
    found = element.find(f"{SVG}title")
    return found.text if found is not None else ""


def cells_of(svg):
    """What each cell says, and the square of its colour."""
    return [(title_of(g), g.findall(f"{SVG}rect")[1].attrib) for g in svg.iter(f"{SVG}g")]


def test_each_count_stands_at_its_row_and_column():
    svg = drawn(["ham", "spam"], [[950, 50], [9, 111]], "SMS")
    cells = cells_of(svg)
    assert [title for title, _ in cells] == [
        "ham \u2192 ham: 950 (95.0%)",
        "ham \u2192 spam: 50 (5.0%)",
        "spam \u2192 ham: 9 (7.5%)",
        "spam \u2192 spam: 111 (92.5%)",
    ]
    (a, b, c, d) = [(float(r["x"]), float(r["y"])) for _, r in cells]
    assert a[0] == c[0] < b[0] == d[0]
    assert a[1] == b[1] < c[1] == d[1]
    assert [r["class"] for _, r in cells] == ["kept", "dropped", "dropped", "kept"]
    opacity = [float(r["fill-opacity"]) for _, r in cells]
    assert opacity == pytest.approx(
        [0.08 + 0.92 * s for s in (0.95, 0.05, 0.075, 0.925)], abs=0.006
    )
    assert {"950", "50", "9", "111", "ham", "spam", "SMS"} <= texts_of(svg).keys()
    assert svg.attrib["aria-label"] == "SMS: 1,061 / 1,120 = 94.7%"


def test_numbers_on_dark_cells_are_light():
    texts = texts_of(drawn(["a", "b"], [[99, 1], [0, 0]]))
    assert texts["99"]["fill"] == "#ffffff"
    assert texts["99"]["class"] == "on"
    assert texts["1"]["fill"] == "currentColor"
    assert "0" not in texts  # an empty cell stays empty


def test_the_words_can_be_chinese_and_long_labels_are_cut():
    names = ["体育新闻", "财经", "一个非常非常非常长的类别名称" * 3]
    svg = drawn(names, [[5, 0, 0], [0, 5, 0], [0, 0, 5]], true="真实类别", told="预测类别")
    texts = texts_of(svg)
    assert {"体育新闻", "财经", "真实类别", "预测类别"} <= texts.keys()
    assert any(text.endswith("\u2026") and names[2].startswith(text[:-1]) for text in texts)
    assert any(names[2] in title for title, _ in cells_of(svg))
    assert svg.attrib["aria-label"] == "真实类别, 预测类别: 15 / 15 = 100.0%"


def test_labels_and_squares_do_not_overlap():
    for n in (1, 2, 12, 13, 30, 40):
        svg = drawn([f"class {i}" for i in range(n)], [[i + j for i in range(n)] for j in range(n)])
        width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
        rects = [r for _, r in cells_of(svg)]
        side = float(rects[0]["width"])
        assert side >= 20  # names on neighbouring rows stay apart
        assert all(float(r["x"]) + side <= width for r in rects)
        assert all(float(r["y"]) + side <= height for r in rects)
        first = min(float(r["x"]) for r in rects)
        texts = [text.attrib for text in svg.iter(f"{SVG}text")]
        ends = [float(text["x"]) for text in texts if text["text-anchor"] == "end"]
        assert len(ends) == n
        assert all(end < first for end in ends)


def test_very_many_classes_are_joined_and_no_count_is_lost():
    n = 200
    matrix = [[(i == j) * (n - i) + (i + j) % 2 for j in range(n)] for i in range(n)]
    svg = drawn([f"c{i}" for i in range(n)], matrix)
    cells = cells_of(svg)
    assert len(cells) == MOST_CLASSES**2
    counts = [int(re.search(r": ([\d,]+) \(", title)[1].replace(",", "")) for title, _ in cells]
    assert sum(counts) == sum(map(sum, matrix))
    assert cells[0][0].startswith("c0 ")  # the largest
    assert cells[-1][0].startswith(f"{n - MOST_CLASSES + 1} other classes \u2192")


def test_large_counts_are_shortened_to_fit():
    texts = texts_of(drawn(["a", "b"], [[1_234_567, 12_345], [9_999, 2_000_000_000]]))
    assert {"1.2M", "12k", "9999", "2.0G"} <= texts.keys()


HOSTILE = [
    "<script>alert(1)</script>", '"><svg onload=alert(2)>', "]]>&amp;&#0;",
    "\x00\x1b[2J\ud800\ufffe", "\u202egnp.exe", "", " \n ", "'\"`",
]  # fmt: skip


def test_hostile_labels_show_as_text():
    n = len(HOSTILE)
    page = confusion_svg(HOSTILE, [[1] * n for _ in range(n)], HOSTILE[0], true="<b>", told='"x"')
    svg = ET.fromstring(page)
    assert {element.tag.removeprefix(SVG) for element in svg.iter()} == {
        "svg", "text", "title", "g", "rect",
    }  # fmt: skip
    names = {name for element in svg.iter() for name in element.attrib}
    assert not {name for name in names if name.startswith("on") or name in ("style", "href")}
    titles = " ".join(title for title, _ in cells_of(svg))
    assert "<script>alert(1)</script>" in titles
    assert "[U+202E]gnp.exe" in titles
    assert "<script>alert(1)</script>" in svg.attrib["aria-label"]
    assert "<b>" in texts_of(svg)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters()), min_size=1, max_size=6), st.data())
def test_any_label_makes_well_formed_svg(names, data):
    n = len(names)
    row = st.lists(st.integers(0, 10**12), min_size=n, max_size=n)
    matrix = data.draw(st.lists(row, min_size=n, max_size=n))
    svg = drawn(names, matrix, names[0])
    assert len(cells_of(svg)) == n * n
