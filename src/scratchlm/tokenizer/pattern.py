"""The patterns that tokenizers cut text by, read as trees: the part of Oniguruma's language that
they use. Anything else raises UnknownPattern, and the `tokenizers` library goes on alone.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

DIGITS = "Digits"  # a kind that has no name in patterns: what the part Digits takes for digits
_PROPERTY = re.compile(r"[pP]\{\w+\}")
_BOUNDS = re.compile(r"\{(\d{1,3})(?:(,)(\d{1,3})?)?\}")
_CONTROL = {"n": "\n", "r": "\r", "t": "\t"}
_SIGNS = frozenset(".^$|()*+?{}[]\\")
# Case-insensitive groups are read where they are these: in others a letter may equal two.
_FOLDED = ("'s|'t|'re|'ve|'m|'ll|'d", "[sdmt]|ll|ve|re")
_LONG_S = "\u017f"  # the one character beyond ASCII that equals a letter of these


class UnknownPattern(Exception):
    """A pattern, or another rule of a tokenizer.json, that our own code does not know."""


@dataclass(frozen=True)
class Chars:
    """One character of a set.

    ranges    first and last code points
    kinds     named sets: what a pattern writes for them, or DIGITS
    negated   all other characters instead
    """

    ranges: tuple[tuple[int, int], ...] = ()
    kinds: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True)
class NotBefore:
    """The empty text, where no such character follows."""

    chars: Chars


@dataclass(frozen=True)
class Chain:
    """One part after the other."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Either:
    """The first choice that leads to a match."""

    choices: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """As many as there are, from `least` to `most` (None: any number)."""

    part: "Node"
    least: int
    most: int | None


Node = Chars | NotBefore | Chain | Either | Repeat


def parse(pattern: str) -> Node:
    """Read a pattern.

    raises   UnknownPattern
    """
    parser = _Parser(pattern)
    tree = parser.either(folds=False)
    if parser.rest:
        parser.refuse()
    return tree


def may_be_empty(node: Node) -> bool:
    """Whether it matches the empty text somewhere."""
    match node:
        case Chars():
            return False
        case NotBefore():
            return True
        case Chain(parts):
            return all(map(may_be_empty, parts))
        case Either(choices):
            return any(map(may_be_empty, choices))
        case Repeat(part, least, _):
            return least == 0 or may_be_empty(part)


class _Parser:
    """Recursive descent over what is left of a pattern."""

    def __init__(self, pattern: str) -> None:
        self.rest = pattern

    def refuse(self) -> NoReturn:
        raise UnknownPattern(self.rest)

    def either(self, *, folds: bool) -> Node:
        choices = [self._chain(folds)]
        while self._take("|"):
            choices.append(self._chain(folds))
        return choices[0] if len(choices) == 1 else Either(tuple(choices))

    def _take(self, sign: str) -> bool:
        found = self.rest.startswith(sign)
        self.rest = self.rest[len(sign) * found :]
        return found

    def _next(self) -> str:
        if not self.rest:
            self.refuse()
        char, self.rest = self.rest[0], self.rest[1:]
        return char

    def _chain(self, folds: bool) -> Node:
        parts = []
        while self.rest and self.rest[0] not in "|)":
            parts.append(self._repeated(folds))
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def _repeated(self, folds: bool) -> Node:
        part = self._part(folds)
        simple = {"?": (0, 1), "*": (0, None), "+": (1, None)}
        if self.rest[:1] in simple:
            least, most = simple[self._next()]
        elif bounds := _BOUNDS.match(self.rest):
            self.rest = self.rest[bounds.end() :]
            least = int(bounds[1])
            most = int(bounds[3]) if bounds[3] else None if bounds[2] else least
        else:
            return part
        # a second sign makes it lazy or possessive
        if (
            may_be_empty(part)
            or (most is not None and most < least)
            or self.rest[:1] in set("?*+{")
        ):
            self.refuse()
        return Repeat(part, least, most)

    def _part(self, folds: bool) -> Node:
        if self._take("(?:"):
            return self._closed(self.either(folds=folds))
        if self._take("(?!"):
            part = self._part(folds=False)
            return self._closed(NotBefore(part)) if isinstance(part, Chars) else self.refuse()
        if self._take("(?i:"):
            if not self.rest.startswith(tuple(f"{known})" for known in _FOLDED)):
                self.refuse()
            return self._closed(self.either(folds=True))
        if self._take("["):
            return self._set(folds)
        char = self._char() if self.rest[:1] == "\\" or self.rest[:1] not in _SIGNS else None
        if char is None:
            self.refuse()
        return _one(char, folds) if isinstance(char, str) else char

    def _closed(self, node: Node) -> Node:
        return node if self._take(")") else self.refuse()

    def _char(self) -> str | Chars:
        """A character that stands for itself, or a named set."""
        if not self._take("\\"):
            return self._next()
        if named := _PROPERTY.match(self.rest):
            self.rest = self.rest[named.end() :]
            return Chars(kinds=(f"\\{named[0]}",))
        char = self._next()
        if char in "sS":
            return Chars(kinds=(f"\\{char}",))
        if char in _CONTROL:
            return _CONTROL[char]
        return char if char.isascii() and not char.isalnum() else self.refuse()

    def _set(self, folds: bool) -> Chars:
        """What follows [, up to its ]."""
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        kinds: tuple[str, ...] = ()
        while not self._take("]"):
            if self.rest[:1] in ("[", "-") or self.rest.startswith("&&"):
                self.refuse()
            char = self._char()
            if isinstance(char, Chars):
                kinds += char.kinds
            elif self._take("-"):
                last = self._char() if self.rest[:1] not in ("[", "]") else self.refuse()
                if not isinstance(last, str) or folds or last < char:
                    self.refuse()
                ranges.append((ord(char), ord(last)))
            else:
                ranges += _one(char, folds).ranges
        return Chars(tuple(ranges), kinds, negated) if ranges or kinds else self.refuse()


def _one(char: str, folds: bool) -> Chars:
    """This character, and its other cases if it `folds`."""
    same = {char}
    if folds:
        same |= {char.lower(), char.upper(), *(_LONG_S if char in "sS" else "")}
    return Chars(tuple((ord(other), ord(other)) for other in sorted(same)))
