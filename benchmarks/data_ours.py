"""Our side of the data benchmark: `prepare`."""

import time
from typing import Any

from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.tokenizer import train
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer

LEARNED: dict[str, dict[str, Any]] = {
    "bpe16k": {"kind": "bpe", "vocab_size": 16_000, "min_frequency": 1},
    "sp4096": {"kind": "sentencepiece-bpe", "vocab_size": 4096},
}


def make_tokenizers(folder: str, places: dict[str, str]) -> dict[str, Any]:
    """Save tokenizers by name in a folder each; "gpt2" is not learned."""
    for name, place in places.items():
        if name == "gpt2":
            gpt2_tokenizer().save(place)
        else:
            config = TokenizerConfig(max_text_bytes=10_000_000, **LEARNED[name])
            train(folder, config, out=place)
    return {}


def encode(folder: str, tokenizer: str, workers: int, out: str) -> dict[str, Any]:
    """Text to shards, their checksums included."""
    words = Tokenizer.load(tokenizer)
    start = time.perf_counter()
    made = prepare(folder, out, words, config=PrepareConfig(workers=workers))
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "n_bytes": sum(facts.n_bytes for facts in made.splits.values()),
        "n_tokens": sum(facts.n_tokens for facts in made.splits.values()),
    }
