"""Text is written in one way: what cannot be seen goes, what carries meaning stays."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.cleaning.normalise import normalise, simplify

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # man, woman, girl
HEART = "\u2764\ufe0f\u200d\U0001f525"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # "I want"
SINHALA = "\u0dc1\u0dca\u200d\u0dbb\u0dd3"  # "Sri"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("cafe\u200b\u0301", "caf\u00e9"),
        ("one\r\ntwo\rthree\u2028four\x85five\fsix", "one\ntwo\nthree\nfour\nfive\nsix"),
        ("one\u2029two", "one\n\ntwo"),
        ("\ufeffa\u200bb\u2060c\u00add\u200ee", "abcde"),
        ("a\x00b\x07c\x1b[0m\x7fd\x9be", "abc[0mde"),
        ("10\u00a0000\u2009km\u202fh", "10 000 km h"),
        ("line  \t\nnext\u3000\n", "line\nnext"),
        ("a\n\n\nb", "a\n\n\nb"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("a\n \n\t\n  \n\nb", "a\n\n\nb"),
        ("\n\n  a\n\n", "  a"),
        ("\ud83d\ude00 \ud83d!", "\U0001f600 \ufffd!"),
        ("　　今天天气很好。\n 　明天也是。", "今天天气很好。\n明天也是。"),
        ("姓名　张三", "姓名　张三"),
        ("a\u200db\u200cc", "abc"),
        (f"{FAMILY}\u200d {FAMILY}", f"{FAMILY} {FAMILY}"),
        ("x\U000e0041\U000e0042y", "xy"),
        ("", ""),
        ("\u3000 \t\n", ""),
    ],
)
def test_each_step(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "他说：“你好，世界！”（全角括号）……——《书名》；１２３ＡＢＣ",
        "x² + y₁ ≤ ½ · ℕ → ﬁ ™ ①",  # form KC would change all of these
        "def f(x):\n\tif x:\n\t    return {'a': [1, 2]}  # two  spaces\n\n\nclass A:\n    pass",
        FAMILY,
        HEART,
        SCOTLAND,
        PERSIAN,
        SINHALA,
        "床前明月光　疑是地上霜",
    ],
)
def test_what_carries_meaning_stays(text):
    assert normalise(text) == text


# Every kind of character that a step looks at, and some that forms of Unicode change.
ODD = st.text(
    st.sampled_from(
        "a A\n\r\t\f\x00\x85\u00a0\u3000\u2028\u2029\u200b\ufeff\u00ad'.,\u2019"
        "\u200c\u200d\ufe0f\u2764\U0001f469\u2190\u2329\u2adc\u0338\u0301\u0345\u03a3\u0130\u1e9e"
        "\u0915\u094d\u093c\u0958\u0627\u0653\u0bc6\u0bbe\uac00\u11a8"
        "\U0001f3f4\U000e0067\U000e007f\ud83d\ude00\u037e\u2000\u212a中。"
    )
)


@settings(max_examples=500, deadline=None)
@given(st.one_of(ODD, st.text(st.characters(), max_size=50)))
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    once.encode("utf-8")  # no half of a surrogate pair is left
    assert not any(line != line.rstrip(" \t\u3000") for line in once.split("\n"))


@settings(max_examples=500, deadline=None)
@given(st.one_of(ODD, st.text(st.characters(), max_size=50)))
def test_simplifying_twice_changes_nothing_more(text):
    once = simplify(text)
    assert simplify(once) == once
    assert not any(unicodedata.category(char)[0] in "PS" for char in once)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't  PANIC!\n\nIt's well-known, isn\u2019t it?", "dont panic its well known isnt it"),
        ("他说：“你好，世界！”Hello。", "他说 你好 世界 hello"),
        ("Café costs $3.50 (or €3)", "café costs 3 50 or 3"),
        (f"{FAMILY} snake_case {HEART}", "snake case"),
        ("...", ""),
    ],
)
def test_the_simple_recipe(text, expected):
    assert simplify(text) == expected


@pytest.mark.parametrize(
    "piece", [" ", "\u3000", "\u00a0", "\n", "\x00", "\u200b", "\u200d", " \n"]
)
def test_a_megabyte_of_anything_ends_soon(piece):
    assert len(normalise("a" + piece * 1_000_000 + "b")) <= 1_000_002


def test_real_texts_change_little(shared_data):
    for name in ("tinyshakespeare/input.txt", "gutenberg/sherlock.txt"):
        text = (shared_data / "text" / name).read_text("utf-8-sig")
        assert normalise(text).split() == text.split()
