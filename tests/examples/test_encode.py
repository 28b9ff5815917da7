"""Examples as ids: labels, texts, and what does not fit into the context."""

import itertools

import numpy as np
import pytest

from scratchlm.base.errors import DataError
from scratchlm.data.rows import IGNORE
from scratchlm.examples.encode import Example, check, fit, of_label, of_text
from scratchlm.examples.labels import Labelled
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return gpt2_tokenizer()


def example(n: int, place: str = "f:1", learned: int = 1) -> Example:
    targets = np.full(n, IGNORE)
    if learned:
        targets[-learned:] = 7
    return Example(np.arange(n), targets, place)


def test_the_class_is_the_target_of_the_last_token(tokenizer):
    one = of_label(Labelled("free prize, 中奖", "spam", "f:3"), 1, tokenizer)
    assert tokenizer.decode(one.tokens.tolist()) == "free prize, 中奖"
    assert one.targets.tolist() == [IGNORE] * (len(one) - 1) + [1]
    with pytest.raises(DataError, match="f:3: the text is empty"):
        of_label(Labelled("", "spam", "f:3"), 1, tokenizer)


def test_a_text_is_cut_into_rows_without_a_gap(tokenizer):
    rows = of_text("To be, or not to be: that is the question. " * 20, "f", tokenizer, 16)
    assert all(len(row) <= 16 for row in rows)
    joined = [i for row in rows for i in row.tokens.tolist()] + [rows[-1].targets[-1]]
    assert tokenizer.decode(joined[:-1]).startswith("To be, or not")
    assert joined[-1] == tokenizer.eos_id
    for one, other in itertools.pairwise(rows):
        assert one.targets[-1] == other.tokens[0]


def test_long_examples_are_dropped_cut_or_refused_and_told(caplog):
    some = [example(5, "a:1"), example(9, "a:2"), example(7, "a:3")]
    dropped = fit(some, 6, "drop")
    assert [one.place for one in dropped.examples] == ["a:1"]
    dropped.report()
    assert "2 examples are longer than 6 tokens and were left out: a:2, a:3" in caplog.text
    cut = fit(some, 6, "cut")
    assert [len(one) for one in cut.examples] == [5, 6, 6]
    assert [int(one.targets[-1]) for one in cut.examples] == [7, 7, 7]  # the class comes along
    with pytest.raises(DataError, match="a:2 has 9 tokens, and --seq-len is 6"):
        fit(some, 6, "refuse")
    with pytest.raises(DataError, match="no example is left"):
        fit(some[1:], 6, "drop")


def test_a_cut_conversation_may_have_nothing_left(caplog):
    some = [example(5, "a:1"), example(9, "a:2", learned=2)]
    fitted = fit(some, 6, "cut")
    assert fitted.empty == ["a:2"]
    fitted.report()
    assert "had nothing left to learn" in caplog.text


@pytest.mark.parametrize(
    ("one", "vocab_size", "message"),
    [
        (example(5, "f:9"), 4, "f:9 has the id 4, and the model only 4 ids"),
        (example(5, "f:9"), 50, "f:9: the last answer is learned without its end token"),
    ],
)
def test_what_must_hold_before_the_first_step(one, vocab_size, message):
    with pytest.raises(DataError, match=message):
        check(one, vocab_size, lambda i: i == 8)


def test_a_good_example_passes():
    check(example(3), 8, lambda i: i == 7)
