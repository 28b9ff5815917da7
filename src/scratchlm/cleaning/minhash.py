"""How much two texts share, estimated from a few numbers of each: one-permutation MinHash.

A text is the set of its shingles: all runs of five characters, once upper and lower case, white
space and punctuation are folded away. Each shingle is hashed to 32 bits. The first bits choose one
of k bins, and of each bin the smallest hash is kept (Li, Owen and Zhang, arXiv:1208.1259): these k
numbers are the signature. Two texts have the same number in a bin as often as they share shingles.

The whole is a few passes of numpy over many texts at a time. Every number follows from the text
alone, on every machine and with every version of Python and numpy.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

SHINGLE = 5  # characters
N_BINS = 128  # of a signature, unless told
EMPTY = 0xFFFFFFFF  # in a bin that no shingle fell into
SPACE = 0x20

N_COARSE = 128  # values to find candidates with
N_FINE = 2048  # values to judge them with: standard error .009 at Jaccard .8
SKETCH = np.dtype(
    [
        ("exact", "<u8", 2),  # equal for equal texts only
        ("length", "<u8"),  # letters
        ("coarse", "<u4", N_COARSE),  # densified
        ("fine", "u1", N_FINE),  # the last byte of each smallest hash, but 1 for 0; 0: empty bin
    ]
)
_CHANCE = 258 / 65536  # of two other bytes to be equal: 1 is twice as frequent as the rest

_GROUP = 1 << 17  # characters of texts that are hashed together: their arrays stay in the cache
_TEXT = 512  # characters that a text counts for, beside its own: it has bins, too
_ROLL = 0x9E3779B1  # odd, 2**32 / golden ratio (Knuth, volume 3, 6.4)
# What may fold: the rest of Unicode is Han, Hangul, private or younger than version 3.2.
_FOLDING_RANGES = ((0, 0x3400), (0xA000, 0xAC00), (0xF900, 0x10000))


@dataclass(frozen=True, slots=True)
class Folded:
    """Several texts as they are compared, one behind the other.

    codes    (n,) uint32           letters, digits, marks and symbols: code points, lower case
    bounds   (n_texts + 1,) int64  text i is codes[bounds[i] : bounds[i + 1]]
    """

    codes: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.codes[self.bounds[i] : self.bounds[i + 1]]


@lru_cache(maxsize=1)
def folding() -> np.ndarray:
    """What each code point counts as in comparisons, (0x110000,) uint32.

    White space counts as SPACE, punctuation and control characters as 0, full-width and other
    variants as the plain character (NFKC), capitals as small letters.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    for first, end in _FOLDING_RANGES:
        table[first:end] = [_fold_one(chr(code)) for code in range(first, end)]
    table.setflags(write=False)
    return table


def _fold_one(char: str) -> int:
    old = unicodedata.ucd_3_2_0  # the one version that every Python has
    category = old.category(char)
    if char.isspace():
        return SPACE
    if category[0] in "PZ" or category in ("Cc", "Cf"):
        return 0
    plain = char if category == "Cn" else old.normalize("NFKC", char).lower()
    return ord(plain) if len(plain) == 1 else ord(char)


