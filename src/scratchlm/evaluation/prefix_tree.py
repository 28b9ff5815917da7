"""Sequences laid into rows in which a common beginning stands once: what is shared is read once.

In order of their ids, sequences that begin alike are neighbours. A row holds a run of neighbours as
a tree in depth-first order: what a sequence shares with the one before it is not written again. A
token sees itself and what leads to it. A beginning that is shared by more than rows can hold, as
the examples before each of a thousand questions, is a stem: it is read into a cache that all its
rows look at.

    sequences  a b c, a b d e, x y      row     a b c d e x y
                                        depths  0 1 2 2 3 0 1
                                        ends    5 5 3 5 5 7 7   (d at 3 sees a, b, d; not c at 2)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

MIN_STEM = 32  # a shorter beginning costs less again in each row than apart
_ROW = 1024  # tokens of a row that holds more than one sequence: bounds the mask


@dataclass(frozen=True)
class Row:
    """One row of a batch.

    tokens   (T,) int64
    depths   (T,) int64   tokens that lead to each one, those of the stem not counted
    ends     (T,) int64   the token at i is seen by those at i to ends[i] - 1, and by no others
    leaves   of each sequence: its number, and where its last `n_wanted` tokens stand
    """

    tokens: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    leaves: tuple[tuple[int, np.ndarray], ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether each token sees all before it, as in an ordinary row."""
        return bool((self.ends == len(self)).all())


@dataclass(frozen=True)
class Group:
    """Rows behind one stem; an empty stem is none."""

    stem: np.ndarray
    rows: tuple[Row, ...]

    @property
    def n_tokens(self) -> int:
        """How many tokens are read."""
        return len(self.stem) + sum(map(len, self.rows))


def lay_out(
    sequences: Sequence[np.ndarray],
    n_wanted: Sequence[int],
    *,
    attention: float,
    min_group: int,
    share: bool = True,
) -> list[Group]:
    """Lay sequences into rows.

    sequences    each (n,) int64, at least one token
    n_wanted     of each: its last tokens, of which the caller needs what the model makes of them
    attention    what a pair of tokens costs in a row, in tokens: a row of T costs T + attention T^2
    min_group    tokens behind a stem that make it worth while
    share        False: nothing but equal sequences shares a row
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    pairs = pairwise(order)
    shared = np.array([0, *(_n_shared(sequences[a], sequences[b]) for a, b in pairs)])
    runs = _runs(sequences, order, shared, min_group) if share else [(0, list(order))]
    groups: list[Group] = []
    loose: list[int] = []  # neighbours still stand in order
    for n_stem, members in runs:
        n_stem = min(n_stem, *(len(sequences[i]) - n_wanted[i] for i in members))
        if n_stem < MIN_STEM:
            loose += members
            continue
        rows = _rows(sequences, n_wanted, members, n_stem, attention, share)
        groups.append(Group(sequences[members[0]][:n_stem], rows))
    if loose:
        place = {i: number for number, i in enumerate(order)}
        loose.sort(key=place.__getitem__)
        rows = _rows(sequences, n_wanted, loose, 0, attention, share)
        groups.append(Group(sequences[loose[0]][:0], rows))
    return groups


def _n_shared(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two sequences begin with in common."""
    n = min(len(a), len(b))
    differs = a[:n] != b[:n]
    first = int(differs.argmax()) if n else 0
    return first if n and differs[first] else n


def _runs(
    sequences: Sequence[np.ndarray], order: list[int], shared: np.ndarray, min_group: int
) -> list[tuple[int, list[int]]]:
    """Runs of neighbours, and how much all of a run begin with in common.

    A run is split where least is shared. The parts that are large enough are split in turn, and
    the others stay together behind what the whole run shares.

    shared   of each in order: what it has in common with the one before it
    """
    lengths = np.array([len(sequences[i]) for i in order])
    before = np.concatenate(([0], np.cumsum(lengths - shared)))  # tokens of a tree, up to each
    found = []
    todo = [(0, len(order))]
    while todo:
        low, high = todo.pop()
        inside = shared[low + 1 : high]
        least = int(inside.min()) if len(inside) else int(lengths[low])
        cuts = low + 1 + np.flatnonzero(inside == least)
        left = []
        borders = [low, *cuts.tolist(), high]
        for start, end in pairwise(borders):
            n_tokens = int(before[end] - before[start] + shared[start]) - least
            if n_tokens >= min_group and end - start > 1:
                todo.append((start, end))
            else:
                left += order[start:end]
        if left:
            found.append((least, left))
    return found


def _rows(
    sequences: Sequence[np.ndarray],
    n_wanted: Sequence[int],
    members: list[int],
    n_stem: int,
    attention: float,
    share: bool,
) -> tuple[Row, ...]:
    """The trees of neighbours, each as large as it pays."""

    def cost(n: int) -> float:
        return n + attention * n * n

    rows = []
    tree = _Tree()
    last = np.zeros(0, np.int64)
    for i in members:
        ids = sequences[i][n_stem:]
        n_shared = _n_shared(last, ids)
        n_joined = tree.n_tokens + len(ids) - n_shared
        equal = n_shared == len(ids) == len(last)
        pays = n_joined <= _ROW and cost(n_joined) < cost(tree.n_tokens) + cost(len(ids))
        if tree.n_tokens and not equal and not (share and pays):
            rows.append(tree.row())
            tree, n_shared = _Tree(), 0
        tree.add(i, ids, n_shared, n_wanted[i])
        last = ids
    rows.append(tree.row())
    return tuple(rows)


@dataclass
class _Tree:
    """A row in the making."""

    n_tokens: int = 0
    path: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # to the last sequence
    tokens: list[np.ndarray] = field(default_factory=list)
    depths: list[np.ndarray] = field(default_factory=list)
    closed: list[tuple[np.ndarray, int]] = field(default_factory=list)
    leaves: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def add(self, number: int, ids: np.ndarray, n_shared: int, n_wanted: int) -> None:
        """Add the sequence of that number, the first `n_shared` of whose tokens are on the path."""
        new = np.arange(self.n_tokens, self.n_tokens + len(ids) - n_shared)
        self.closed.append((self.path[n_shared:], self.n_tokens))
        self.path = np.concatenate((self.path[:n_shared], new))
        self.tokens.append(ids[n_shared:])
        self.depths.append(np.arange(n_shared, len(ids)))
        self.n_tokens += len(new)
        self.leaves.append((number, self.path[len(ids) - n_wanted :]))

    def row(self) -> Row:
        """The finished row."""
        ends = np.full(self.n_tokens, self.n_tokens)
        for places, end in self.closed:
            ends[places] = end
        tokens, depths = np.concatenate(self.tokens), np.concatenate(self.depths)
        return Row(tokens, depths, ends, tuple(self.leaves))
