"""The tokens of a text as a reader sees them: whole characters, with the ids that make them."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scratchlm.tokenizer.tokenizer import Tokenizer

_VISIBLE = str.maketrans({"\n": "\\n", "\t": "\\t", "\r": "\\r"})


@dataclass(frozen=True)
class Group:
    """The fewest ids that make whole characters: mostly one, several for a split character."""

    text: str  # as it stands in the text; U+FFFD where the bytes form no character
    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]  # the bytes of each id
    special: bool  # a control token

    @property
    def visible(self) -> str:
        """The text with line ends, tabs and control characters written as escapes."""
        return visible(self.text)


def visible(text: str) -> str:
    """A text on one line: line ends, tabs and whatever does not print are escapes."""
    shown = text.translate(_VISIBLE)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def show_tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Group]:
    """Group ids into readable pieces, in order; every id is in exactly one group."""
    return list(_groups(tokenizer, ids))


def _groups(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[Group]:
    pieces = tokenizer.pieces()
    control = set(tokenizer.special_tokens.values())
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    waiting: list[int] = []
    for i in ids:
        if i in control and waiting:
            yield _group(waiting, pieces)
            waiting = []
            utf8.reset()
        waiting.append(i)
        utf8.decode(pieces[i])
        inside_a_character = utf8.getstate()[0] != b""
        if not inside_a_character:
            yield _group(waiting, pieces, special=i in control)
            waiting = []
    if waiting:
        yield _group(waiting, pieces)


def _group(ids: list[int], pieces: list[bytes], *, special: bool = False) -> Group:
    parts = tuple(pieces[i] for i in ids)
    return Group(b"".join(parts).decode("utf-8", "replace"), tuple(ids), parts, special)
