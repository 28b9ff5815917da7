"""A confusion matrix as a picture: which classes are taken for which.

Rows are true classes, columns what was said of them; a cell's colour is its share of the row. The
picture is SVG that stands alone (no script, no style, nothing loaded) and fits into a page, whose
style sheet may colour its classes: `kept` on the diagonal, `dropped` off it, `on` for numbers on
dark cells.
"""

from collections.abc import Sequence
from html import escape

from scratchlm.report.facts import readable
from scratchlm.report.letters import is_wide

MOST_CLASSES = 40  # more are not told apart: the smallest are joined
_CELL, _SMALL_CELL = 44.0, 26.0  # sides; from _MANY classes on the small one
_MANY = 13
_SIZE, _SMALL_SIZE = 13.0, 10.5  # of letters; the small one for numbers in small cells
_LETTER, _WIDE_LETTER = 7.7, 13.0  # widths at _SIZE
_MOST_LETTERS = 18  # of a class's name, letters as wide as Han count twice
_GAP, _LINE = 8.0, 24.0
_RIGHT, _WRONG = "#2b6c94", "#c9761b"  # those of report.css
_DARK = 0.55  # share from which a number stands in white


def confusion_svg(
    names: Sequence[str],
    matrix: Sequence[Sequence[int]],
    title: str = "",
    *,
    true: str = "true class",
    told: str = "predicted class",
    others: str = "{n} other classes",
) -> str:
    """Draw counts of true class i (row) that were taken for class j (column).

    names     of the classes, any text
    matrix    (n, n) counts, at least one class
    title     stands above it
    true, told, others   the words in the picture; {n} is a number
    returns   one <svg> element
    """
    assert len(names) == len(matrix) == len(matrix[0]) > 0
    names, matrix = _joined(list(map(readable, names)), matrix, others)
    n = len(names)
    axis = max(_width(true), _width(told)) + _GAP
    cell = max(_SMALL_CELL if n >= _MANY else _CELL, axis / n)
    shown = [_shortened(" ".join(name.split()) or "\u2423") for name in names]
    margin = max(map(_width, shown)) + _GAP  # of rows and columns
    title = " ".join(readable(title).split())
    first = _LINE if title else 0.0
    left, top = _LINE + margin, first + _LINE + margin
    width, height = max(left + n * cell, _width(title)) + 2, top + n * cell + 2
    said = escape(f"{title or true + ', ' + told}: {_summary(matrix)}")
    parts = [
        f'<svg class="confusion" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} '
        f'{height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{said}" '
        'font-family="system-ui, sans-serif">',
        _text(left + n * cell / 2, first + 13, told, anchor="middle", kind="axis"),
        _text(13, top + n * cell / 2, true, anchor="middle", kind="axis", turned=True),
    ]
    if title:
        parts.append(_text(0, 14, title, kind="title"))
    for i, (label, name) in enumerate(zip(shown, names, strict=True)):
        middle = (i + 0.5) * cell + 4.5
        parts.append(_text(left - _GAP, top + middle, label, anchor="end", title=name))
        parts.append(_text(left + middle, top - _GAP, label, turned=True, title=name))
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            title = f"{names[i]} \u2192 {names[j]}: {count:,} ({_percent(count, sum(row))})"
            at = left + j * cell, top + i * cell
            parts.append(_cell(at, cell, count, sum(row), title, right=i == j))
    return "\n".join([*parts, "</svg>"])


def _joined(
    names: list[str], matrix: Sequence[Sequence[int]], others: str
) -> tuple[list[str], list[list[int]]]:
    """At most MOST_CLASSES: the rarest become one, at the end; the order of the rest stays."""
    n = len(names)
    if n <= MOST_CLASSES:
        return names, [list(row) for row in matrix]
    sizes = [sum(matrix[i]) + sum(row[i] for row in matrix) for i in range(n)]
    kept = sorted(sorted(range(n), key=lambda i: -sizes[i])[: MOST_CLASSES - 1])
    place = {i: at for at, i in enumerate(kept)}
    small = [[0] * MOST_CLASSES for _ in range(MOST_CLASSES)]
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            small[place.get(i, MOST_CLASSES - 1)][place.get(j, MOST_CLASSES - 1)] += count
    return [*(names[i] for i in kept), others.format(n=f"{n - len(kept):,}")], small


def _summary(matrix: Sequence[Sequence[int]]) -> str:
    right, total = sum(row[i] for i, row in enumerate(matrix)), sum(map(sum, matrix))
    return f"{right:,} / {total:,} = {_percent(right, total)}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 0:.1f}%"


def _cell(
    at: tuple[float, float], size: float, count: int, of: int, title: str, *, right: bool
) -> str:
    """One square; what is there can be seen, and small squares leave the number to the title."""
    share = count / of if of else 0.0
    kind, colour = ("kept", _RIGHT) if right else ("dropped", _WRONG)
    x, y = at
    box = f'x="{x:.1f}" y="{y:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}"'
    opacity = f"{0.08 + 0.92 * share:.2f}" if count else "0"
    inside = f'<rect class="field" {box} fill="#888888" fill-opacity="0.08"/>'
    inside += f'<rect class="{kind}" {box} fill="{colour}" fill-opacity="{opacity}"/>'
    number = _number(count)
    letters = _SIZE if size >= _CELL else _SMALL_SIZE
    if count and _width(number) * letters / _SIZE < size + _GAP / 2:
        on = "on" if share >= _DARK else ""
        place = x + size / 2 - 0.5, y + size / 2 + letters / 3
        inside += _text(*place, number, anchor="middle", kind=on, size=letters)
    return f"<g><title>{escape(title)}</title>{inside}</g>"


def _number(count: int) -> str:
    """At most four letters: 9999, 10k, 1.2M."""
    for size, sign in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= size:
            value = count / (1000 if sign == "k" else size)
            return f"{value:.0f}{sign}" if value >= 9.95 else f"{value:.1f}{sign}"
    return str(count)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    kind: str = "",
    turned: bool = False,
    title: str = "",
    size: float = _SIZE,
) -> str:
    """A line of text; `turned` is written from below to above."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    name = f' class="{kind}"' if kind else ""
    colour = {"on": "#ffffff", "axis": "#5b666d"}.get(kind, "currentColor")
    said = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}" unicode-bidi="isolate"{turn}>{said}{escape(text)}</text>'
    )


def _shortened(label: str) -> str:
    """At most _MOST_LETTERS wide; what is cut off ends in three dots."""
    if _width(label) <= _MOST_LETTERS * _LETTER:
        return label
    while _width(label) > (_MOST_LETTERS - 1) * _LETTER:
        label = label[:-1]
    return label.rstrip() + "\u2026"


def _width(text: str) -> float:
    return sum(_WIDE_LETTER if is_wide(letter) else _LETTER for letter in text)
