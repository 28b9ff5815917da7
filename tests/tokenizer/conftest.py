"""A small text in several languages, and one tokenizer of each kind trained on it."""

from pathlib import Path

import pytest

from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

KINDS = {
    "char": {},
    "regex": {},
    "whitespace": {"vocab_size": 500, "min_frequency": 1},
    "spacy": {"vocab_size": 500, "min_frequency": 1},
    "rjieba": {"vocab_size": 500, "min_frequency": 1},
    "bpe": {"vocab_size": 600},
    "sentencepiece-bpe": {"vocab_size": 800},
    "sentencepiece-unigram": {"vocab_size": 600},
    "gpt2": {},
}


@pytest.fixture(scope="session")
def text() -> str:
    return (Path(__file__).parents[1] / "data" / "lines.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def lines(text: str) -> list[str]:
    """Each line, some pairs and blocks of lines, and lines with spaces around them."""
    single = text.split("\n")
    blocks = ["\n".join(single[i : i + 7]) for i in range(0, len(single), 5)]
    return [*single, *blocks, *(f"  {line} \n" for line in single[::3]), "", " ", "\n\n", "\t"]


@pytest.fixture(scope="session")
def tokenizers(text: str) -> dict[str, Tokenizer]:
    return {
        kind: train_tokenizer([text], TokenizerConfig(kind=kind, **settings))
        for kind, settings in KINDS.items()
    }


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    """Each kind in turn."""
    return tokenizers[request.param]


@pytest.fixture(params=["bpe", "gpt2", "sentencepiece-bpe", "sentencepiece-unigram"])
def subword(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    """Each kind that writes any text."""
    return tokenizers[request.param]
