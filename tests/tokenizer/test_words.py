"""Characters and words: the book's tokenizer, segmenters, what is unknown."""

import re
import sys
import time

import pytest

from scratchlm.base.errors import DataError, MissingExtraError
from scratchlm.tokenizer import train_words, words
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.tokenizer.words import SEGMENTERS


class BookTokenizer:
    """Build a Large Language Model (From Scratch), chapter 2: listings 2.3 and 2.4 in words."""

    def __init__(self, text: str) -> None:
        known = [*sorted(set(self.cut(text))), "<|endoftext|>", "<|unk|>"]
        self.id_of = {word: i for i, word in enumerate(known)}
        self.word_of = known

    def cut(self, text: str) -> list[str]:
        return [x.strip() for x in re.split(r'([,.:;?_!"()\']|--|\s)', text) if x.strip()]

    def encode(self, text: str) -> list[int]:
        return [self.id_of.get(word, self.id_of["<|unk|>"]) for word in self.cut(text)]

    def decode(self, ids: list[int]) -> str:
        return re.sub(r'\s+([,.?!"()\'])', r"\1", " ".join(self.word_of[i] for i in ids))


def test_regex_equals_the_book(text, lines):
    text = text.replace("<|endoftext|>", "").replace("<|unk|>", "")  # control in the book
    book = BookTokenizer(text)
    ours = train_tokenizer([text], TokenizerConfig(kind="regex"))
    assert ours.vocab_size == len(book.word_of)
    for line in [*lines, "Hello, do you like tea? -- In the sunlit terraces(of)\x1cthe palace."]:
        if "<|" not in line:
            assert ours.encode(line) == book.encode(line)
            assert ours.decode(book.encode(line)) == book.decode(book.encode(line))


def test_regex_on_the_verdict(shared_data):
    text = (shared_data / "text" / "the-verdict.txt").read_text(encoding="utf-8")
    ours = train_tokenizer([text], TokenizerConfig(kind="regex"))
    assert ours.vocab_size == 1132  # the book: 1,130 words and two control tokens
    assert ours.special_tokens == {"<|endoftext|>": 1130, "<|unk|>": 1131}
    asked = "Hello, do you like tea? <|endoftext|> In the sunlit terraces of the palace."
    answer = [1131, 5, 355, 1126, 628, 975, 10, 1130, 55, 988, 956, 984, 722, 988, 1131, 7]
    assert ours.encode(asked, allowed_special=True) == answer  # as printed in section 2.4
    assert ours.encode(text) == BookTokenizer(text).encode(text)


def test_strict_names_the_unknown_word():
    ours = train_tokenizer(["the cat sat"], TokenizerConfig(kind="regex"))
    assert ours.encode("the dog sat") == [2, ours.unk_id, 1]
    with pytest.raises(DataError, match="'dog' at position 4 of the text is not in the vocab"):
        ours.encode("the dog sat", strict=True)


def test_characters_are_ordered_and_unknown_ones_named(text):
    ours = train_tokenizer([text], TokenizerConfig(kind="char"))
    assert ours.decode(range(ours.vocab_size)) == "".join(sorted(set(text)))
    assert ours.decode(ours.encode(text)) == text
    with pytest.raises(DataError, match=r"'.' \(U\+20AC\) at position 3 of the text"):
        ours.encode("abc\u20ac")


def test_tiny_shakespeare_has_nanogpts_65_characters(shared_data):
    text = (shared_data / "text" / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    ours = train_tokenizer([text], TokenizerConfig(kind="char"))
    assert ours.vocab_size == 65
    assert ours.encode("hii there") == [46, 47, 47, 1, 58, 46, 43, 56, 43]  # as in its lecture


def test_words_are_ordered_by_frequency():
    config = TokenizerConfig(kind="whitespace", vocab_size=5, min_frequency=2, eos=True)
    ours = train_tokenizer(["b a a c b a b b", "c <pad> <pad>"], config)
    assert (ours.pad_id, ours.unk_id, ours.eos_id, ours.vocab_size) == (0, 1, 2, 5)
    assert ours.encode("a b c <pad>") == [4, 3, 1, 1]
    assert ours.decode([3, 4]) == "b a"


def test_spacy_words():
    config = TokenizerConfig(kind="spacy", vocab_size=50, min_frequency=1)
    ours = train_tokenizer(["Don't stop, Mr. Smith!\n\nIt's 5 p.m."], config)
    assert ours.decode(ours.encode("Don't stop!")) == "Do n't stop !"


def test_chinese_words():
    config = TokenizerConfig(kind="rjieba", vocab_size=50, min_frequency=1)
    ours = train_tokenizer(["今天天气很好，我们用 hello world 说话。"], config)
    tokens = ours.encode("我们 说话，hello world。")
    assert ours.decode(tokens) == "我们说话，hello world。"
    assert len(tokens) == 6


def test_segmenter_is_named_in_the_folder_and_the_log(tmp_path, caplog):
    caplog.set_level("INFO")
    config = TokenizerConfig(kind="rjieba", min_frequency=1)
    train_tokenizer(["今天天气很好"], config).save(tmp_path)
    assert "cuts text into words by rjieba" in (tmp_path / "tokenizer_config.json").read_text()
    assert "other tools must be given text with a space between the words" in caplog.text


@pytest.mark.parametrize(("kind", "extra"), [("spacy", "spacy"), ("rjieba", "zh")])
def test_missing_library_names_its_extra(monkeypatch, kind, extra):
    words._spacy.cache_clear()
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "scratchlm\[{extra}\]"'):
        train_tokenizer(["a b"], TokenizerConfig(kind=kind))


def test_counting_forgets_rare_words_to_bound_memory(caplog):
    texts = ["the the the"] + [f"the w{i} x{i}" for i in range(30)]
    counts = train_words._count_words(texts, str.split, max_words=10)
    assert len(counts) <= 12
    assert counts["the"] == 33
    assert "more than 10 different words" in caplog.text


def test_regex_refuses_more_words_than_it_can_hold(monkeypatch):
    monkeypatch.setattr(train_words, "_MAX_WORDS", 3)
    with pytest.raises(DataError, match=r"more than 3 different words.*kind = bpe"):
        train_tokenizer(["a b c d"], TokenizerConfig(kind="regex"))


def test_spacy_forgets_words(monkeypatch):
    """A text without end does not fill the memory: words behind the first ones are forgotten."""
    pytest.importorskip("spacy")
    monkeypatch.setattr(words, "_KEPT", 0)
    monkeypatch.setattr(words, "_FORGOTTEN", 5_000)
    strings = words._spacy().language.vocab.strings
    before = len(strings)
    with SEGMENTERS["spacy"].session() as split:
        for i in range(3_000):
            line = f"word{i} don't other{i}."
            assert split(line) == [f"word{i}", "do", "n't", f"other{i}", "."]
    assert len(strings) < before + 1_000  # of 6,000


def test_spacy_does_not_stall_on_a_run_of_marks():
    pytest.importorskip("spacy")
    began = time.process_time()
    pieces = SEGMENTERS["spacy"].split("One. " + "'" * 5_000 + " two")
    assert "".join(pieces) == "One." + "'" * 5_000 + "two"
    assert time.process_time() - began < 2  # 0.1 s; before, in one piece, 2 s for 2,000
    long = "https://example.org/" + "a" * 200
    assert SEGMENTERS["spacy"].split(long) == [long]
