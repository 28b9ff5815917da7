"""A text split once, and what the rules of quality count in it."""

import re
import string
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHINESE_WORD = re.compile(f"[{_HAN}]|[^\\W{_HAN}]+")
_EDGES = string.punctuation + "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00ab\u00bb"


class Parts:
    """A text split once, and what the rules count in it, each counted when first asked for.

    lang    "zh" counts characters, and runs of other letters or digits, as words; every other
            language what stands between white space
    lines   without white space around them, those that are empty left out
    """

    def __init__(self, text: str, lang: str) -> None:
        self.text, self.lower = text, text.lower()
        self.is_chinese = lang == "zh"
        self.lines = [line for raw in text.split("\n") if (line := raw.strip())]

    @cached_property
    def words(self) -> list[str]:
        """Without punctuation around them; what is nothing but punctuation is left out."""
        if self.is_chinese:
            return _CHINESE_WORD.findall(self.text)
        return [word for raw in self.text.split() if (word := raw.strip(_EDGES))]

    @cached_property
    def word_chars(self) -> NDArray[np.int64]:
        """The length of each word, in characters."""
        return np.fromiter(map(len, self.words), np.int64, len(self.words))

    @cached_property
    def n_chars(self) -> int:
        """Characters of all words together."""
        return int(self.word_chars.sum())

    @cached_property
    def codes(self) -> NDArray[np.uint64]:
        """A number for each word, the same for the same word."""
        numbers = {word: i for i, word in enumerate(dict.fromkeys(self.words), 1)}
        return np.fromiter(map(numbers.__getitem__, self.words), np.uint64, len(self.words))

    def grams(self, n: int) -> NDArray[np.uint64]:
        """A number for each run of `n` words; one pair of different runs in 2 ** 64 shares it."""
        end = max(0, len(self.codes) - n + 1)
        grams = self.codes[:end]
        for shift in range(1, n):  # wraps around; the factor is 2 ** 64 over the golden ratio
            grams = grams * np.uint64(0x9E3779B97F4A7C15) + self.codes[shift : end + shift]
        return grams
