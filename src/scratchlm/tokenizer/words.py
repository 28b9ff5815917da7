"""Tokenizers whose tokens are characters or words: how each cuts a text and joins it again."""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from scratchlm.base.errors import MissingExtraError

# Build a Large Language Model (From Scratch), Raschka 2024, chapter 2, SimpleTokenizerV2
_BOOK_PATTERN = re.compile(r'([,.:;?_!"()\']|--|\s)')


@dataclass(frozen=True)
class Segmenter:
    """One way to cut text into pieces, and what stands between two pieces when it is decoded."""

    split: Callable[[str], Iterable[str]]
    gap: Callable[[str, str], str]  # (left piece, right piece) -> " " or ""
    external: bool = False  # cut by a library: tokenizer.json can only hold a whitespace rule


def _split_like_the_book(text: str) -> list[str]:
    return [piece for part in _BOOK_PATTERN.split(text) if (piece := part.strip())]


def _gap_like_the_book(_left: str, right: str) -> str:
    return "" if right[0] in ",.?!\"()'" else " "


def _split_by_spacy(text: str) -> list[str]:
    return [token.text for token in _spacy_tokenizer()(text) if not token.is_space]


@functools.cache
def _spacy_tokenizer() -> Any:
    try:
        import spacy
    except ModuleNotFoundError:
        raise MissingExtraError("spacy", "spacy", "A tokenizer of spaCy's words") from None
    return spacy.blank("en").tokenizer


def _split_by_rjieba(text: str) -> list[str]:
    try:
        import rjieba
    except ModuleNotFoundError:
        raise MissingExtraError("rjieba", "zh", "A tokenizer of Chinese words") from None
    return [piece for piece in rjieba.cut(text) if not piece.isspace()]


def _gap_like_chinese(left: str, right: str) -> str:
    """A space only between two words in Latin letters or digits."""
    between_words = left[-1].isascii() and right[0].isascii()
    return " " if between_words and left[-1].isalnum() and right[0].isalnum() else ""


def _no_gap(_left: str, _right: str) -> str:
    return ""


def _space(_left: str, _right: str) -> str:
    return " "


SEGMENTERS = {
    "char": Segmenter(iter, _no_gap),
    "regex": Segmenter(_split_like_the_book, _gap_like_the_book),
    "whitespace": Segmenter(str.split, _space),
    "spacy": Segmenter(_split_by_spacy, _space, external=True),
    "rjieba": Segmenter(_split_by_rjieba, _gap_like_chinese, external=True),
}
