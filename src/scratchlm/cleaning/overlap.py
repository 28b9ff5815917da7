"""Texts of evaluation sets inside documents: what a model must not have read before its exam.

As GPT-3 did it (arXiv:2005.14165, appendix C): without punctuation and capitals, a run of 13 words
that a document shares with an evaluation text is an overlap. Each Han or kana character counts as
a word here, and in texts that are mostly such characters a run has 20 of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import numpy as np

from scratchlm.cleaning.minhash import SPACE, folding

WORDS = (8, 13)  # a run has as many words as a short text of the set (5th percentile), within these
CHARACTERS = (12, 20)  # the same for Chinese and Japanese: ours, no paper
COMMON = 10  # documents: a run that is in more of them is no sign of an evaluation set

_SHORT = 5  # percentile of the lengths of a set
_PIECE = (
    1 << 17
)  # characters at a time, up to twice this without a border: their arrays stay in the cache
_BORDER = re.compile(r"[\s\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff]")  # words end here for certain
_BASE = 0x9E3779B97F4A7C15  # odd, 2**64 / golden ratio
_CJK = ((0x3040, 0x3100), (0x3400, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000))  # from, below
_SIEVE_BITS = (16, 26)  # of the table that rejects: 64 KB to 64 MB


@dataclass(frozen=True, slots=True)
class Match:
    """A part of a document that an evaluation set has, too.

    benchmark    its name
    start, end   text[start:end], as long as runs overlap or touch
    text         these characters as the document has them
    """

    benchmark: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Units:
    """The words of a text: hashes (n,) uint64, and each one's characters [starts, ends)."""

    hashes: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    is_cjk: np.ndarray


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """The runs of several evaluation sets; made by `collect`.

    runs         {(name, words in a run): (n,) uint64}, ascending
    n_texts      of each set
    n_too_short  of them, texts that are shorter than a run and so cannot be found
    sieves       {words in a run: (2**bits,) bool}, True at the first bits of any set's hash
    """

    runs: dict[tuple[str, int], np.ndarray]
    n_texts: dict[str, int]
    n_too_short: dict[str, int]
    sieves: dict[int, np.ndarray]

    @classmethod
    def collect(cls, sets: Mapping[str, Iterable[str]]) -> "Benchmarks":
        """Take in evaluation sets by name: what stands in the exam, question and answer alike."""
        runs: dict[tuple[str, int], np.ndarray] = {}
        n_texts, n_too_short = {}, {}
        for name, texts in sets.items():
            units = [_units(text) for text in texts]
            n_texts[name], n_too_short[name] = len(units), 0
            cjk = [u for u in units if 2 * u.is_cjk.sum() > len(u.hashes)]
            words = [u for u in units if 2 * u.is_cjk.sum() <= len(u.hashes)]
            for some, (least, most) in ((words, WORDS), (cjk, CHARACTERS)):
                if not some:
                    continue
                lengths = [len(u.hashes) for u in some]
                n = int(np.clip(np.percentile(lengths, _SHORT, method="lower"), least, most))
                n_too_short[name] += sum(length < n for length in lengths)
                found = np.unique(np.concatenate([_run_hashes(u.hashes, n) for u in some]))
                runs[name, n] = np.union1d(runs.get((name, n), found[:0]), found)
        return cls(runs, n_texts, n_too_short, _sieves(runs))

    def find(self, text: str) -> list[Match]:
        """Where a document has what an evaluation set has, by name and then by place."""
        units = _units(text)
        spans: dict[str, list[tuple[int, int]]] = {}
        for n, hashes, places in self._sieved(units):
            for (name, length), known in self.runs.items():
                if length == n:
                    hit = places[_is_in(hashes, known)]
                    spans.setdefault(name, []).extend((int(at), int(at) + n) for at in hit)
        return [
            Match(name, start, end, text[start:end])
            for name in sorted(spans)
            for start, end in _characters(units, spans[name])
        ]

    def runs_in(self, text: str) -> np.ndarray:
        """Which runs of any set a document has: hashes, ascending, each once. For `Frequencies`."""
        found = [np.zeros(0, np.uint64)]
        for n, hashes, _ in self._sieved(_units(text)):
            known = [runs for (_, length), runs in self.runs.items() if length == n]
            found += [hashes[_is_in(hashes, runs)] for runs in known]
        return np.unique(np.concatenate(found))

    def without(self, common: np.ndarray) -> "Benchmarks":
        """The same sets less some runs, (n,) uint64: those that are in very many documents."""
        runs = {key: np.setdiff1d(known, common) for key, known in self.runs.items()}
        return replace(self, runs=runs, sieves=_sieves(runs))

    def _sieved(self, units: _Units) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """For each length of runs: the few hashes that may be known, and their first word."""
        for n, sieve in self.sieves.items():
            hashes = _run_hashes(units.hashes, n)
            places = np.flatnonzero(sieve[_first_bits(hashes, len(sieve))])
            if len(places):
                yield n, hashes[places], places


