"""The small charts of the report's page: places and sizes, which report.html draws."""

from collections.abc import Sequence
from dataclasses import dataclass

from scratchlm.report.words import Words

_WIDTH, _HEIGHT = 320.0, 96.0  # of the field of a histogram; its scale stands below
_MOST_TICKS = 5
_LEAST_BARS = 6  # fewer would be broad blocks


@dataclass(frozen=True)
class Bar:
    """A bar from the base line up; `title` is what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Mark:
    """A number at a place of the scale; `anchor` is SVG's word for which end of it stands there."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Histogram:
    """Documents of one language by length.

    peak   stands over the highest bar
    half   half of the documents have fewer characters, about
    """

    code: str
    n: int
    bars: tuple[Bar, ...]
    scale: tuple[Mark, ...]
    peak: Mark
    half: int
    width: float = _WIDTH
    height: float = _HEIGHT


def draw_histogram(code: str, counts: Sequence[int], words: Words) -> Histogram:
    """The lengths of one language, from its shortest documents to its longest.

    counts   of documents with 2**i to 2**(i+1) - 1 characters, i from 0; not all are 0
    """
    met = [i for i, n in enumerate(counts) if n]
    first, n_bars = met[0], max(met[-1] + 1 - met[0], _LEAST_BARS)
    shown = [*counts, *[0] * n_bars][first : first + n_bars]
    step, most = _WIDTH / n_bars, max(shown)
    bars = []
    for i, n in enumerate(shown):
        low, high = chars_of(first + i)
        title = words("bar_of_lengths", low=low, high=high, n=words.documents(n))
        height = max(_HEIGHT * n / most, 1.0 if n else 0.0)
        bars.append(Bar(i * step + 1, _HEIGHT - height, step - 2, height, title))
    every = -(-n_bars // (_MOST_TICKS - 1))
    return Histogram(
        code,
        sum(counts),
        tuple(bars),
        tuple(_mark(i * step, f"{1 << (first + i):,}") for i in range(0, n_bars + 1, every)),
        _mark((shown.index(most) + 0.5) * step, words.number(most)),
        median(counts),
    )


def chars_of(i: int) -> tuple[str, str]:
    """The least and the most characters of a bar, written out."""
    return f"{1 << i:,}", f"{(2 << i) - 1:,}"


def median(counts: Sequence[int]) -> int:
    """About how many characters half of the documents stay below, to two digits.

    Within a bar lengths are taken to be spread evenly over the powers of two.
    """
    half, below = sum(counts) / 2, 0
    for i, n in enumerate(counts):
        if n and below + n >= half:
            chars = 2 ** (i + (half - below) / n)
            return int(round(chars, min(0, 2 - len(str(int(chars))))))
        below += n
    return 0


def _mark(x: float, text: str) -> Mark:
    """At the edges of the field a number stands inside of it."""
    room = 4.0 * len(text)
    anchor = "start" if x < room else "end" if x > _WIDTH - room else "middle"
    return Mark(x, text, anchor)
