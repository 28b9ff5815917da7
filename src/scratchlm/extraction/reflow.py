"""Lines of printed pages to paragraphs: what a typesetter broke is joined again, with care.

A page knows lines, not paragraphs. Two lines are joined where the first is about as long as lines
go there; a short line ends a paragraph, a heading, a verse.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

_FULL = 0.75  # of the usual width: a line that long goes on in the next
_FULL_SENTENCE = 0.9  # likewise for a line that ends a sentence
_USUAL = 0.9  # of the lines are at most as wide as the usual one
_MOST_DIGITS = 4  # of a page's number
_RUNNING = 3  # pages that have the same first or last line

_HYPHENS = "-\u2010\u00ad"
_BROKEN = re.compile(rf"(\w+)[{_HYPHENS}]$")
_BEGINS = re.compile(r"(\w+)")
_COMPOUND = re.compile(r"\w+(?:-\w+)+")
_SENTENCE_ENDS = tuple(".!?:;。！？：；…")
_CLOSING = "\"'”’»」』）)】》"
_ITEM = re.compile(
    r"[\u2022\u2023\u25aa\u25e6\u00b7\u25cf\u25cb\u25a0\u25a1\u2013\u2014*-]\s"
    r"|\(?\d{1,3}[.)]\s|\(?[a-z]\)\s|[（(]?[一二三四五六七八九十]{1,3}[、）)]"
)
_NUMBER = re.compile(rf"[-\u2013\u2014\s]*(\d{{1,{_MOST_DIGITS}}})[-\u2013\u2014\s]*")
_DIGITS = re.compile(r"\d+")
_CHINESE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_GARBAGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufeff\uffff]")


def reflow(pages: Sequence[str]) -> str:
    """The text of pages in paragraphs, one a line; empty lines stay where pages have them.

    A word broken by a hyphen becomes whole, unless the document has it with a hyphen elsewhere.
    Lines of Chinese and Japanese are joined without a space. Page numbers and running titles go.
    """
    lines_of = [_lines(page) for page in pages]
    _remove_page_numbers(lines_of)
    _remove_running_titles(lines_of)
    lines_of = [_trimmed(lines) for lines in lines_of]
    compounds = {
        word.lower() for lines in lines_of for line in lines for word in _COMPOUND.findall(line)
    }
    done: list[str] = []
    goes_on = False  # the last line of `done` is not a whole paragraph yet
    for page, lines in enumerate(lines_of):
        around = lines_of[max(0, page - 1) : page + 2]  # a page may have few lines
        usual = _usual_width([line for near in around for line in near])
        for line in lines:
            if goes_on and line and not _ITEM.match(line):
                done[-1] = _joined(done[-1], line, compounds)
            elif line or (done and done[-1]):
                done.append(line)
            goes_on = _goes_on(line, usual)
    return "\n".join(done).strip()


def _lines(page: str) -> list[str]:
    # PDFium has U+FFFE, and no line end, where a hyphen breaks a word
    page = _GARBAGE.sub("", page.replace("\ufffe", "-\n").replace("\u2028", "\n"))
    return [" ".join(line.split()) for line in page.splitlines()]


def _remove_page_numbers(lines_of: Sequence[list[str]]) -> None:
    """Remove first and last lines that are numbers and count the pages, in place."""
    found: list[tuple[int, int, int]] = []  # page, line, how far the number is ahead of the page
    for page, number, line in _edges(lines_of):
        if match := _NUMBER.fullmatch(line):
            found.append((page, number, int(match[1]) - page))
    counted = Counter(ahead for _, _, ahead in found).most_common(1)
    if counted and counted[0][1] >= max(2, len(lines_of) / 2):
        for page, number, ahead in found:
            if ahead == counted[0][0]:
                lines_of[page][number] = ""


def _remove_running_titles(lines_of: Sequence[list[str]]) -> None:
    """Remove first and last lines that several pages share, but for numbers in them, in place."""
    found: dict[str, list[tuple[int, int]]] = {}
    for page, number, line in _edges(lines_of):
        if any(map(str.isalpha, line)):
            found.setdefault(_DIGITS.sub("0", line), []).append((page, number))
    for places in found.values():
        if len({page for page, _ in places}) >= _RUNNING:
            for page, number in places:
                lines_of[page][number] = ""


def _edges(lines_of: Sequence[list[str]]) -> Iterator[tuple[int, int, str]]:
    """Page, line and text of the first and the last line of each page."""
    for page, lines in enumerate(lines_of):
        filled = [number for number, line in enumerate(lines) if line]
        for number in {*filled[:1], *filled[-1:]}:
            yield page, number, lines[number]


def _trimmed(lines: list[str]) -> list[str]:
    """Without empty lines at either end: a paragraph goes on behind the page."""
    filled = [number for number, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _usual_width(lines: Sequence[str]) -> int:
    widths = sorted(_width(line) for line in lines if line)
    return widths[round(_USUAL * (len(widths) - 1))] if widths else 0


def _width(line: str) -> int:
    """Columns: a Chinese character takes two."""
    if line.isascii():
        return len(line)
    return len(line) + sum(unicodedata.east_asian_width(char) in "WF" for char in line)


def _goes_on(line: str, usual: int) -> bool:
    if not line:
        return False
    if _BROKEN.search(line):
        return True
    ends = line.rstrip(_CLOSING).endswith(_SENTENCE_ENDS)
    return _width(line) >= (_FULL_SENTENCE if ends else _FULL) * usual


def _joined(before: str, after: str, compounds: set[str]) -> str:
    broken, begins = _BROKEN.search(before), _BEGINS.match(after)
    if broken and begins:
        is_soft = before.endswith("\u00ad")
        is_compound = f"{broken[1]}-{begins[1]}".lower() in compounds
        is_word = broken[1].isalpha() and broken[1].islower() and after[0].islower()
        whole = is_soft or (is_word and not is_compound)
        return before[:-1] + ("" if whole else "-") + after
    is_chinese = _CHINESE.match(before[-1]) and _CHINESE.match(after[0])
    return before + ("" if is_chinese else " ") + after
