"""Patterns as trees, and what is refused because nobody checked that it means the same."""

import pytest

from scratchlm.tokenizer.pattern import (
    Chain,
    Chars,
    Either,
    NotBefore,
    Repeat,
    UnknownPattern,
    may_be_empty,
    parse,
)

SPACE = Chars(((32, 32),))
NOT_SPACE = Chars(kinds=("\\S",))


def test_gpt2s_last_two_choices():
    many = Repeat(Chars(kinds=("\\s",)), 1, None)
    assert parse(r"\s+(?!\S)|\s+") == Either((Chain((many, NotBefore(NOT_SPACE))), many))


@pytest.mark.parametrize(
    ("pattern", "tree"),
    [
        (" ?", Repeat(SPACE, 0, 1)),
        (r"\p{N}{1,3}", Repeat(Chars(kinds=("\\p{N}",)), 1, 3)),
        (" {2}", Repeat(SPACE, 2, 2)),
        (" {2,}", Repeat(SPACE, 2, None)),
        (r"[^\s\p{L}\r]", Chars(((13, 13),), ("\\s", "\\p{L}"), negated=True)),
        (r"[A-Z\-\]]", Chars(((65, 90), (45, 45), (93, 93)))),
        ("[\u4e00-\u9fa5]", Chars(((0x4E00, 0x9FA5),))),
        ("(?: | )", Either((SPACE, SPACE))),
        (r"\.", Chars(((46, 46),))),
    ],
)
def test_parts(pattern, tree):
    assert parse(pattern) == tree


def test_case_is_folded_in_the_known_groups():
    tree = parse("(?i:'s|'t|'re|'ve|'m|'ll|'d)")
    assert tree.choices[0].parts[1] == Chars(((83, 83), (115, 115), (0x17F, 0x17F)))
    assert tree.choices[1].parts[1] == Chars(((84, 84), (116, 116)))


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i:ss)",  # equals one character, \u00df
        "a++",
        "a+?",
        "a{1,2}+",
        "(a+)+$",
        "^a",
        "a.b",
        r"\bword",
        r"\d",  # would be the same, but no tokenizer here has it
        r"\1",
        "(?=a)",
        "(?<!a)b",
        "(?!ab)c",
        "(a)",
        "[a[bc]]",
        "[a&&b]",
        "[]a]",
        "[-a]",
        "[z-a]",
        "[a",
        "(?:a",
        "a)",
        "*a",
        "a{2,1}",
        "a{,2}",
        "(?:a?)*",
        "(?!a)*",
        "\\",
    ],
)
def test_what_is_not_known_is_refused(pattern):
    with pytest.raises(UnknownPattern):
        parse(pattern)


@pytest.mark.parametrize(
    ("pattern", "empty"),
    [("a", False), ("a?", True), ("a?b", False), ("a|b*", True), (r"(?!a)", True), ("", True)],
)
def test_may_be_empty(pattern, empty):
    assert may_be_empty(parse(pattern)) == empty
