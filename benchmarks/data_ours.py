"""Our side of the data benchmark: `prepare`."""

import time
from collections.abc import Sequence
from typing import Any

from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.tokenizer import train
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer


def make_tokenizers(paths: Sequence[str], gpt2: str, sentencepiece: str) -> dict[str, Any]:
    """Save GPT-2's tokenizer and one of 4,096 pieces in two folders."""
    gpt2_tokenizer().save(gpt2)
    config = TokenizerConfig(kind="sentencepiece-bpe", vocab_size=4096, max_text_bytes=10_000_000)
    train(paths, config, out=sentencepiece)
    return {}


def encode(paths: Sequence[str], tokenizer: str, workers: int, out: str) -> dict[str, Any]:
    """Text to shards, their checksums included."""
    words = Tokenizer.load(tokenizer)
    start = time.perf_counter()
    made = prepare(paths, out, words, config=PrepareConfig(workers=workers))
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "n_bytes": sum(facts.n_bytes for facts in made.splits.values()),
        "n_tokens": sum(facts.n_tokens for facts in made.splits.values()),
    }