class Frequencies:
    """In how many documents each run of the evaluation sets occurs.

    Documents may be counted shard by shard: `counts` of the parts are added up.
    """

    def __init__(self, benchmarks: Benchmarks) -> None:
        everything = [np.zeros(0, np.uint64), *benchmarks.runs.values()]
        self.runs = np.unique(np.concatenate(everything))
        self.counts = np.zeros(len(self.runs), np.int64)
        self._benchmarks = benchmarks

    def add(self, text: str) -> None:
        """Count one document, given whole."""
        self.counts[np.searchsorted(self.runs, self._benchmarks.runs_in(text))] += 1

    def common(self, limit: int = COMMON) -> np.ndarray:
        """The runs that more than `limit` documents have, (n,) uint64; for Benchmarks.without."""
        return self.runs[self.counts > limit]


def _units(text: str) -> _Units:
    """Cut a text into words: between white space, and before and after each Han or kana."""
    parts, at = [], 0
    while at < len(text):
        border = _BORDER.search(text, at + _PIECE, at + 2 * _PIECE)
        end = border.start() if border else at + 2 * _PIECE
        parts.append(_units_of_piece(text[at:end], at))
        at = end
    parts = parts or [_units_of_piece("", 0)]
    return _Units(*map(np.concatenate, zip(*parts)))


def _units_of_piece(text: str, offset: int) -> tuple[np.ndarray, ...]:
    """The arrays of _Units for a text of up to 2 * _PIECE characters that stands at `offset`.

    A word's hash is a polynomial modulo 2**64, got from running sums of letter * base**place:
    the difference between its ends, divided by base**place of its first letter.
    """
    data = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    codes = folding().take(data)
    places = np.flatnonzero(codes)  # without punctuation: "don't" is "dont"
    codes = codes[places]
    cjk, inside = _cjk_table()[codes], codes != SPACE
    begins, finishes = inside.copy(), inside.copy()
    border = ~inside | cjk
    begins[1:] &= border[:-1] | cjk[1:]
    finishes[:-1] &= border[1:] | cjk[:-1]
    starts, last = np.flatnonzero(begins), np.flatnonzero(finishes)
    powers, inverse = _powers()
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes * powers[: len(codes)], out=sums[1:])
    hashes = _scramble((sums[last + 1] - sums[starts]) * inverse[starts])
    return hashes, places[starts] + offset, places[last] + 1 + offset, cjk[starts]


@lru_cache(maxsize=1)
def _powers() -> tuple[np.ndarray, np.ndarray]:
    """base**i and base**-i modulo 2**64, (2 * _PIECE,) each."""
    bases = (_BASE, pow(_BASE, -1, 1 << 64))
    first, second = (np.cumprod(np.full(2 * _PIECE, base, np.uint64)) for base in bases)
    return first, second


@lru_cache(maxsize=1)
def _cjk_table() -> np.ndarray:
    """Whether each code point is a word of its own, (0x110000,) bool."""
    table = np.zeros(0x110000, bool)
    for first, end in _CJK:
        table[first:end] = True
    return table


def _run_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """Hash every n neighbours: (m,) to (m - n + 1,) uint64, or none.

    A polynomial modulo 2**64: runs of 1, 2, 4 ... words are joined as n's binary digits say.
    """
    if len(words) < n:
        return np.zeros(0, np.uint64)
    runs, length = np.zeros(len(words) + 1, np.uint64), 0
    blocks, size = words, 1
    while length < n:
        power = np.uint64(pow(_BASE, size, 1 << 64))
        if n & size:
            runs = runs[: len(runs) - size] * power + blocks[length:]
            length += size
        if length < n:
            blocks = blocks[:-size] * power + blocks[size:]
            size *= 2
    return _scramble(runs)


def _scramble(x: np.ndarray) -> np.ndarray:
    """Mix uint64 in place: the finaliser of splitmix64 (prng.di.unimi.it)."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def _sieves(runs: dict[tuple[str, int], np.ndarray]) -> dict[int, np.ndarray]:
    """For each length of runs a table in which at most one place of 16 says "perhaps"."""
    sieves = {}
    for n, keys in groupby(sorted(runs, key=lambda key: key[1]), key=lambda key: key[1]):
        known = np.concatenate([runs[key] for key in keys])
        bits = int(np.clip((16 * len(known)).bit_length(), *_SIEVE_BITS))
        sieves[n] = np.zeros(1 << bits, bool)
        sieves[n][_first_bits(known, 1 << bits)] = True
    return sieves


def _first_bits(hashes: np.ndarray, size: int) -> np.ndarray:
    return (hashes >> np.uint64(65 - size.bit_length())).astype(np.intp)


def _is_in(hashes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which hashes are in the ascending array `known`."""
    if not len(known):
        return np.zeros(len(hashes), bool)
    return known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes


def _characters(units: _Units, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join runs of words that overlap or touch, and say which characters they are."""
    spans.sort()
    joined: list[list[int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    for start, end in joined:
        yield int(units.starts[start]), int(units.ends[end - 1])
