"""Which texts are worth training on: rules of Gopher, C4 and FineWeb, for English and Chinese.

A rule looks at the Parts of a text, split off once, and says what it measured, what its limit is,
and whether it drops the text. `limits.py` names the papers.

Chinese has no spaces: where the papers count words, a Chinese character counts as one, and so
does a run of other letters or digits.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from scratchlm.cleaning.limits import C4, FineWeb, GopherQuality, GopherRepetition, Limits
from scratchlm.cleaning.parts import Parts

_RUN = re.compile(r"\w+")
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


class Finding(NamedTuple):
    """What a rule found in a text.

    rule    a fixed phrase, which is the reason where the rule drops the text
    score   how near the value is to its limit: below 1 inside, 1 on it, above 1 beyond
    """

    rule: str
    value: float
    limit: float
    score: float
    drops: bool


def _at_most(rule: str, value: float, limit: float) -> Finding:
    score = value / limit if limit else float(value > 0) * 2
    return Finding(rule, value, limit, score, value > limit)


def _at_least(rule: str, value: float, limit: float) -> Finding:
    score = limit / value if value else float(limit > 0) * 2
    return Finding(rule, value, limit, score, value < limit)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a text.

    text       without the lines that C4 leaves out; of a text that is dropped, as it was
    findings   of all rules, up to the one that drops the text
    """

    text: str
    findings: list[Finding]

    @property
    def reason(self) -> str | None:
        """Why the text is dropped; None: it stays."""
        return self.findings[-1].rule if self.findings and self.findings[-1].drops else None


def judge(text: str, lang: str, limits: Limits) -> Judgement:
    """Measure a text by all rules, until one drops it.

    C4 comes last: the other rules see the text before it takes lines away, since FineWeb asks how
    lines end.
    """
    parts = Parts(text, lang)
    findings = _until_dropped(_before_c4(parts, limits))
    if limits.c4 is None or (findings and findings[-1].drops):
        return Judgement(text, findings)
    left = c4_lines(parts, limits.c4)
    findings += _until_dropped(c4(parts if left == text else Parts(left, lang), limits.c4))
    return Judgement(text if findings and findings[-1].drops else left, findings)


def _until_dropped(findings: Iterator[Finding]) -> list[Finding]:
    known = []
    for finding in findings:
        known.append(finding)
        if finding.drops:
            break
    return known


def _before_c4(parts: Parts, limits: Limits) -> Iterator[Finding]:
    return chain(
        no_text(parts, limits.no_text_chars),
        gopher_quality(parts, limits.quality) if limits.quality else (),
        gopher_repetition(parts, limits.repetition) if limits.repetition else (),
        fineweb(parts, limits.fineweb) if limits.fineweb else (),
    )


def no_text(parts: Parts, max_chars: int) -> Iterator[Finding]:
    """A short text that is a captcha, a cookie notice or an error page."""
    if len(parts.text) <= max_chars:
        for rule, phrases in _NO_TEXT.items():
            if any(phrase in parts.lower for phrase in phrases.split("|")):
                yield _at_most(rule, 1, 0)


def gopher_quality(parts: Parts, limits: GopherQuality) -> Iterator[Finding]:
    """Gopher's quality filter."""
    n_words, n_lines = len(parts.words), max(1, len(parts.lines))
    yield _at_least("Gopher: too few words", n_words, limits.min_words)
    yield _at_most("Gopher: too many words", n_words, limits.max_words)
    n_runs = len(_RUN.findall(parts.text)) if parts.is_chinese else n_words
    mean = parts.n_chars / max(1, n_runs)
    yield _at_least("Gopher: words too short", mean, limits.min_mean_chars)
    yield _at_most("Gopher: words too long", mean, limits.max_mean_chars)
    for name, n in (
        ("hash signs", parts.text.count("#")),
        ("ellipses", len(_ELLIPSIS.findall(parts.text))),
    ):
        yield _at_most(f"Gopher: too many {name}", n / max(1, n_words), limits.max_symbols)
    bullets = sum(line.startswith(_BULLETS) for line in parts.lines) / n_lines
    yield _at_most("Gopher: too many lines begin with a bullet", bullets, limits.max_bullets)
    is_open = sum(line.endswith(("...", "\u2026")) for line in parts.lines) / n_lines
    yield _at_most("Gopher: too many lines end with an ellipsis", is_open, limits.max_ellipses)
    letters = sum(map(str.isalpha, parts.words))
    if letters < limits.min_letters * n_words:  # the quick way counts whole words only
        letters = sum(any(map(str.isalpha, word)) for word in parts.words)
    share = letters / max(1, n_words)
    yield _at_least("Gopher: too few words with a letter", share, limits.min_letters)
    yield _stop_words(parts, limits)


