"""Patterns to tables that cut a text at one look-up for each character (kernels/bpe.h).

A state is a list of places in the pattern, the preferred one first (Thompson 1968, with the
priorities of Cox, swtch.com/~rsc/regexp/regexp2.html). Whether a match has ended is told by the
character behind it, so that a place can ask what follows.
"""

from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
from tokenizers import Regex, decoders, pre_tokenizers

from scratchlm.native.bpe import Cuts
from scratchlm.tokenizer.pattern import (
    DIGITS,
    Chain,
    Chars,
    Either,
    Node,
    NotBefore,
    Repeat,
    UnknownPattern,
    may_be_empty,
)

_N_CODES = 0x110000
_MAX_CLASSES = 200  # the kernel has bytes for them
_MAX_ENTRIES = (1 << 15) - 256  # a place and a bit are 16 bits, and a row is added at the end
_MAX_NODES = 10_000

State = tuple[int, ...]


@cache
def cuts_of(patterns: tuple[Node, ...]) -> Cuts:
    """The tables of patterns that cut one after the other.

    raises   UnknownPattern where one can match the empty text, or needs too large a table
    """
    if any(map(may_be_empty, patterns)):
        raise UnknownPattern("it matches the empty text")
    machines = [_Machine(pattern) for pattern in patterns]
    sets = sorted({chars for machine in machines for chars in machine.sets}, key=repr)
    classes, holds = _classes(sets)
    members = dict(zip(sets, holds, strict=True))
    stride = holds.shape[1] + 2
    rows: list[list[int]] = [[0] * stride]
    starts = [machine.write(rows, members, stride) for machine in machines]
    tables = np.array(rows, dtype=np.uint16).reshape(-1)
    return Cuts(classes, tables, np.array(starts, dtype=np.uint16), stride)


def _classes(sets: Sequence[Chars]) -> tuple[np.ndarray, np.ndarray]:
    """Code points that no set tells apart share a class.

    returns   (0x110000,) uint8, the classes; (sets, classes) bool, whether a set has a class
    """
    if not sets:  # nothing cuts
        return np.zeros(_N_CODES, dtype=np.uint8), np.zeros((0, 1), dtype=bool)
    edges = [np.zeros(1, dtype=np.int64), *map(_edges, sets)]
    starts = np.unique(np.concatenate(edges))
    starts = starts[starts < _N_CODES]
    signatures = np.array([_holds(chars, starts) for chars in sets])
    different, which = np.unique(signatures, axis=1, return_inverse=True)
    if different.shape[1] > _MAX_CLASSES:
        raise UnknownPattern("it has too many classes of characters")
    lengths = np.diff(starts, append=_N_CODES)
    return np.repeat(which.reshape(-1).astype(np.uint8), lengths), different


def _edges(chars: Chars) -> np.ndarray:
    """Code points at which membership may change."""
    ranges = [edge for first, last in chars.ranges for edge in (first, last + 1)]
    return np.concatenate([np.array(ranges, dtype=np.int64), *map(edges_of_kind, chars.kinds)])


def _holds(chars: Chars, codes: np.ndarray) -> np.ndarray:
    found = np.zeros(len(codes), dtype=bool)
    for first, last in chars.ranges:
        found |= (codes >= first) & (codes <= last)
    for kind in chars.kinds:
        found |= np.searchsorted(edges_of_kind(kind), codes, side="right") % 2 == 1
    return found != chars.negated


@cache
def edges_of_kind(kind: str) -> np.ndarray:
    """The code points at which a named set begins, ends, begins again and so on.

    The `tokenizers` library is asked: its engine has a version of Unicode of its own.
    """
    codes, text = _asked()
    if kind == DIGITS:
        pieces = pre_tokenizers.Digits(individual_digits=False).pre_tokenize_str(text)
        return codes[[start for _, (start, _) in pieces[1:]]]  # U+0000 is none, then by turns
    # a decoder, since it does not keep track of places: a thirtieth of the time
    others = decoders.Replace(Regex(f"{kind}+"), "").decode([text])
    found = np.ones(len(codes), dtype=bool)
    found[np.searchsorted(codes, np.frombuffer(others.encode("utf-32-le"), dtype="<u4"))] = False
    return codes[np.flatnonzero(np.diff(found, prepend=False))]


