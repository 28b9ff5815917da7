"""Which texts are worth training on: rules of Gopher, C4 and FineWeb, for English and Chinese.

A rule looks at the Parts of a text, split off once, and returns None or the reason to drop it, a
fixed phrase for the report. Papers, by their names in the comments:

    Gopher    arXiv:2112.11446, appendix A.1, "quality filtering" and "repetition removal"
    C4        arXiv:1910.10683, section 2.2
    FineWeb   arXiv:2406.17557, the heuristic filters that it adds to those two

Chinese has no spaces: where the papers count words, a Chinese character counts as one, and so
does a run of other letters or digits.
"""

import re
import string
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHINESE_WORD = re.compile(f"[{_HAN}]|[^\\W{_HAN}]+")
_RUN = re.compile(r"\w+")
_EDGES = string.punctuation + "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00ab\u00bb"
_ELLIPSIS = re.compile(r"\.{3,}|\u2026+")
_SENTENCE = re.compile("[.!?][\"')\\]\u2019\u201d]{0,2}(?=\\s|$)")
_CHINESE_SENTENCE = re.compile(r"[。！？!?…]+|\.(?=\s|$)")
_ENDS = (".", "!", "?", '"', "'", "\u2019", "\u201d", "。", "！", "？", "…", "」", "』")
_BULLETS = ("- ", "* ", "\u2013 ", *"\u2022\u2023·●○■□◆◇▪►★※")
_EMPTY_LINES = re.compile("\n{3,}")
# What a server shows in the place of a text; our own list, in lower case.
_NO_TEXT = {
    "no text: a test for robots": (
        "are you a robot|you are not a robot|you're not a robot|verify you are human|verify that "
        "you are human|complete the captcha|complete the security check|checking your browser|"
        "unusual traffic from your|with an automated crawler|"
        "请完成验证|请完成安全验证|人机验证|滑块完成|请输入验证码|访问过于频繁|訪問過於頻繁"
    ),
    "no text: asks for JavaScript": (
        "enable javascript|javascript is disabled|javascript is not enabled|requires javascript|"
        "启用javascript|启用 javascript|开启javascript|开启 javascript|不支持javascript"
    ),
    "no text: a cookie notice": (
        "we use cookies|site uses cookies|accept all cookies|使用cookie|使用 cookie|接受所有cookie"
    ),
    "no text: an error page": (
        "404 not found|page not found|error 404|404 error|page you requested|page you are looking "
        "for|403 forbidden|access denied|access to this page|internal server error|bad gateway|"
        "service unavailable|have permission to access|页面不存在|页面未找到|找不到页面|"
        "无法找到该页|您访问的页面|您要访问的页面|拒绝访问|没有权限访问|无权访问|服务器内部错误"
    ),
}


class Parts:
    """A text split once, and what the rules count in it, each counted when first asked for.

    lang    "zh" counts characters, every other language the words between white space
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


@dataclass(frozen=True, slots=True)
class FineWeb:
    """FineWeb's rules about lines; a text on a threshold is dropped, as in the paper."""

    min_ends: float = 0.12  # of the lines end with punctuation
    max_repeated: float = 0.1  # of the characters stand in lines that stood before
    max_short: float = 0.67  # of the lines are short
    short_chars: int = 30  # a shorter line is short


@dataclass(frozen=True, slots=True)
class Limits:
    """The rules for one language; None leaves a group out."""

    no_text_chars: int = 1000  # a longer text is one, whatever it says
    quality: GopherQuality | None = GopherQuality()
    repetition: GopherRepetition | None = GopherRepetition()
    fineweb: FineWeb | None = FineWeb()
    c4: C4 | None = C4()


