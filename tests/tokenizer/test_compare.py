"""Several tokenizers side by side."""

import pytest

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.compare import compare, first_difference


def test_rates(tokenizers):
    text = "the people 今天\n"
    rows = compare({"a": tokenizers["char"], "b": tokenizers["gpt2"]}, text[:11] + "\n")
    assert [row.name for row in rows] == ["a", "b"]
    char = rows[0]
    assert (char.n_tokens, char.bytes_per_token, char.tokens_per_character) == (12, 1.0, 1.0)
    assert char.tokens_per_word == 6.0
    assert char.encode_mb_per_s > 0
    assert char.difference is None
    assert rows[1].vocab_size == 50257


def test_han_characters_count_as_words(tokenizers):
    (row,) = compare({"gpt2": tokenizers["gpt2"]}, "今天 sunny_day")
    assert row.tokens_per_word == row.n_tokens / 3


def test_difference_is_shown(tokenizers):
    (row,) = compare({"words": tokenizers["whitespace"]}, "the  people")
    assert row.difference.startswith("character 4: ")
    assert first_difference("abc", "abc") is None
    assert first_difference("abc", "ab") == "character 2: 'abc' became 'ab'"


def test_no_text(tokenizers):
    with pytest.raises(DataError, match="no text to compare"):
        compare({"gpt2": tokenizers["gpt2"]}, "")


def test_tokenizer_that_cannot_is_named(tokenizers):
    with pytest.raises(DataError, match=r"mine: .*U\+20AC"):
        compare({"mine": tokenizers["char"]}, "\u20ac")