@cache
def _asked() -> tuple[np.ndarray, str]:
    """All code points but those that are as the one before them: surrogates, and planes of private
    use or that are not in use.
    """
    parts = ((0, 0xD800), (0xE000, 0x40001), (0xE0000, 0xE1001))
    codes = np.concatenate([np.arange(*part, dtype=np.uint32) for part in parts])
    return codes.astype(np.int64), codes.astype("<u4").tobytes().decode("utf-32-le")


class _Machine:
    """The places of one pattern.

    sets   the characters that it asks for
    """

    def __init__(self, pattern: Node) -> None:
        # (Chars, next): goes on behind such a character; (NotBefore, next): goes on if none
        # follows; [places]: any of them, the first preferred; None: a match
        self._nodes: list[tuple[Chars | NotBefore, int] | list[int] | None] = [None]
        self._start = self._build(pattern, 0)

    @cached_property
    def sets(self) -> set[Chars]:
        parts = [node[0] for node in self._nodes if isinstance(node, tuple)]
        return {part.chars if isinstance(part, NotBefore) else part for part in parts}

    def _add(self, node: tuple[Chars | NotBefore, int] | list[int]) -> int:
        if len(self._nodes) == _MAX_NODES:
            raise UnknownPattern("it is too long")
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _build(self, node: Node, after: int) -> int:
        """The place from which `node` and then `after` are matched."""
        match node:
            case Chars() | NotBefore():
                return self._add((node, after))
            case Chain(parts):
                for part in reversed(parts):
                    after = self._build(part, after)
                return after
            case Either(choices):
                return self._add([self._build(choice, after) for choice in choices])
            case Repeat(part, least, most):
                place = self._build_many(part, None if most is None else most - least, after)
                for _ in range(least):
                    place = self._build(part, place)
                return place

    def _build_many(self, part: Node, most: int | None, after: int) -> int:
        if most is None:
            ways: list[int] = []
            place = self._add(ways)
            ways += [self._build(part, place), after]
            return place
        place = after
        for _ in range(most):
            place = self._add([self._build(part, place), after])
        return place

    def write(self, rows: list[list[int]], members: dict[Chars, np.ndarray], stride: int) -> int:
        """Append a row for each state; returns the place of the first."""
        begin: State = (self._start,)
        numbers: dict[State, int] = {(): 0, begin: len(rows)}
        rows.append([])
        waiting = [begin]
        while waiting:
            state = waiting.pop()
            row = []
            for kind in [*range(stride - 2), None]:
                following, matched = self._step(state, kind, members)
                if following not in numbers:
                    numbers[following] = len(rows)
                    rows.append([])
                    waiting.append(following)
                    if len(rows) * stride > _MAX_ENTRIES:
                        raise UnknownPattern("its table is too large")
                row.append(numbers[following] * stride << 1 | matched)
            row.insert(-1, numbers[state] * stride << 1)  # inside a character nothing changes
            rows[numbers[state]] = row
        first = [*rows[numbers[begin]]]
        first[-2] = 0  # and nothing begins
        rows.append(first)
        return (len(rows) - 1) * stride

    def _step(
        self, state: State, kind: int | None, members: dict[Chars, np.ndarray]
    ) -> tuple[State, bool]:
        """Where a state goes with a class of characters (None: the end), and whether a match ends
        in front of it. What comes after a match in the list is not preferred to it: it is dropped.
        """
        following: dict[int, None] = {}
        seen: set[int] = set()
        stack = list(reversed(state))
        while stack:
            place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            node = self._nodes[place]
            if node is None:
                return tuple(following), True
            if isinstance(node, list):
                stack += reversed(node)
                continue
            part, after = node
            if isinstance(part, Chars):
                if kind is not None and members[part][kind]:
                    following[after] = None
            elif kind is None or not members[part.chars][kind]:
                stack.append(after)
        return tuple(following), False
