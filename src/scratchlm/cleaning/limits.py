"""The thresholds of the rules of quality; the recipes in `recipes/` set them for each language.

    Gopher    arXiv:2112.11446, appendix A.1, "quality filtering" and "repetition removal"
    C4        arXiv:1910.10683, section 2.2
    FineWeb   arXiv:2406.17557, the heuristic filters that it adds to those two

Defaults are the papers' values, for English.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from scratchlm.base.errors import ConfigError

PAPERS = {"Gopher": "arXiv:2112.11446", "C4": "arXiv:1910.10683", "FineWeb": "arXiv:2406.17557"}


def _check(limits: Any) -> None:
    """Refuse thresholds that no text is above or below: raises ConfigError naming one."""
    values = {one.name: getattr(limits, one.name) for one in fields(limits)}
    for name, value in values.items():
        if any(not number >= 0 for number in _numbers(value)):  # NaN is not
            raise ConfigError(f"{name} = {value} must be 0 or more.")
        most = values.get(name.replace("min_", "max_", 1), value)
        if name.startswith("min_") and value > most:
            raise ConfigError(
                f"{name} = {value} is above {name.replace('min_', 'max_', 1)} = {most}: every text "
                "would go."
            )


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float):
        yield value


@dataclass(frozen=True, slots=True)
class GopherQuality:
    """Gopher's rules for one text; a text on a threshold passes."""

    min_words: int = 50
    max_words: int = 100_000
    min_mean_chars: float = 3  # of a word; Chinese: of what stands between punctuation
    max_mean_chars: float = 10
    max_symbols: float = 0.1  # hash signs, and ellipses, for each word
    max_bullets: float = 0.9  # of the lines begin with one
    max_ellipses: float = 0.3  # of the lines end with one
    min_letters: float = 0.8  # of the words hold a letter
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    min_stop_words: int = 2  # different ones
    min_stop_share: float = 0.0  # of the words; not Gopher's: see CHINESE

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class GopherRepetition:
    """Gopher's table A1: the shares above which a text repeats itself too much."""

    max_lines: float = 0.3
    max_paragraphs: float = 0.3
    max_line_chars: float = 0.2
    max_paragraph_chars: float = 0.2
    top_grams: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    # 0.15 for 5, 0.14 for 6 ... 0.1 for 10
    repeated_grams: tuple[tuple[int, float], ...] = tuple((n, (20 - n) / 100) for n in range(5, 11))

    def __post_init__(self) -> None:
        _check(self)
        for n, _ in (*self.top_grams, *self.repeated_grams):
            if n < 1:
                raise ConfigError(f"a gram of {n} words is none: write [words, share].")


@dataclass(frozen=True, slots=True)
class C4:
    """C4's rules: lines to leave out, and pages to drop. Its list of bad words is not here."""

    line_ends: tuple[str, ...] = (".", "!", "?", '"', "\u201d")  # (): lines may end in anything
    min_line_words: int = 5  # Chinese: characters, punctuation included
    barred_lines: tuple[str, ...] = (  # in lower case; the policies are from C4's code
        "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies",
        "use of cookies", "use cookies",
    )  # fmt: skip
    barred_pages: tuple[str, ...] = ("lorem ipsum", "{")
    min_sentences: int = 3

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class FineWeb:
    """FineWeb's rules about lines; a text on a threshold is dropped, as in the paper."""

    min_ends: float = 0.12  # of the lines end with punctuation
    max_repeated: float = 0.1  # of the characters stand in lines that stood before
    max_short: float = 0.67  # of the lines are short
    short_chars: int = 30  # a shorter line is short

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class Limits:
    """The rules for one language; a group that a recipe does not name is left out."""

    no_text_chars: int = 0  # up to this length a text may be a captcha, cookie notice or error page
    quality: GopherQuality | None = None
    repetition: GopherRepetition | None = None
    fineweb: FineWeb | None = None
    c4: C4 | None = None

    def __post_init__(self) -> None:
        if self.no_text_chars < 0:
            raise ConfigError(f"no_text_chars = {self.no_text_chars} must be 0 or more.")
