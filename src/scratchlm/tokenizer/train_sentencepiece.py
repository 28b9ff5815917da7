"""SentencePiece vocabularies, learned by its own library with the settings of llama2.c."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import sentencepiece

from scratchlm.base.errors import ConfigError
from scratchlm.base.log import say
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.sentencepiece import from_model
from scratchlm.tokenizer.sentencepiece_file import round_scores
from scratchlm.tokenizer.tokenizer import Tokenizer

_N_CONTROL = 3  # <unk>, <s>, </s>
_N_BYTES = 256
_MIN_PIECES = 4  # so that at least one character gets an id, see _rare_characters
_RESERVED = "\u2585"  # the library skips every line that holds it


def train_sentencepiece(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """Learn a SentencePiece vocabulary: <unk>, <s>, </s>, the bytes, then the pieces.

    Spaces are kept as they are (remove_extra_whitespaces off, as in Llama's own), so that text
    survives encoding and decoding.

    raises   ConfigError where tokenizer.vocab_size is too large or too small for the text
    """
    n_fixed = _N_CONTROL + _N_BYTES * config.byte_fallback
    if config.vocab_size < n_fixed + _MIN_PIECES:
        raise ConfigError(
            f"tokenizer.vocab_size = {config.vocab_size} leaves no room beside the {n_fixed} ids "
            f"of control tokens and bytes. Set it to at least {n_fixed + _MIN_PIECES}."
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts, config),
            model_writer=model,
            model_type=config.kind.removeprefix("sentencepiece-"),
            vocab_size=config.vocab_size,
            byte_fallback=config.byte_fallback,
            character_coverage=1.0,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1_000_000,  # bytes; longer lines would be skipped
            # unigram's first candidates; 1,000,000 took 1.3 to 2.5 times as long, for no gain
            seed_sentencepiece_size=10 * config.vocab_size,
            num_threads=4,  # fixed: sums over threads, and with them the scores, depend on it
            minloglevel=2,
        )
    except RuntimeError as bad:
        raise _explained(str(bad), config) from None
    content = model.getvalue()
    if config.kind == "sentencepiece-unigram":
        content = round_scores(content)
    return from_model(content, "the new SentencePiece model")


def _lines(texts: Sequence[str], config: TokenizerConfig) -> Iterator[str]:
    """The lines to learn from, cut also where a character is too rare to get an id."""
    rare = _rare_characters(texts, config) if config.byte_fallback else []
    cuts = str.maketrans(dict.fromkeys([*rare, _RESERVED], "\n"))
    for text in texts:
        yield from filter(None, text.translate(cuts).split("\n"))


def _rare_characters(texts: Sequence[str], config: TokenizerConfig) -> list[str]:
    """The characters that are left to the bytes.

    Those that make up 99.5 % of the text get an id, but at least a quarter and at most three
    quarters of the ids go to single characters. Measured with 4,096 ids: on 10 MB of modern
    Chinese 2.9 bytes per token (2.2 with all 3,521 characters), on classical 2.8 (2.7).
    """
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    frequent = [char for char, _ in counts.most_common()]
    budget = config.vocab_size - _N_CONTROL - _N_BYTES
    n_kept, left = 0, sum(counts.values()) * 0.995
    while n_kept < len(frequent) and left > 0:
        left -= counts[frequent[n_kept]]
        n_kept += 1
    n_kept = max(budget // 4, min(n_kept, budget * 3 // 4))
    rare = frequent[n_kept:]
    if rare:
        share = sum(counts[char] for char in rare) / sum(counts.values())
        say(
            f"{len(rare)} rare characters ({share:.2%} of the text) get no id of their own; they "
            "are written as bytes, so that the vocabulary has room for longer pieces."
        )
    return rare


def _explained(message: str, config: TokenizerConfig) -> ConfigError:
    """What the library's message means for the settings."""
    asked = f"tokenizer.vocab_size = {config.vocab_size}"
    if high := re.search(r"too high .*<= (\d+)", message):
        return ConfigError(
            f"{asked}, but this text gives at most {high[1]} pieces. "
            f"Set tokenizer.vocab_size to at most {high[1]}, or give more text."
        )
    if low := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return ConfigError(
            f"{asked} is less than the {low[1]} ids that the single characters of this text and "
            f"the control tokens take. Set tokenizer.vocab_size to more than {low[1]}."
        )
    return ConfigError(f"SentencePiece refused {asked} on this text: {message}.")
