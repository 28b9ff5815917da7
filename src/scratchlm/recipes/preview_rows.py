"""Rows of a batch as stretches of tokens that see each other, and those as a reader sees them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from scratchlm.data.rows import IGNORE
from scratchlm.recipes.preview_facts import Amount, Part, Piece, ShownRow
from scratchlm.tokenizer.show import Group, show_tokens, visible
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.words import SEGMENTERS

REJECTED = "rejected"


@dataclass(frozen=True)
class Stretch:
    """Neighbours in a row, from the trainer's batch; arrays (n,) int64.

    place     where the user finds it; "": it is nobody's, as padding should be
    name      "chosen" or "rejected", of a pair
    padding   it stands behind all that the row holds, known without a look at the targets
    closed    another text follows in the row, which its last target must not be
    label     the class that is asked for at the last token; "" where none is
    """

    tokens: np.ndarray
    targets: np.ndarray
    place: str = ""
    name: str = ""
    padding: bool = False
    closed: bool = False
    label: str = ""

    @property
    def learned(self) -> np.ndarray:
        """(n,) bool: positions with a loss."""
        return np.asarray(self.targets != IGNORE)


def borders(segments: np.ndarray) -> list[slice]:
    """The stretches of a row from the numbers of its segments, (T,)."""
    if not len(segments):
        return []
    cuts = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(segments)]
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def amount_of(rows: Sequence[Sequence[Stretch]]) -> Amount:
    """What rows hold."""
    total = Amount()
    for row in rows:
        total += Amount(rows=1)
        length = 0
        for one in row:
            if one.padding:
                total += Amount(padding=len(one.tokens))
                continue
            length = len(one.tokens) + (length if one.name == REJECTED else 0)
            first = int(one.name != REJECTED)
            total += Amount(0, first, len(one.tokens), int(one.learned.sum()), 0, length)
    return total


def show_row(number: int, row: Sequence[Stretch], tokenizer: Tokenizer) -> ShownRow:
    """A row as a reader sees it."""
    return ShownRow(number, tuple(_part(one, tokenizer) for one in row))


def _part(one: Stretch, tokenizer: Tokenizer) -> Part:
    n_learned = int(one.learned.sum())
    if one.padding:
        return Part("", "padding", (), len(one.tokens), n_learned)
    ids, learned = one.tokens, np.zeros(len(one.tokens), dtype=bool)
    if not one.label:
        learned[1:] = one.learned[:-1]  # a target is the token behind its position
        if len(ids) and one.learned[-1]:
            ids, learned = np.append(ids, one.targets[-1]), np.append(learned, True)
    pieces = tuple(_pieces(ids.tolist(), learned.tolist(), tokenizer))
    place, label = visible(one.place), visible(one.label)
    return Part(place, one.name, pieces, len(one.tokens), n_learned, label)


def _pieces(ids: list[int], learned: list[bool], tokenizer: Tokenizer) -> Iterator[Piece]:
    """Readable pieces; a character whose ids are learned in part is shown in parts."""
    segmenter = SEGMENTERS.get(tokenizer.kind)  # words hold no spaces: decoding puts them there
    before, at = "", 0
    for known, members in groupby(ids, key=lambda i: 0 <= i < tokenizer.vocab_size):
        run = list(members)
        groups = show_tokens(tokenizer, run) if known else [_stranger(i) for i in run]
        for group in groups:
            flags = learned[at : at + len(group.ids)]
            for asked, part in _parted(group, flags):
                gap = segmenter.gap(before, part.text) if segmenter and before and part.text else ""
                n_lines = part.text.count("\n")
                text = gap + part.visible if part.text else f"[id {part.ids[0]}]"
                yield Piece(text, part.ids, asked, part.special or not part.text, n_lines)
                before = part.text
            at += len(group.ids)


def _stranger(i: int) -> Group:
    return Group("", (i,), (b"",), special=True)


def _parted(group: Group, learned: list[bool]) -> Iterator[tuple[bool, Group]]:
    """A group whole, or in parts that are learned or not."""
    if len(set(learned)) == 1:
        yield learned[0], group
        return
    for asked, members in groupby(range(len(learned)), key=learned.__getitem__):
        part = list(members)
        here = slice(part[0], part[-1] + 1)
        text = b"".join(group.pieces[here]).decode("utf-8", "replace")
        yield asked, Group(text, group.ids[here], group.pieces[here], group.special)