# Measured: a word has 1.75 characters (rjieba, 567 answers), so 50 words are 88 and 5-grams are
# 9-grams. Of those answers, of kernel documentation (177 texts) and of Mencius (44), all but one
# in 100 have 3.5 to 16 characters between punctuation, 0.9 words with a letter, at least 0.015,
# 0.1 and 0.18 stop characters a word (lists of goods: none; Tang poems: 0.004, a third of them is
# dropped), and at most 0.55 lines below 10 characters.
CHINESE = Limits(
    no_text_chars=400,
    quality=GopherQuality(
        min_words=88, max_words=175_000, max_mean_chars=30,
        min_stop_share=0.02, stop_words=tuple("的是了在和不有我他这這之而也其者以于於"),
    ),
    repetition=GopherRepetition(
        top_grams=((4, 0.2), (5, 0.18), (7, 0.16)),
        repeated_grams=((9, 0.15), (10, 0.14), (12, 0.13), (14, 0.12), (16, 0.11), (18, 0.1)),
    ),
    fineweb=FineWeb(short_chars=10),
    c4=C4(
        line_ends=("。", "！", "？", "；", "…", "\u201d", "」", "』", ".", "!", "?", '"'),
        min_line_words=8,
        barred_lines=(
            "javascript", "使用条款", "使用條款", "服务条款", "服務條款", "隐私政策", "隱私政策",
            "隐私权政策", "隱私權政策", "cookie政策", "cookie 政策", "使用cookie", "使用 cookie",
        ),
    ),
)  # fmt: skip
OTHER = Limits(quality=GopherQuality(stop_words=(), min_stop_words=0))  # words between spaces
LIMITS = {"en": Limits(), "zh": CHINESE}  # every other language has OTHER


def judge(text: str, lang: str, limits: Limits | None = None) -> tuple[str, str | None]:
    """The text without the lines that C4 leaves out, and the reason to drop it or None.

    The other rules see the text before C4 takes lines away: FineWeb asks how lines end.
    """
    limits = limits or LIMITS.get(lang, OTHER)
    parts = Parts(text, lang)
    reason = (
        no_text(parts, limits.no_text_chars)
        or (limits.quality and gopher_quality(parts, limits.quality))
        or (limits.repetition and gopher_repetition(parts, limits.repetition))
        or (limits.fineweb and fineweb(parts, limits.fineweb))
    )
    if reason or not limits.c4:
        return text, reason or None
    left = c4_lines(parts, limits.c4)
    return left, c4(parts if left == text else Parts(left, lang), limits.c4)


def no_text(parts: Parts, max_chars: int) -> str | None:
    """Whether a short text is a captcha, a cookie notice or an error page."""
    if len(parts.text) <= max_chars:
        for reason, phrases in _NO_TEXT.items():
            if any(phrase in parts.lower for phrase in phrases.split("|")):
                return reason
    return None


def gopher_quality(parts: Parts, limits: GopherQuality) -> str | None:
    """Gopher's quality filter."""
    n_words, n_lines = len(parts.words), max(1, len(parts.lines))
    if not limits.min_words <= n_words <= limits.max_words:
        return f"Gopher: too {'few' if n_words < limits.min_words else 'many'} words"
    mean = parts.n_chars / max(1, len(_RUN.findall(parts.text)) if parts.is_chinese else n_words)
    if not limits.min_mean_chars <= mean <= limits.max_mean_chars:
        return f"Gopher: words too {'long' if mean > limits.max_mean_chars else 'short'}"
    if parts.text.count("#") > limits.max_symbols * n_words:
        return "Gopher: too many hash signs"
    if len(_ELLIPSIS.findall(parts.text)) > limits.max_symbols * n_words:
        return "Gopher: too many ellipses"
    if sum(line.startswith(_BULLETS) for line in parts.lines) > limits.max_bullets * n_lines:
        return "Gopher: too many lines begin with a bullet"
    n_open = sum(line.endswith(("...", "\u2026")) for line in parts.lines)
    if n_open > limits.max_ellipses * n_lines:
        return "Gopher: too many lines end with an ellipsis"
    enough = limits.min_letters * n_words
    quick = sum(map(str.isalpha, parts.words))
    if quick < enough and sum(any(map(str.isalpha, word)) for word in parts.words) < enough:
        return "Gopher: too few words with a letter"
    return _stop_words(parts, limits)


def _stop_words(parts: Parts, limits: GopherQuality) -> str | None:
    if parts.is_chinese:
        counts = [parts.text.count(word) for word in limits.stop_words]
        n_found, share = sum(map(bool, counts)), sum(counts) / max(1, len(parts.words))
    else:
        lower = {word.lower() for word in set(parts.words)}
        n_found, share = len(lower.intersection(limits.stop_words)), 1.0
    too_few = n_found < limits.min_stop_words or share < limits.min_stop_share
    return "Gopher: too few stop words" if too_few else None


