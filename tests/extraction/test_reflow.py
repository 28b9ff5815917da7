"""Lines of pages to paragraphs."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.extraction.reflow import reflow

PROSE = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in "
    "my purse, and nothing particular to interest me on shore, I thought I would sail about a "
    "little and see the watery part of the world."
)
OTHER = (
    "It is a way I have of driving off the spleen and regulating the circulation. Whenever I find "
    "myself growing grim about the mouth, I account it high time to get to sea as soon as I can."
)
CHINESE = "庭有枇杷树，吾妻死之年所手植也，今已亭亭如盖矣。" * 4


def printed(text: str, width: int = 60) -> str:
    return "\r\n".join(textwrap.wrap(text, width))


def test_lines_become_paragraphs():
    page = f"A Heading\r\n{printed(PROSE)}\r\n{printed(OTHER)}\r\n"
    assert reflow([page]) == f"A Heading\n{PROSE}\n{OTHER}"


def test_a_paragraph_goes_on_behind_a_page():
    lines = textwrap.wrap(PROSE, 60)
    assert reflow(["\r\n".join(lines[:2]), "\r\n".join(lines[2:])]) == PROSE


def test_chinese_lines_are_joined_without_spaces():
    lines = [CHINESE[i : i + 20] for i in range(0, len(CHINESE), 20)]
    assert reflow(["\r\n".join(lines)]) == CHINESE
    assert (
        reflow(["这一行的末尾是英文词语 Python\r\nlanguage 然后又是中文"]).count("Python language")
        == 1
    )


@pytest.mark.parametrize("hyphen", ["-\r\n", "\ufffe", "\u2010\r\n", "\u00ad\r\n"])
def test_broken_words_are_whole_again(hyphen):
    assert reflow([f"a line that ends in an exam{hyphen}ple of it"]) == (
        "a line that ends in an example of it"
    )


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("the Anglo-", "Saxon chronicle", "the Anglo-Saxon chronicle"),
        ("the years 1914-", "1918 were war", "the years 1914-1918 were war"),
        ("an X-", "ray of it", "an X-ray of it"),
    ],
)
def test_hyphens_that_belong_there_stay(before, after, joined):
    assert reflow([f"{before}\r\n{after}"]) == joined


def test_a_hyphen_that_the_document_has_elsewhere_stays():
    page = "a well-known man, as I said, was here today\r\nand he is still a well-\r\nknown man"
    assert reflow([page]).endswith("a well-known man")


def test_page_numbers_go():
    pages = [f"{PROSE[:50]}\r\n{PROSE[51:100]}\r\n{number}" for number in range(7, 12)]
    assert not any(str(number) in reflow(pages) for number in range(7, 12))
    pages = [f"- {number} -\r\n{printed(PROSE)}" for number in range(1, 4)]
    assert "-" not in reflow(pages)


def test_numbers_that_count_no_pages_stay():
    pages = ["Sales in thousands\r\n1200", "Sales of the next year\r\n1350", "And then\r\n17"]
    assert all(number in reflow(pages) for number in ("1200", "1350", "17"))


def test_running_titles_go():
    pages = [f"Chapter 2: Whales {n}\r\n{printed(PROSE)}\r\nThe Press" for n in range(20, 24)]
    assert reflow(pages) == "\n".join([PROSE] * 4)
    assert "Chapter 2" in reflow(pages[:2])


def test_items_and_verses_keep_their_lines():
    items = "What there is:\r\n1. a first thing of some length\r\n2. a second thing of the same\r\n"
    assert reflow([items]).splitlines()[1:] == [
        "1. a first thing of some length",
        "2. a second thing of the same",
    ]
    assert (
        reflow(["Short\r\nlines\r\nand one of them that is a good deal longer than others"]).count(
            "\n"
        )
        == 2
    )


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), max_size=2))
def test_no_letter_is_lost(pages):
    def letters(text: str) -> list[str]:
        return [char for char in text if char.isalpha()]

    assert letters(reflow(pages)) == letters("".join(pages))
