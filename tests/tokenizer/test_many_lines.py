"""The same ids as the reference on 10,000 lines of English, Chinese, code and emoji."""

import json
import random
import sysconfig
from pathlib import Path

import pytest
import tiktoken
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer

from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.sentencepiece import from_model_file
from scratchlm.tokenizer.train import train_tokenizer

pytestmark = pytest.mark.slow

GPT2_PATTERN = (
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
)


@pytest.fixture(scope="module")
def many_lines(shared_data, lines) -> list[str]:
    """4,000 English, 3,000 Chinese, 2,000 of code, 1,000 of emoji and odd spaces, one seed."""
    folder, draw = shared_data / "text", random.Random(0)
    english = [
        line
        for name in (
            "gutenberg/sherlock.txt",
            "wikitext-2/valid.txt",
            "tinystories/tiny_stories.txt",
        )
        for line in read_lines(folder / name)
    ]
    chinese = read_lines(folder / "debian" / "manpages-zh" / "manpages_zh_CN.roff.txt")
    for path in sorted((folder / "zh-poetry").rglob("poet.tang.1*.json")):
        for poem in json.loads(path.read_text(encoding="utf-8")):
            chinese += poem["paragraphs"]
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    code = [line for path in library for line in read_lines(path)]
    odd = [*lines, " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\U0001f600", "\u200d", "a"]
    emoji = ["".join(draw.choices(odd, k=draw.randint(1, 9))) for _ in range(1000)]
    sets = [(english, 4000), (chinese, 3000), (code, 2000)]
    return [line for some, n in sets for line in draw.sample(some, n)] + emoji


def read_lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8", errors="replace").split("\n") if line]


def test_gpt2_equals_tiktoken_and_transformers(many_lines, tmp_path):
    ours = gpt2_tokenizer()
    ranks = {piece: i for i, piece in enumerate(ours.pieces()[:50256])}
    theirs = tiktoken.Encoding(
        "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    tokens = ours.encode_batch(many_lines)
    assert tokens == [theirs.encode_ordinary(line) for line in many_lines]
    assert [ours.decode(row) for row in tokens] == many_lines
    ours.save(tmp_path)
    hub = AutoTokenizer.from_pretrained(tmp_path)
    allowed = ours.encode_batch(many_lines, allowed_special=True)
    assert hub(many_lines, add_special_tokens=False)["input_ids"] == allowed


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe", "sentencepiece-unigram"])
def test_trained_ones_equal_their_references(many_lines, kind, tmp_path):
    ours = train_tokenizer(["\n".join(many_lines)], TokenizerConfig(kind=kind))
    tokens = ours.encode_batch(many_lines)
    if kind != "bpe":
        model = ours._companions["tokenizer.model"]
        theirs = SentencePieceProcessor(model_proto=model)
        assert tokens == theirs.encode(many_lines)
        assert [ours.decode(row) for row in tokens] == theirs.decode(tokens)
    ours.save(tmp_path)
    hub = AutoTokenizer.from_pretrained(tmp_path)
    allowed = ours.encode_batch(many_lines, allowed_special=True)
    assert hub(many_lines, add_special_tokens=False)["input_ids"] == allowed


def test_llama2_equals_sentencepiece(many_lines, shared_data):
    path = shared_data / "tokenizers" / "llama2" / "tokenizer.model"
    theirs = SentencePieceProcessor(model_file=str(path))
    assert from_model_file(path).encode_batch(many_lines) == theirs.encode(many_lines)