def gopher_repetition(parts: Parts, limits: GopherRepetition) -> str | None:
    """Gopher's repetition filter; shares are of the characters that words are made of."""
    by_number, by_chars = _repeated(parts.lines)
    if by_number > limits.max_lines or by_chars > limits.max_line_chars:
        return "Gopher: repeated lines"
    by_number, by_chars = _repeated(list(filter(None, map(str.strip, parts.text.split("\n\n")))))
    if by_number > limits.max_paragraphs or by_chars > limits.max_paragraph_chars:
        return "Gopher: repeated paragraphs"
    for n, share in limits.top_grams:
        if _is_top_above(parts, n, share):
            return f"Gopher: one {n}-gram too often"
    lowest = min((share for _, share in limits.repeated_grams), default=0.0)
    for n, share in sorted(limits.repeated_grams):
        found = _repeated_share(parts, n)
        if found > share:
            return f"Gopher: repeated {n}-grams"
        if found <= lowest:  # what repeats in longer runs repeats in shorter ones too
            break
    return None


def _repeated(items: list[str]) -> tuple[float, float]:
    """The shares of items, and of their characters, that stood before."""
    if len(set(items)) == len(items):
        return 0.0, 0.0
    counts = Counter(items)
    n_chars = sum(len(item) * (n - 1) for item, n in counts.items())
    return (len(items) - len(counts)) / len(items), n_chars / sum(map(len, items))


def _is_top_above(parts: Parts, n: int, share: float) -> bool:
    """Whether the most frequent n-gram (of equals, the first) holds more than a share."""
    grams = parts.grams(n)
    if not len(grams):
        return False
    # so often it must stand to get there, were its words as long as the longest
    often = max(2, int(share * parts.n_chars / (n * int(parts.word_chars.max()))) + 1)
    ordered = np.sort(grams)
    if not (ordered[often - 1 :] == ordered[: max(0, len(ordered) + 1 - often)]).any():
        return False
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    at = int(first[counts == counts.max()].min())
    return int(counts.max()) * int(parts.word_chars[at : at + n].sum()) > share * parts.n_chars


def _repeated_share(parts: Parts, n: int) -> float:
    """The share of characters in n-grams that stood before, overlaps counted once."""
    grams = parts.grams(n)
    order = np.argsort(grams, kind="stable")
    again = order[1:][grams[order[1:]] == grams[order[:-1]]]
    if not len(again):
        return 0.0
    steps = np.bincount(again, minlength=len(parts.words) + 1)
    steps -= np.bincount(again + n, minlength=len(parts.words) + 1)
    return int(parts.word_chars[np.cumsum(steps[:-1]) > 0].sum()) / parts.n_chars


def fineweb(parts: Parts, limits: FineWeb) -> str | None:
    """The filters that FineWeb adds to Gopher's and C4's."""
    n_lines = max(1, len(parts.lines))
    if sum(line.endswith(_ENDS) for line in parts.lines) <= limits.min_ends * n_lines:
        return "FineWeb: too few lines end with punctuation"
    if _repeated(parts.lines)[1] >= limits.max_repeated:
        return "FineWeb: repeated lines"
    if sum(len(line) < limits.short_chars for line in parts.lines) >= limits.max_short * n_lines:
        return "FineWeb: too many short lines"
    return None


def c4_lines(parts: Parts, limits: C4) -> str:
    """The text without the lines that C4 leaves out."""
    barred = [phrase for phrase in limits.barred_lines if phrase in parts.lower]

    def is_kept(line: str) -> bool:
        if limits.line_ends and (not line.endswith(limits.line_ends) or line.endswith("...")):
            return False
        n_words = len(line if parts.is_chinese else line.split(None, limits.min_line_words))
        return n_words >= limits.min_line_words and not any(p in line.lower() for p in barred)

    lines = parts.text.split("\n")
    return without_lines(
        parts.text, [bool(line := raw.strip()) and not is_kept(line) for raw in lines]
    )


def c4(parts: Parts, limits: C4) -> str | None:
    """C4's rules for whole pages, after `c4_lines`."""
    for phrase in limits.barred_pages:
        if phrase in parts.lower:
            return f"C4: holds {phrase!r}"
    sentences = (_CHINESE_SENTENCE if parts.is_chinese else _SENTENCE).findall(parts.text)
    return "C4: too few sentences" if len(sentences) < limits.min_sentences else None


def without_lines(text: str, drops: list[bool]) -> str:
    """The text without some of its lines; what they parted is parted by one empty line."""
    if not any(drops):
        return text
    kept = (line for line, is_dropped in zip(text.split("\n"), drops) if not is_dropped)
    return _EMPTY_LINES.sub("\n\n", "\n".join(kept)).strip("\n")
