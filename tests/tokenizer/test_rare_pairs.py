"""Cutting text for learning where no token can lie."""

from scratchlm.tokenizer import train_bpe
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.rare_pairs import CUT, cut_at_rare_pairs
from scratchlm.tokenizer.train import train_tokenizer


def test_cuts_are_inside_rare_pairs_alone():
    texts = ["今天今天 今年abc", "", "é", "abc\n"]
    assert list(cut_at_rare_pairs(texts, 1)) == [f"今天{CUT}今天 今{CUT}年abc", "", "é", "abc\n"]
    assert list(cut_at_rare_pairs(texts, 2)) == [f"今天{CUT}今天 今年abc", "", "é", "abc\n"]
    assert list(cut_at_rare_pairs(texts, 3)) == texts


def test_nothing_is_lost(text):
    (cut,) = cut_at_rare_pairs([text], 50)
    assert cut.replace(CUT, "") == text
    assert cut.count(CUT) > 500


def test_ascii_is_left_alone():
    assert list(cut_at_rare_pairs(["a b", ""], 10)) == ["a b", ""]


def test_vocabulary_is_as_good_as_without_cuts(text, monkeypatch):
    config = TokenizerConfig(vocab_size=600)
    cut = train_tokenizer([text], config)
    monkeypatch.setattr(train_bpe, "cut_at_rare_pairs", lambda texts, _n: iter(texts))
    whole = train_tokenizer([text], config)
    assert len(cut.encode(text)) <= 1.002 * len(whole.encode(text))
