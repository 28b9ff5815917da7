"""Character sets: what is declared, what is declared wrongly, what is not declared at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.extraction.charset import codec_of, decode_page, guessed

SIMPLE = (
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神互相对待。"
    "人人有资格享受本宣言所载的一切权利和自由，不分种族、肤色、性别、语言、宗教、政治或其他见解。"
)
TRADITIONAL = (
    "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神互相對待。"
    "人人有資格享受本宣言所載的一切權利和自由，不分種族、膚色、性別、語言、宗教、政治或其他見解。"
)
JAPANESE = (
    "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。"
    "人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。"
)
FRENCH = (
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués "
    "de raison et de conscience et doivent agir les uns envers les autres avec fraternité."
)
RUSSIAN = (
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
    "совестью и должны поступать в отношении друг друга в духе братства."
)
TEXTS = {
    "gb18030": SIMPLE,
    "big5": TRADITIONAL,
    "shift_jis": JAPANESE,
    "euc_jp": JAPANESE,
    "cp1252": FRENCH,
    "cp1251": RUSSIAN,
}


@pytest.mark.parametrize(("codec", "text"), TEXTS.items())
def test_what_is_declared_is_believed(codec, text):
    page = f'<html><head><meta charset="{codec}"></head>{text}'
    assert decode_page(page.encode(codec)) == page
    assert decode_page(text.encode(codec), codec) == text
    old = f'<meta http-equiv="Content-Type" content="text/html; charset={codec}">{text}'
    assert decode_page(old.encode(codec)) == old


@pytest.mark.parametrize(("codec", "text"), TEXTS.items())
def test_what_is_not_declared_is_detected(codec, text):
    assert decode_page((text * 3).encode(codec)) == text * 3


@pytest.mark.parametrize(("codec", "text"), list(TEXTS.items())[:4])
def test_a_server_that_says_latin_of_everything_is_not_believed(codec, text):
    assert decode_page((text * 3).encode(codec), "ISO-8859-1") == text * 3
    page = f'<meta charset="{codec}">{text}'
    assert decode_page(page.encode(codec), "iso-8859-1") == page


def test_utf8_goes_before_what_is_declared():
    page = f"<meta charset=gb2312>{SIMPLE}"
    assert decode_page(page.encode(), "iso-8859-1") == page
    page = f"<meta charset=iso-8859-1>{FRENCH}"
    assert decode_page(page.encode()) == page


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_marks(codec):
    assert decode_page(SIMPLE.encode(codec), "gbk") == SIMPLE


def test_utf8_with_a_few_broken_bytes_stays_utf8():
    body = (SIMPLE * 3).encode() + b"\xff\xfe" + SIMPLE.encode()
    page = b"<meta charset=utf-8>" + body
    assert decode_page(page).count("\ufffd") == 2


def test_japanese_of_seven_bits():
    assert decode_page(JAPANESE.encode("iso2022_jp")) == JAPANESE
    assert decode_page(b"plain \x1b[0m text") == "plain \x1b[0m text"


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("UTF-8", "utf-8"),
        (" 'gb2312' ", "gb18030"),
        ("x-sjis", "cp932"),
        ("Latin-1", "cp1252"),
        ("windows-1251", "cp1251"),
        ("zip", None),  # a codec of Python, and a bomb
        ("rot13", None),
        ("unicode_escape", None),
        ("idna", None),
        ("punycode", None),
        ("utf-7", None),
        ("none", None),
        ("", None),
        ("a\0b", None),
        ("\ud800", None),
    ],
)
def test_names_of_character_sets(name, codec):
    assert codec_of(name) == codec


@given(st.binary(max_size=300), st.sampled_from(["", "gbk", "utf-8", "big5", "latin-1", "zip"]))
def test_all_bytes_become_text(body, charset):
    assert isinstance(decode_page(body, charset), str)
    assert guessed(body) is None or isinstance(guessed(body), str)
