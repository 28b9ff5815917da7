"""Vocabularies of characters and of words: counted, not learned."""

from collections import Counter
from collections.abc import Callable, Iterable

from scratchlm.base.errors import DataError
from scratchlm.base.log import warn
from scratchlm.tokenizer.compose import compose, compose_characters, sequence, split, word_level
from scratchlm.tokenizer.config import (
    BEGIN_OF_TEXT,
    END_OF_TEXT,
    PAD,
    REGEX_UNKNOWN,
    UNKNOWN,
    TokenizerConfig,
)
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.words import SEGMENTERS

_MAX_WORDS = 2_000_000  # different words counted at a time: about 300 MB


def train_char(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Every character of the text is an id, ordered by code point, as in nanoGPT."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    bos, eos = _optional_control(config)
    control = [name for name in (bos, eos) if name]
    return compose_characters([*sorted(characters), *control], {"bos": bos, "eos": eos})


def train_regex(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Every word of the text is an id, sorted, then the two control tokens of the book.

    raises   DataError where the text has more than 2,000,000 different words
    """
    words: set[str] = set()
    for text in texts:
        words.update(SEGMENTERS["regex"].split(text))
        if len(words) > _MAX_WORDS:
            raise DataError(
                f"the text has more than {_MAX_WORDS} different words, and a tokenizer of kind "
                "regex would take every one. Use tokenizer.kind = bpe, or less text."
            )
    bos = BEGIN_OF_TEXT if config.bos else None
    control = [END_OF_TEXT, REGEX_UNKNOWN, *([bos] if bos else [])]
    return compose(
        "regex",
        word_level([*sorted(words - set(control)), *control], REGEX_UNKNOWN),
        {"bos": bos, "eos": END_OF_TEXT, "unk": REGEX_UNKNOWN},
        pre_tokenizer=_BOOK_RULE,
    )


# the book's pattern; Python's \s has four separators that Oniguruma's has not
_BOOK_RULE = sequence(
    split(r"[\s\x1c-\x1f]+", "Removed"), split(r"""[,.:;?_!"()']|--""", "Isolated")
)


def train_words(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """The most frequent words, after <pad> and <unk>: at most tokenizer.vocab_size ids."""
    segmenter = SEGMENTERS[config.kind]
    bos, eos = _optional_control(config)
    control = [name for name in (PAD, UNKNOWN, bos, eos) if name]
    counts = _count_words(texts, segmenter.split)
    frequent = sorted(
        (-n, word)
        for word, n in counts.items()
        if n >= config.min_frequency and word not in control
    )
    words = [word for _, word in frequent[: max(0, config.vocab_size - len(control))]]
    return compose(
        config.kind,
        word_level([*control, *words], UNKNOWN),
        {"bos": bos, "eos": eos, "pad": PAD, "unk": UNKNOWN},
        pre_tokenizer={"type": "WhitespaceSplit"},
        facts={"note": _note(config.kind)} if segmenter.external else None,
    )


def _count_words(
    texts: Iterable[str], cut: Callable[[str], Iterable[str]], max_words: int = _MAX_WORDS
) -> Counter[str]:
    """How often each word occurs; beyond `max_words` different ones the rarest are forgotten."""
    counts: Counter[str] = Counter()
    floor = 1
    for text in texts:
        counts.update(cut(text))
        if len(counts) > max_words:
            warn(
                f"The text has more than {max_words} different words: those seen at most "
                f"{floor} times so far are counted anew, to bound the memory."
            )
            counts = Counter({word: n for word, n in counts.items() if n > floor})
            floor += 1
    return counts


def _optional_control(config: TokenizerConfig) -> tuple[str | None, str | None]:
    return BEGIN_OF_TEXT if config.bos else None, END_OF_TEXT if config.eos else None


def _note(segmenter: str) -> str:
    return (
        f"scratchlm cuts text into words by {segmenter} before this vocabulary is used; the file "
        "itself only cuts at white space, so other tools must be given text with a space between "
        "the words."
    )
