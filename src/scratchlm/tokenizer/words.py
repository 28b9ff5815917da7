"""Tokenizers whose tokens are characters or words: how each cuts a text and joins it again."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from scratchlm.base.errors import MissingExtraError

# Build a Large Language Model (From Scratch), Raschka 2024, chapter 2, SimpleTokenizerV2
_BOOK_PATTERN = re.compile(r'([,.:;?_!"()\']|--|\s)')


Split = Callable[[str], Iterable[str]]


@dataclass(frozen=True)
class Segmenter:
    """One way to cut text into pieces, and what stands between two pieces when it is decoded."""

    split: Split
    gap: Callable[[str, str], str]  # (left piece, right piece) -> " " or ""
    external: bool = False  # cut by a library: tokenizer.json can only hold a whitespace rule
    lasting: Callable[[], AbstractContextManager[Split]] | None = None  # for more than memory holds

    def session(self) -> AbstractContextManager[Split]:
        """`split` for texts without end: the memory that it takes does not grow with them."""
        return self.lasting() if self.lasting else nullcontext(self.split)


def _split_like_the_book(text: str) -> list[str]:
    return [piece for part in _BOOK_PATTERN.split(text) if (piece := part.strip())]


def _gap_like_the_book(_left: str, right: str) -> str:
    return "" if right[0] in ",.?!\"()'" else " "


# Without white space for so many characters, a text is cut there: the time of spaCy grows with
# their cube (20,000 apostrophes in a row: 100 s, measured)
_STRETCH = re.compile(r"\S{250}(?=\S)")
_KEPT = 2_000_000  # characters whose words spaCy keeps, which makes it 2.4 times as fast (measured)
_FORGOTTEN = 1_000_000  # characters whose words are forgotten together


def _split_by_spacy(text: str) -> list[str]:
    document = _spacy().language.tokenizer(_STRETCH.sub(r"\g<0> ", text))
    return [token.text for token in document if not token.is_space]


@contextmanager
def _spacy_session() -> Iterator[Split]:
    """spaCy keeps every word that it has met, 170 bytes each: the first ones are enough."""
    spacy, n_chars = _spacy(), 0
    with ExitStack() as zone:

        def split(text: str) -> list[str]:
            nonlocal n_chars
            if spacy.n_kept < _KEPT:
                spacy.n_kept += len(text)
            elif not n_chars or n_chars >= _FORGOTTEN:
                zone.close()
                zone.enter_context(spacy.language.memory_zone())
                n_chars = len(text)
            else:
                n_chars += len(text)
            return _split_by_spacy(text)

        yield split


@dataclass
class _Spacy:
    """spaCy's English, and how many characters it was given whose words it keeps."""

    language: Any
    n_kept: int = 0


@functools.cache
def _spacy() -> _Spacy:
    try:
        import spacy
    except ModuleNotFoundError:
        raise MissingExtraError("spacy", "spacy", "A tokenizer of spaCy's words") from None
    return _Spacy(spacy.blank("en"))


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
    "spacy": Segmenter(_split_by_spacy, _space, external=True, lasting=_spacy_session),
    "rjieba": Segmenter(_split_by_rjieba, _gap_like_chinese, external=True),
}
