"""Training: what goes in, what bounds it, what cannot be had."""

import pytest
import regex
import tiktoken

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.tokenizer import sample as sample_module
from scratchlm.tokenizer import train_bpe
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.sample import blocks, sample
from scratchlm.tokenizer.train import train_tokenizer


def test_bpe_layout(tokenizers):
    ours = tokenizers["bpe"]
    assert ours.vocab_size == 600
    assert sorted(ours.pieces()[:256]) == [bytes([byte]) for byte in range(256)]
    assert ours.special_tokens == {"<|endoftext|>": 599}
    assert ours.bos_id == ours.eos_id == 599
    assert ours._config["scratchlm"] == {"kind": "bpe", "pre_tokenizer": "deepseek-v3"}


def test_bpe_with_its_own_beginning(text):
    ours = train_tokenizer([text], TokenizerConfig(vocab_size=300, bos=True))
    assert (ours.bos_id, ours.eos_id, ours.vocab_size) == (298, 299, 300)


def test_bpe_never_joins_han_and_latin_or_more_than_three_digits(tokenizers):
    for piece in tokenizers["bpe"].pieces()[:599]:
        text = piece.decode("utf-8", "ignore")
        has_han = any("\u4e00" <= char <= "\u9fa5" for char in text)
        assert not (has_han and any(char.isascii() for char in text))
        assert sum(char.isdigit() for char in text) <= 3


def test_bpe_equals_cutting_and_merging_by_others(tokenizers, lines):
    """The `regex` module cuts by llama.cpp's three patterns in turn, tiktoken merges."""
    ours = tokenizers["bpe"]
    ranks = {piece: i for i, piece in enumerate(ours.pieces()[:599])}
    merge = tiktoken.Encoding("x", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={})
    for line in lines:
        parts = [line]
        for pattern in train_bpe.PATTERNS:
            parts = [p for part in parts for p in regex.split(f"({pattern})", part) if p]
        theirs = [i for part in parts for i in merge.encode_ordinary(part)]
        assert ours.encode(line) == theirs, line


def test_documents_stream_and_progress_counts_bytes(text):
    seen = []
    documents = (line for line in text.splitlines(keepends=True))
    ours = train_tokenizer(documents, TokenizerConfig(vocab_size=400), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(text.encode())
    assert ours.vocab_size == 400


@pytest.mark.parametrize(
    "kind", ["char", "regex", "whitespace", "bpe", "sentencepiece-bpe", "sentencepiece-unigram"]
)
def test_no_text(kind):
    for nothing in ([], ["", ""]):
        with pytest.raises(DataError, match="every document is empty"):
            train_tokenizer(iter(nothing), TokenizerConfig(kind=kind))


def test_bpe_vocabulary_larger_than_the_text_allows():
    with pytest.raises(ConfigError, match=r"vocab_size = 4096, but this text gives only 262 tok"):
        train_tokenizer(["hello hello hello"], TokenizerConfig(min_frequency=1))
    ours = train_tokenizer(["hello hello hello"], TokenizerConfig(vocab_size=262, min_frequency=1))
    assert ours.vocab_size == 262


def test_bpe_vocabulary_smaller_than_the_bytes():
    with pytest.raises(ConfigError, match=r"vocab_size = 256 is less than the 256 bytes and 1"):
        train_tokenizer(["hello"], TokenizerConfig(vocab_size=256))


@pytest.mark.parametrize("name", ["vocab_size", "min_frequency", "max_text_bytes"])
def test_settings_below_one(name):
    with pytest.raises(ConfigError, match=rf"tokenizer\.{name} = 0 must be at least 1"):
        TokenizerConfig(**{name: 0})


def test_gpt2_reads_no_text():
    assert train_tokenizer(iter([]), TokenizerConfig(kind="gpt2")) is gpt2_tokenizer()


def test_blocks_are_the_text(text):
    documents = [text * 10, "x" * 70_000, "", "\n" * 40_000, "end"]
    pieces = list(blocks(documents))
    assert "".join(pieces) == "".join(documents)
    with pytest.raises(DataError, match="lone surrogate"):
        list(blocks(["a\ud800"]))
    assert max(map(len, pieces)) <= 32_768
    assert all(piece.endswith("\n") for piece in blocks([text * 10]))


def test_sample_is_bounded_even_and_repeatable(caplog):
    caplog.set_level("INFO")
    pieces = [f"{i:04d}\u4e2d" for i in range(1000)]  # seven bytes each
    kept = sample(iter(pieces), 700)
    assert len(kept) == 100
    assert kept == sorted(kept)  # in the order of the stream
    assert 350 < sum(int(piece[:4]) for piece in kept) / 100 < 650
    assert kept == sample(iter(pieces), 700)
    assert "sample of 0 of 0 MB (tokenizer.max_text_bytes)" in caplog.text


def test_sample_takes_all_that_fits(caplog):
    caplog.set_level("INFO")
    assert sample(iter(["a", "b", "c"]), 3) == ["a", "b", "c"]
    assert sample(iter(["too long"]), 3) == ["too long"]
    assert "sample" not in caplog.text


def test_chinese_without_spaces_is_learned(monkeypatch):
    monkeypatch.setattr(sample_module, "_BLOCK", 1000)
    text = "今天天气很好我们去公园吧" * 500
    ours = train_tokenizer([text], TokenizerConfig(vocab_size=280))
    assert ours.decode(ours.encode(text)) == text
    assert len(ours.encode(text)) < len(text)
