"""Byte-level BPE: learned here by the `tokenizers` library, readable by llama.cpp."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from scratchlm.base.errors import ConfigError
from scratchlm.tokenizer.compose import byte_level, byte_level_bpe, compose, sequence, split
from scratchlm.tokenizer.config import BEGIN_OF_TEXT, END_OF_TEXT, TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer

# The pattern that llama.cpp calls "deepseek-v3" (LLAMA_VOCAB_PRE_TYPE_DEEPSEEK3_LLM)
LLAMA_CPP_PRE = "deepseek-v3"
_PATTERNS = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
)


def train_bpe(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learn byte-level BPE: 256 bytes, then one id per merge, then the control tokens.

    raises   ConfigError where the text gives fewer merges than tokenizer.vocab_size asks for
    """
    control = [BEGIN_OF_TEXT, END_OF_TEXT] if config.bos else [END_OF_TEXT]
    if config.vocab_size < 256 + len(control):
        raise ConfigError(
            f"tokenizer.vocab_size = {config.vocab_size} is less than the 256 bytes and "
            f"{len(control)} control tokens that every byte-level vocabulary has."
        )
    pre_tokenizer = sequence(*map(split, _PATTERNS), byte_level(use_regex=False))
    backend = _learner(pre_tokenizer)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(control),
        min_frequency=config.min_frequency,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    learned = json.loads(backend.to_str())["model"]
    tokens = [*sorted(learned["vocab"], key=learned["vocab"].__getitem__), *control]
    if len(tokens) < config.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size = {config.vocab_size}, but this text gives only {len(tokens)} "
            f"tokens that occur at least tokenizer.min_frequency = {config.min_frequency} times. "
            f"Set tokenizer.vocab_size to {len(tokens)} or less, or give more text."
        )
    return compose(
        "bpe",
        byte_level_bpe(tokens, learned["merges"]),
        {"bos": control[0], "eos": END_OF_TEXT},
        pre_tokenizer=pre_tokenizer,
        decoder=byte_level(use_regex=False),
        pre_tokenizer_name=LLAMA_CPP_PRE,
    )


def _learner(pre_tokenizer: dict) -> Backend:
    backend = Backend(models.BPE())
    empty = json.loads(backend.to_str())
    empty["pre_tokenizer"] = pre_tokenizer
    return Backend.from_str(json.dumps(empty))
