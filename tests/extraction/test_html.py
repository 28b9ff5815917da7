"""Web pages to text: gold pages, and what pages say of themselves."""

import gzip
import json
import re
import statistics
from collections import Counter
from pathlib import Path

import pytest

from scratchlm.extraction.html import all_text, extract_html
from scratchlm.extraction.result import Hints, Unreadable

ENGLISH = (
    "The harbour was full of boats that morning, and the men who had been out all night stood "
    "about in groups and talked of the weather, which had been worse than anybody had expected. "
    "Nobody had been lost, but three boats would not go out again before the spring."
)
CHINESE = (
    "那天早上港口里停满了船，出海一夜的人们三三两两地站着，谈论着天气，那天气比谁预料的都要坏。"
    "没有人失踪，但有三条船要到春天才能再出海。老人们说，这样的风浪他们只在年轻的时候见过一次，"
    "那一次的风浪带走了半个村子的人。孩子们在岸边捡着被冲上来的木板，听着大人们说话。"
)
PAGE = """<!DOCTYPE html><html lang="{lang}"><head><title>{title} - The Paper</title>
<meta property="og:title" content="{title}"><link rel="canonical" href="https://paper.example/1">
<meta property="article:published_time" content="2019-03-05T08:00:00Z"></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/sport">Sport</a></li></ul></nav>
<article><h1>{title}</h1><p>{text}</p><p>{text} 2</p></article>
<footer><p>Copyright, terms of use, contact us</p></footer></body></html>"""


def page(text: str, title: str = "A storm", lang: str = "en") -> bytes:
    return PAGE.format(text=text, title=title, lang=lang).encode()


def main(body: bytes, **hints: str):
    return extract_html(body, Hints(**hints), "main")


@pytest.mark.parametrize(
    ("text", "title", "lang"), [(ENGLISH, "A storm", "en"), (CHINESE, "风暴", "zh-CN")]
)
def test_main_text_and_what_the_page_says_of_itself(text, title, lang):
    found = main(page(text, title, lang))
    assert text in found.text
    assert f"{text} 2" in found.text
    assert not re.search("Home|Sport|Copyright", found.text)
    assert found.meta == {
        "title": title,
        "date": "2019-03-05",
        "language": lang,
        "url": "https://paper.example/1",
    }


@pytest.mark.parametrize(
    ("text", "title", "lang"), [(ENGLISH, "A storm", "en"), (CHINESE, "风暴", "zh-CN")]
)
def test_the_quick_mode(text, title, lang):
    found = extract_html(page(text, title, lang), Hints(), "quick")
    assert text in found.text
    assert not re.search("Home|Sport", found.text)
    assert found.meta["title"] == f"{title} - The Paper"
    assert found.meta["language"] == lang
    assert found.meta["url"] == "https://paper.example/1"


@pytest.mark.parametrize("mode", ["main", "quick"])
def test_the_address_that_was_fetched_goes_before_the_pages_own(mode):
    found = extract_html(page(ENGLISH), Hints(url="https://other.example/"), mode)
    assert found.meta["url"] == "https://other.example/"


def test_a_day_after_the_fetching_is_no_date():
    assert "date" not in main(page(ENGLISH), day="2018-01-01").meta
    assert main(page(ENGLISH), day="2019-12-31").meta["date"] == "2019-03-05"


@pytest.mark.parametrize("lang", ["", "x", "en us", "<script>", "e" * 40, "UTF-8"])
def test_a_language_that_makes_no_sense_is_left_out(lang):
    assert "language" not in main(page(ENGLISH, lang=lang)).meta


def test_a_language_beside_the_root():
    body = page(ENGLISH).replace(b' lang="en"', b"")
    told = b'<head><meta http-equiv="Content-Language" content="en_GB">'
    assert main(body.replace(b"<head>", told)).meta["language"] == "en-GB"


