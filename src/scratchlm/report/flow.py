"""The flow through the stages as a picture: a river from top to bottom that loses streams.

Everything is drawn to scale: a stream of twice the documents is twice as wide, all along its bend.
Here are only places and sizes, in units of the picture; report.html draws them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from scratchlm.report.letters import is_wide

_MOST_STREAMS = 5  # of one stage, each with a name; the others are joined
_LEAST_SHARE = 0.004  # of all that came in: a smaller stream is joined with others
_TOP, _LINE, _GAP, _FOOT = 9.0, 17.0, 7.0, 3.0  # heights: before words, of a line, between, last
_MARGIN = 10.0  # between the edge of the river and the number in it
_BEND = 9.0  # radius of the inner edge of a bend, at most _TOP
_HAIR = 1.0  # the thinnest line that is drawn
_LETTER, _WIDE_LETTER = 7.3, 13.5  # widths at the sizes of letters in report.css
_BOLD = 0.85  # of as many letters fit where they are large and bold


@dataclass(frozen=True)
class Gate:
    """A stage as the picture sees it: n_in = n_kept + what leaves, by name.

    Where only one stream leaves it may be named "": the stage's own name says enough.
    """

    name: str
    n_in: int
    n_kept: int
    leaving: dict[str, int]


@dataclass(frozen=True)
class Sheet:
    """Sizes of a picture: for a screen, and for a telephone."""

    name: str
    width: float
    river: float  # width of the river where it is widest
    streams: float  # where the streams end
    amounts: float  # where the right ends of amounts stand; 0: they stand below the words
    words: float  # where the words begin


SHEETS = (
    Sheet("wide", width=1000, river=380, streams=470, amounts=618, words=636),
    Sheet("narrow", width=360, river=112, streams=134, amounts=0, words=144),
)


@dataclass(frozen=True)
class Shape:
    """A path; `kind` is its class, `title` what it says when pointed at."""

    path: str
    kind: str
    title: str


@dataclass(frozen=True)
class Text:
    """A line of text at its base line; `kind` is its class."""

    x: float
    y: float
    text: str
    kind: str


@dataclass
class Picture:
    """What is to be drawn, on a sheet of `width` and `height`."""

    sheet: Sheet
    height: float = 0.0
    shapes: list[Shape] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    rules: list[float] = field(default_factory=list)  # heights of the lines between stages


@dataclass(frozen=True)
class Terms:
    """How the picture speaks: an amount and a share as text, and four words."""

    amount: Callable[[int], str]
    share: Callable[[int, int], str]
    others: Callable[[int], str]  # of so many reasons
    nothing: str
    start: str
    end: str


def joined(
    leaving: dict[str, int], least: float, others: Callable[[int], str]
) -> list[tuple[str, int]]:
    """The streams of a stage, the largest first; those below `least` or too many become one."""
    ordered = sorted(leaving.items(), key=lambda item: (-item[1], item[0]))
    ordered = [(name, n) for name, n in ordered if n]
    shown = [(name, n) for name, n in ordered if n >= least][:_MOST_STREAMS] or ordered[:1]
    rest = ordered[len(shown) :]
    if len(rest) < 2:
        return ordered
    return [*shown, (others(len(rest)), sum(n for _, n in rest))]


def draw_flow(gates: Sequence[Gate], sheet: Sheet, terms: Terms) -> Picture:
    """Draw the stages one below the other, between what comes in and what is left."""
    most = max(max(gate.n_in, gate.n_kept) for gate in gates)
    scale = sheet.river / max(1, most)
    picture = Picture(sheet)
    y = _mouth(picture, gates[0].n_in * scale, terms.start)
    for gate in gates:
        picture.rules.append(y)
        y = _stage(picture, gate, y, scale, _LEAST_SHARE * most, terms)
    picture.rules.append(y)
    width = max(gates[-1].n_kept * scale, _HAIR if gates[-1].n_kept else 0)
    picture.shapes.append(Shape(_box(0, y, width, 44), "kept", terms.end))
    picture.texts.append(Text(sheet.words, y + 27, terms.end, "total"))
    picture.height = y + 48
    return picture


def _mouth(picture: Picture, width: float, text: str) -> float:
    """The river before the first stage; returns where that one begins."""
    picture.shapes.append(Shape(_box(0, 4, width, 36), "kept", text))
    picture.texts.append(Text(picture.sheet.words, 27, text, "total"))
    return 40.0


def _stage(
    picture: Picture, gate: Gate, y: float, scale: float, least: float, terms: Terms
) -> float:
    """One stage from the height `y` down; returns the height of its lower end."""
    edge, below = gate.n_in * scale, y + _TOP
    for row in _rows(gate, picture.sheet, least, terms):
        width = max(row.n * scale, _HAIR)
        height = _LINE * (len(row.lines) + (not picture.sheet.amounts))
        slot = max(width, height)
        _words(picture, below + (slot - height) / 2 + 13, row)
        if row.n:
            path = _bend(edge, y, below + (slot - width) / 2, width, picture.sheet.streams)
            picture.shapes.append(Shape(path, "dropped", row.title))
        edge -= row.n * scale
        below += slot + _GAP
    if gate.n_kept:
        width, going = max(gate.n_kept * scale, _HAIR), terms.amount(gate.n_kept)
        box = _box(0, y, width, below + _FOOT - y)
        picture.shapes.append(Shape(box, "kept", f"{gate.name}: {going}"))
        if _width(going) + 2 * _MARGIN < width:
            picture.texts.append(Text(_MARGIN, y + 22, going, "going"))
    return below + _FOOT


@dataclass(frozen=True)
class _Row:
    """Words and their amount, and the stream that ends at them; `n` = 0: there is none."""

    lines: list[str]
    kind: str
    amount: str
    amount_kind: str
    n: int
    title: str


def _rows(gate: Gate, sheet: Sheet, least: float, terms: Terms) -> Iterator[_Row]:
    """The head of a stage and its streams, or both in one where the stream has no name."""
    room, lost = sheet.width - sheet.words, gate.n_in - gate.n_kept
    head = wrapped(gate.name, room * _BOLD)
    if lost and set(gate.leaving) == {""}:
        amount = f"\u2212{terms.amount(lost)} ({terms.share(lost, gate.n_in)})"
        yield _Row(head, "stage", amount, "lost", lost, f"{gate.name}: {amount}")
        return
    amount = f"\u2212{terms.amount(lost)}" if lost else terms.nothing
    yield _Row(head, "stage", amount, "lost" if lost else "quiet", 0, "")
    for name, n in joined(gate.leaving, least, terms.others):
        amount = f"{terms.amount(n)} ({terms.share(n, gate.n_in)})"
        title = f"{gate.name}: {name}: {amount}"
        yield _Row(wrapped(name, room), "reason", amount, "amount", n, title)


def _words(picture: Picture, y: float, row: _Row) -> None:
    """Lines of text, the first at the base line `y`; their amount beside it or below the last."""
    sheet = picture.sheet
    for i, line in enumerate(row.lines):
        picture.texts.append(Text(sheet.words, y + i * _LINE, line, row.kind))
    if sheet.amounts:
        text = Text(sheet.amounts, y, row.amount, f"{row.amount_kind} beside")
    else:
        text = Text(sheet.words, y + len(row.lines) * _LINE, row.amount, row.amount_kind)
    picture.texts.append(text)


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.1f} {y:.1f}h{width:.2f}v{height:.2f}h{-width:.2f}z"


def _bend(right: float, y: float, top: float, width: float, end: float) -> str:
    """A stream that falls from `y` along `right`, and turns to the right at the height `top`.

    Both edges turn about one centre, so that it is as wide in the bend as before and after.
    """
    left, turn = right - width, right + _BEND
    return (
        f"M{left:.1f} {y:.1f}H{right:.1f}V{top - _BEND:.1f}"
        f"A{_BEND:.1f} {_BEND:.1f} 0 0 0 {turn:.1f} {top:.1f}H{end:.1f}"
        f"V{top + width:.1f}H{turn:.1f}"
        f"A{_BEND + width:.1f} {_BEND + width:.1f} 0 0 1 {left:.1f} {top - _BEND:.1f}z"
    )


def wrapped(text: str, width: float) -> list[str]:
    """A text on at most two lines of about `width`; what is longer ends in an ellipsis."""
    lines = [""]
    for word in _pieces(text):
        if lines[-1] and _width(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    lines = [line.strip() for line in lines]
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1]}\u2026"]
    return [_cut(line, width) for line in lines]


def _pieces(text: str) -> list[str]:
    """Where a line may end: behind a space, and before and behind each wide letter."""
    pieces = [""]
    for letter in text:
        wide = is_wide(letter)
        if pieces[-1] and (wide or is_wide(pieces[-1][-1]) or pieces[-1][-1] == " "):
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _cut(line: str, width: float) -> str:
    if _width(line) <= width + _WIDE_LETTER:
        return line
    while line and _width(line) > width:
        line = line[:-1]
    return line.rstrip("\u2026 ") + "\u2026"


def _width(text: str) -> float:
    return sum(_WIDE_LETTER if is_wide(letter) else _LETTER for letter in text)
