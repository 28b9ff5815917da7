"""A tokenizer learned from the beginning of a text, to count and measure before a run."""

from dataclasses import replace

from scratchlm.base.errors import ConfigError
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

SAMPLE_BYTES = 2_000_000
N_BYTES = 260  # ids of a vocabulary without merges, about: bytes and control tokens


def learn_on_sample(sample: list[str], config: TokenizerConfig, *, whole: bool) -> Tokenizer:
    """A tokenizer of the config; of half the merges, and again, where a sample is too little.

    whole    the sample is all there is: then too little is an error, as it will be in the run
    raises   ConfigError
    """
    while True:
        try:
            return train_tokenizer(iter(sample), replace(config, max_text_bytes=SAMPLE_BYTES))
        except ConfigError:
            n_merges = (config.vocab_size - N_BYTES) // 2
            if whole or n_merges < 1:
                raise
            config = replace(config, vocab_size=N_BYTES + n_merges)