@pytest.mark.parametrize("mode", ["main", "quick"])
@pytest.mark.parametrize("codec", ["gb18030", "big5", "utf-16", "cp1252"])
def test_character_sets(mode, codec):
    text = {"gb18030": CHINESE, "cp1252": ENGLISH + " Café, naïveté."}.get(
        codec,
        "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神互相對待。"
        * 3,
    )
    body = page(text).decode().replace("<head>", f'<head><meta charset="{codec}">').encode(codec)
    assert text in extract_html(body, Hints(), mode).text


@pytest.mark.parametrize("mode", ["main", "quick"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b" \n\t", "empty"),
        (b"\0\0\0", "empty"),
        (b"<html><body></body></html>", "no text"),
        (b"<html><body><script>var a = 1</script></body></html>", "no text"),
    ],
)
def test_pages_without_text(mode, body, reason):
    with pytest.raises(Unreadable, match=f"^{reason}"):
        extract_html(body, Hints(), mode)


def test_a_piece_of_a_page_is_a_page():
    assert main(f"<p>{ENGLISH}</p>".encode()).text == ENGLISH
    assert main(f"<?xml version='1.0' encoding='utf-8'?><p>{ENGLISH}</p>".encode()).text == ENGLISH


def test_nul_bytes_do_not_end_a_page():
    assert ENGLISH in main(page(ENGLISH).replace(b"<h1>", b"\0<h1>\0")).text


@pytest.mark.parametrize("depth", [300, 1000, 5000])
@pytest.mark.parametrize("tags", [("<div>", "</div>"), ("<ul><li>", "</li></ul>")])
def test_text_deep_in_a_page_and_behind_it_is_found(tags, depth):
    inside = f"{tags[0] * depth}<p>{ENGLISH}</p>{tags[1] * depth}<p>{CHINESE}</p>"
    for mode in ("main", "quick"):
        text = extract_html(f"<html><body>{inside}</body></html>".encode(), Hints(), mode).text
        assert CHINESE in text
        assert (
            ENGLISH in text or tags[0] == "<ul><li>"
        )  # such lists are no main text to resiliparse


def test_all_text_of_the_courses_page(shared_data):
    folder = shared_data / "html" / "cs336-a4-tests" / "tests" / "fixtures"
    wanted = (folder / "moby_extracted.txt").read_text("utf-8")
    assert all_text((folder / "moby.html").read_text("utf-8")) == wanted.strip()


def test_main_text_of_the_courses_page(shared_data):
    folder = shared_data / "html" / "cs336-a4-tests" / "tests" / "fixtures"
    found = main((folder / "moby.html").read_bytes())
    assert found.text.startswith("Availing himself") or "Availing himself" in found.text
    assert "This is a test paragraph with a link." in found.text
    assert found.meta["title"] == "Herman Melville - Moby-Dick"


@pytest.mark.parametrize(("mode", "least"), [("main", 0.96), ("quick", 0.90)])
def test_article_extraction_benchmark(shared_data, mode, least):
    """The benchmark's own score, on the half of its pages that we have."""
    folder = shared_data / "html" / "article-extraction-benchmark"
    wanted = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    pages = sorted((folder / "html").glob("*.html.gz"))
    assert len(pages) > 80
    scores = [_score(wanted[_key(path)]["articleBody"], _text(path, mode)) for path in pages]
    precision = statistics.mean(tp / (tp + fp) for tp, fp, _ in scores if tp + fp)
    recall = statistics.mean(tp / (tp + fn) for tp, _, fn in scores if tp + fn)
    f1 = 2 * precision * recall / (precision + recall)
    print(f"{mode}: F1 {f1:.4f}, precision {precision:.4f}, recall {recall:.4f}")
    assert f1 >= least


def _key(path: Path) -> str:
    return path.name.removesuffix(".html.gz")


def _text(path: Path, mode: str) -> str:
    try:
        return extract_html(gzip.decompress(path.read_bytes()), Hints(), mode).text
    except Unreadable:
        return ""


def _score(true: str, found: str) -> tuple[int, int, int]:
    """Runs of four words: in both, in the found text only, in the true one only."""
    ours, theirs = _runs(found), _runs(true)
    return (ours & theirs).total(), (ours - theirs).total(), (theirs - ours).total()


def _runs(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3)) if words)