def _stop_words(parts: Parts, limits: GopherQuality) -> Finding:
    rule = "Gopher: too few stop words"
    if not parts.is_chinese:
        lower = {word.lower() for word in set(parts.words)}
        n_found = len(lower.intersection(limits.stop_words))
        return _at_least(rule, n_found, limits.min_stop_words)
    counts = [parts.text.count(word) for word in limits.stop_words]
    by_number = _at_least(rule, sum(map(bool, counts)), limits.min_stop_words)
    share = sum(counts) / max(1, len(parts.words))
    by_share = _at_least(f"{rule}, by share", share, limits.min_stop_share)
    return by_number if by_number.drops else by_share


def gopher_repetition(parts: Parts, limits: GopherRepetition) -> Iterator[Finding]:
    """Gopher's repetition filter; shares are of the characters that words are made of."""
    paragraphs = list(filter(None, map(str.strip, parts.text.split("\n\n"))))
    for rule, items, most, most_chars in (
        ("Gopher: repeated lines", parts.lines, limits.max_lines, limits.max_line_chars),
        (
            "Gopher: repeated paragraphs",
            paragraphs,
            limits.max_paragraphs,
            limits.max_paragraph_chars,
        ),
    ):
        by_number, by_chars = _repeated(items)
        yield _at_most(rule, by_number, most)
        yield _at_most(f"{rule}, by characters", by_chars, most_chars)
    for n, share in limits.top_grams:
        yield _at_most(f"Gopher: one {n}-gram too often", _top_share(parts, n), share)
    lowest = min((share for _, share in limits.repeated_grams), default=0.0)
    for n, share in sorted(limits.repeated_grams):
        found = _repeated_share(parts, n)
        yield _at_most(f"Gopher: repeated {n}-grams", found, share)
        if found <= lowest:  # what repeats in longer runs repeats in shorter ones too
            break


def _repeated(items: list[str]) -> tuple[float, float]:
    """The shares of items, and of their characters, that stood before."""
    if len(set(items)) == len(items):
        return 0.0, 0.0
    counts = Counter(items)
    n_chars = sum(len(item) * (n - 1) for item, n in counts.items())
    return (len(items) - len(counts)) / len(items), n_chars / sum(map(len, items))


def _top_share(parts: Parts, n: int) -> float:
    """The share of characters in the most frequent n-gram; of equals, the first; 0: none twice."""
    grams = parts.grams(n)
    if not len(grams):
        return 0.0
    ordered = np.sort(grams)
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    counts = np.diff(ends, prepend=-1)
    most = int(counts.max())
    if most == 1:
        return 0.0
    best = ordered[ends[counts == most]]
    is_best = best[np.minimum(np.searchsorted(best, grams), len(best) - 1)] == grams
    at = int(is_best.argmax())
    return most * int(parts.word_chars[at : at + n].sum()) / parts.n_chars


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


def fineweb(parts: Parts, limits: FineWeb) -> Iterator[Finding]:
    """The filters that FineWeb adds to those two; on the limit it drops, as in the paper."""
    n_lines = max(1, len(parts.lines))
    short = sum(len(line) < limits.short_chars for line in parts.lines) / n_lines
    ends = sum(line.endswith(_ENDS) for line in parts.lines) / n_lines
    for finding in (
        _at_least("FineWeb: too few lines end with punctuation", ends, limits.min_ends),
        _at_most("FineWeb: repeated lines", _repeated(parts.lines)[1], limits.max_repeated),
        _at_most("FineWeb: too many short lines", short, limits.max_short),
    ):
        yield finding._replace(drops=finding.score >= 1)


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


def c4(parts: Parts, limits: C4) -> Iterator[Finding]:
    """C4's rules for whole pages, after `c4_lines`."""
    for phrase in limits.barred_pages:
        if phrase in parts.lower:
            yield _at_most(f"C4: holds {phrase!r}", 1, 0)
    sentences = (_CHINESE_SENTENCE if parts.is_chinese else _SENTENCE).findall(parts.text)
    yield _at_least("C4: too few sentences", len(sentences), limits.min_sentences)


def without_lines(text: str, drops: list[bool]) -> str:
    """The text without some of its lines; what they parted is parted by one empty line."""
    if not any(drops):
        return text
    kept = (line for line, is_dropped in zip(text.split("\n"), drops) if not is_dropped)
    return _EMPTY_LINES.sub("\n\n", "\n".join(kept)).strip("\n")