def grouped(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in groups that are worth one pass of numpy, in order; a long text comes alone."""
    group: list[str] = []
    n_chars = 0
    for text in texts:
        if group and n_chars + len(text) > _GROUP:
            yield group
            group, n_chars = [], 0
        group.append(text)
        n_chars += len(text) + _TEXT
    if group:
        yield group


def fold(texts: Sequence[str]) -> Folded:
    """Bring texts to the form in which they are compared: no spaces, no punctuation, no capitals.

    Without spaces a line that was wrapped elsewhere, or Chinese with and without spaces around
    Latin words, compares as equal.
    """
    if len(texts) == 1:
        text = texts[0]
        parts = [_fold_joined([text[at : at + _GROUP]]).codes for at in range(0, len(text), _GROUP)]
        codes = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
        return Folded(codes, np.array([0, len(codes)]))
    return _fold_joined(texts)


def _fold_joined(texts: Sequence[str]) -> Folded:
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = folding().take(np.frombuffer(data, "<u4"))
    kept = np.flatnonzero(codes > SPACE)
    ends = np.cumsum([0, *map(len, texts)])
    return Folded(codes.take(kept), np.searchsorted(kept, ends))


def shingle_hashes(codes: np.ndarray) -> np.ndarray:
    """Hash every five neighbours: (n,) uint32 code points to (n - 4,) uint32, n at least 5.

    A polynomial modulo 2**32 by doubling (2, 4, then 5 characters), then the finaliser of
    MurmurHash3 (github.com/aappleby/smhasher), so that similar shingles do not lie together.
    """
    roll = np.uint32(_ROLL)
    twos = codes[:-1] * roll
    twos += codes[1:]
    fours = twos[:-2] * np.uint32(_ROLL * _ROLL & 0xFFFFFFFF)
    fours += twos[2:]
    fives = fours[:-1]
    fives *= roll
    fives += codes[SHINGLE - 1 :]
    return _scramble(fives)


def _scramble(x: np.ndarray) -> np.ndarray:
    """Mix uint32 in place: fmix32 of MurmurHash3."""
    shifted = x >> np.uint32(16)
    x ^= shifted
    x *= np.uint32(0x85EBCA6B)
    np.right_shift(x, np.uint32(13), out=shifted)
    x ^= shifted
    x *= np.uint32(0xC2B2AE35)
    np.right_shift(x, np.uint32(16), out=shifted)
    x ^= shifted
    return x


def signatures(folded: Folded, k: int = N_BINS) -> np.ndarray:
    """The smallest hash in each of k bins, for each text: (n_texts, k) uint32.

    k        a power of two up to 65,536
    returns  EMPTY where no shingle fell into the bin: everywhere, for a text without letters

    A text of one to four letters has one shingle: itself.
    """
    if k < 1 or k & (k - 1) or k > 1 << 16:
        raise ValueError(f"k = {k} is not a power of two from 1 to 65536.")
    n = len(folded)
    smallest = np.full((n + 1) * k, EMPTY, np.uint32)  # the last row: shingles across two texts
    rows = _rows(folded, k)
    n_shingles = len(folded.codes) - SHINGLE + 1
    for first in range(0, n_shingles, _GROUP):
        end = min(first + _GROUP, n_shingles)
        hashes = shingle_hashes(folded.codes[first : end + SHINGLE - 1])
        _keep_smallest(smallest, rows[first:end], hashes, k)
    tiny, hashes = _tiny(folded)
    _keep_smallest(smallest, tiny * k, hashes, k)
    return smallest.reshape(n + 1, k)[:n]


def _keep_smallest(smallest: np.ndarray, rows: np.ndarray, hashes: np.ndarray, k: int) -> None:
    """Take hashes into the flat table `smallest`; `rows` says where each one's row begins."""
    slots = (hashes.astype(np.intp) << (k.bit_length() - 1)) >> 32
    np.minimum.at(smallest, rows + slots, hashes)


def _rows(folded: Folded, k: int) -> np.ndarray:
    """Where in the flat table the row of each shingle begins; past the last text for borders."""
    n = len(folded)
    if n == 1:
        return np.broadcast_to(np.intp(0), (len(folded.codes),))
    lengths = np.diff(folded.bounds)
    counts = np.empty((n, 2), np.intp)
    counts[:, 1] = np.minimum(lengths, SHINGLE - 1)
    counts[:, 0] = lengths - counts[:, 1]
    starts = np.full((n, 2), n * k, np.intp)
    starts[:, 0] = np.arange(n) * k
    return np.repeat(starts.ravel(), counts.ravel())


def _tiny(folded: Folded) -> tuple[np.ndarray, np.ndarray]:
    """The texts of one to four letters and the hash of each, as if filled up with zeros."""
    lengths = np.diff(folded.bounds)
    tiny = np.flatnonzero((lengths > 0) & (lengths < SHINGLE))
    padded = np.zeros((len(tiny), SHINGLE), np.uint32)
    for i in range(SHINGLE - 1):
        has = lengths[tiny] > i
        padded[has, i] = folded.codes[folded.bounds[tiny[has]] + i]
    if not len(tiny):
        return tiny, np.zeros(0, np.uint32)
    return tiny, shingle_hashes(padded.ravel())[::SHINGLE]


def signature(text: str, k: int = N_BINS) -> np.ndarray:
    """The signature of one text, (k,) uint32; see `signatures`."""
    return signatures(fold([text]), k)[0]


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Estimate shared / all shingles of two texts from their signatures, 0 to 1.

    Bins that are empty in both do not count, which makes the estimate unbiased; its standard
    error is at most sqrt(j * (1 - j) / k), less for short texts (arXiv:1208.1259, section 3).
    0 when one text has no letters at all.
    """
    filled = (a != EMPTY) | (b != EMPTY)
    same = (a == b) & filled
    return float(same.sum() / max(1, filled.sum()))


def exact_jaccard(text_a: str, text_b: str) -> float:
    """Shared / all shingles of two texts, counted; 0 when one has no letters at all."""
    a, b = _shingle_set(text_a), _shingle_set(text_b)
    return len(a & b) / max(1, len(a | b))


def _shingle_set(text: str) -> set[str]:
    letters = "".join(map(chr, fold([text]).codes))
    last = max(0, len(letters) - SHINGLE)
    return {letters[i : i + SHINGLE] for i in range(last + 1)} - {""}


def coarsen(signatures: np.ndarray, k: int) -> np.ndarray:
    """Fewer, fuller bins: (n, many) to (n, k) uint32, each the smallest of many / k neighbours.

    Only the bits behind those that chose the bin are compared and kept.
    """
    all_ones = np.uint32(EMPTY >> (signatures.shape[1].bit_length() - 1))
    smallest = signatures & all_ones
    while smallest.shape[1] > k:
        smallest = np.minimum(smallest[:, ::2], smallest[:, 1::2])
    smallest[smallest == all_ones] = EMPTY
    return smallest


def densify(signatures: np.ndarray) -> np.ndarray:
    """Fill each empty bin with the value of another, chosen by a hash: a new (n, k) uint32.

    Optimal densification (Shrivastava, ICML 2017, arXiv:1703.04664); a bin here never tries the
    same other bin twice. Rows that are wholly EMPTY stay so.
    """
    filled = signatures.copy()
    empty = signatures == EMPTY
    empty[empty.all(axis=1)] = False
    rows, bins = np.nonzero(empty)
    for donors in _donors(signatures.shape[1]):
        if not len(rows):
            break
        found = signatures[rows, donors[bins]]
        filled[rows, bins] = found
        left = found == EMPTY
        rows, bins = rows[left], bins[left]
    return filled


@lru_cache(maxsize=4)
def _donors(k: int) -> np.ndarray:
    """(k, k): in column i the order in which the empty bin i asks the others."""
    numbers = np.arange(k * k, dtype=np.uint32) * np.uint32(_ROLL) + np.uint32(1)
    order = np.argsort(_scramble(numbers).reshape(k, k), axis=1, kind="stable")
    return np.ascontiguousarray(order.T)


def sketch(texts: Sequence[str]) -> np.ndarray:
    """What is kept of each text to find its like among millions: (n_texts,) of SKETCH."""
    folded = fold(texts)
    smallest = signatures(folded, N_FINE)
    sketches = np.zeros(len(texts), SKETCH)
    sketches["length"] = np.diff(folded.bounds)
    sketches["coarse"] = densify(coarsen(smallest, N_COARSE))
    sketches["fine"] = np.maximum(smallest.astype(np.uint8), 1) * (smallest != EMPTY)
    sketches["exact"] = np.frombuffer(b"".join(_digests(folded, texts)), "<u8").reshape(-1, 2)
    return sketches


def _digests(folded: Folded, texts: Sequence[str]) -> Iterator[bytes]:
    """128 bits for each text: the same for the same letters or, without letters, the same text."""
    wide = int(folded.codes.max(initial=0)) >> 16
    data = folded.codes.astype("<u4" if wide else "<u2").tobytes()
    bounds = (folded.bounds * (4 if wide else 2)).tolist()
    for i, text in enumerate(texts):
        part = memoryview(data)[bounds[i] : bounds[i + 1]]
        if wide and not folded[i].max(initial=0) >> 16:  # as it is in other company
            part = memoryview(folded[i].astype("<u2").tobytes())
        if part:
            yield blake2b(part, digest_size=16, salt=b"letters").digest()
        else:
            yield blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Estimate Jaccard of each pair from fine values: (n, N_FINE) uint8 twice to (n,) float32.

    As `jaccard`, less the equal bytes that chance makes (b-bit minwise hashing,
    arXiv:0910.3349). A text without letters has 0 to every other.
    """
    both = ((a != 0) & (b != 0)).sum(axis=1)
    either = ((a | b) != 0).sum(axis=1)
    equal = (a == b).sum(axis=1) - (N_FINE - either)
    shared = (equal - both * _CHANCE) / (1 - _CHANCE)
    return np.clip(shared / np.maximum(either, 1), 0, 1).astype(np.float32)
