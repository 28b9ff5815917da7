"""From a stream of texts to a tokenizer."""

from collections.abc import Callable, Iterable, Iterator

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.bpe import train_bpe
from scratchlm.tokenizer.compose import compose, split, word_level
from scratchlm.tokenizer.config import BEGIN_OF_TEXT, END_OF_TEXT, UNKNOWN, TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer

Progress = Callable[[int], None]


def train_tokenizer(
    texts: Iterable[str], config: TokenizerConfig, progress: Progress | None = None
) -> Tokenizer:
    """Learn a tokenizer from a stream of documents, read once and never held as a whole.

    progress   called with the bytes of text read so far
    """
    if config.kind == "gpt2":
        return gpt2_tokenizer()
    texts = _counted(texts, progress)
    if config.kind == "char":
        return _train_char(texts, config)
    return train_bpe(texts, config)


def _counted(texts: Iterable[str], progress: Progress | None) -> Iterator[str]:
    n_bytes = 0
    for text in texts:
        yield text
        n_bytes += len(text.encode())
        if progress:
            progress(n_bytes)
    if not n_bytes:
        raise DataError("there is no text to train a tokenizer on: every document is empty.")


def _train_char(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Every character is an id, ordered by code point, as nanoGPT's shakespeare_char has it."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    control = [BEGIN_OF_TEXT] * config.bos + [END_OF_TEXT] * config.eos
    return compose(
        "char",
        word_level([*sorted(characters), *control], UNKNOWN),
        {"bos": BEGIN_OF_TEXT if config.bos else None, "eos": END_OF_TEXT if config.eos else None},
        pre_tokenizer=split(r"[\s\S]"),
        decoder={"type": "Fuse"},
    )
