"""Messages in disguise: what people wrote cannot be taken for a control token.

Every control token begins with one of a few characters, "<" and "[" mostly. Where such a character
stands in a message, another takes its place that no text has, while the template runs. However the
template cuts, joins, trims or repeats messages, the rendering then tells by the character who wrote
it: the template, whose "<|im_end|>" is a control token, or a person, whose "<|im_end|>" is text. A
message keeps its length, its white space and its lines, so that templates write what they would
have written; but one that looks for its own marks in the words of a user no longer finds them.

The assistant's words are left alone but where they spell a control token that begins or ends turns:
templates take thoughts out of them, and models are trained to write "<think>" as one token.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.definition import build_backend
from scratchlm.tokenizer.tokenizer import Tokenizer

_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")  # characters without a meaning
_DISGUISES, _MARKS = range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)
_BMP = [*range(0x80, 0xD800), *range(0xE000, 0x10000)]
_ROLE = re.compile(r"[\w .-]{1,64}")
_REASONING = ("reasoning_content", "thinking", "reasoning")  # the names that transformers knows


class Names:
    """The names of a tokenizer's control tokens, found in texts.

    firsts   characters that a name may begin with, or that the tokenizer's normalizer makes into
             such
    loose    the tokenizer finds names also where they are spelled otherwise
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._names = {name.lstrip() for name in tokenizer.special_tokens}
        self._lengths = sorted({len(name) for name in self._names}, reverse=True)
        first = {name[0] for name in self._names}
        variants, self.loose = _variants(tokenizer, first)
        self.firsts = sorted(first | variants)
        self.any_first = re.compile(_one_of(self.firsts))

    def at(self, text: str, start: int) -> str | None:
        """The longest name that stands there."""
        parts = (text[start : start + length] for length in self._lengths)
        return next((part for part in parts if part in self._names), None)

    def leading(self, text: str) -> set[str]:
        """The names that a text begins with, before anything else stands there."""
        found, at = set(), 0
        while name := self.at(text, at):
            found.add(name)
            at += len(name)
        return found

    def start_of(self, text: str, place: int) -> int:
        """Where a name begins that reaches over a place; the place itself where none does."""
        for start in range(place - 1, place - max(self._lengths, default=0), -1):
            if start >= 0 and (name := self.at(text, start)) and start + len(name) > place:
                return start
        return place

    @cached_property
    def _beginnings(self) -> set[str]:
        return {name[:n] for name in self._names for n in range(1, len(name))}

    def ends_within(self, text: str, start: int) -> bool:
        """Whether a text, but for white space, ends in the middle of a name that begins there."""
        rest = text[start:].rstrip() if len(text) - start < 2 * self._lengths[0] else ""
        return rest in self._beginnings


def _variants(tokenizer: Tokenizer, firsts: set[str]) -> tuple[set[str], bool]:
    """Characters that are normalized to a first one, where names are sought after that.

    Names in other letters are found too where letters are normalized; that is the second.
    """
    added = tokenizer.definition.get("added_tokens") or []
    if not tokenizer.definition.get("normalizer") or not any(t.get("normalized") for t in added):
        return set(), False
    normal = build_backend(tokenizer.definition, "tokenizer.json").normalizer.normalize_str
    found = {char for char in map(chr, _BMP) if not firsts.isdisjoint(normal(char))} - firsts
    return found, bool(found) or "A" not in normal("A")


def _one_of(chars: Iterable[str]) -> str:
    """A pattern for one of some characters, or for nothing where there are none."""
    inside = "".join(map(re.escape, chars))
    return f"[{inside}]" if inside else "(?!)"


class Disguise:
    """One conversation in disguise.

    messages   plain values, None left out; then as a template is to see them
    source     of the template, whose characters are no disguise
    own        gives the names that the assistant's messages may hold as tokens
    """

    def __init__(
        self,
        messages: list[dict[str, Any]],
        names: Names,
        source: str,
        own: Callable[[], Container[str]],
    ) -> None:
        self.messages = messages
        self._names, self._own = names, own
        texts = [source, *_texts(messages)]
        self._used = {char for text in texts for char in _PRIVATE.findall(text)}
        self._table: dict[int, str] = {}
        if any(names.any_first.search(text) for text in texts[1:]):
            self._table = {ord(c): other for c, other in zip(names.firsts, self._free(_DISGUISES))}
            self.messages = [self._hidden(message) for message in messages]
        self._back = {ord(other): chr(char) for char, other in self._table.items()}
        self._any_hidden = re.compile(_one_of(map(chr, self._back)))

    def _free(self, numbers: range) -> Iterator[str]:
        return (char for char in map(chr, numbers) if char not in self._used)

    def marks(self, n: int) -> list[str]:
        """So many characters that are in no message."""
        return [char for char, _ in zip(self._free(_MARKS), range(n))]

    def uncover(self, text: str) -> tuple[str, set[int]]:
        """A rendering as it is meant, and the numbers of characters that people wrote."""
        if not self._back:
            return text, set()
        written = {match.start() for match in self._any_hidden.finditer(text)}
        return text.translate(self._back), written

    def _hidden(self, message: dict[str, Any]) -> dict[str, Any]:
        by_assistant = message["role"] == "assistant" and not self._names.loose

        def hide(text: str) -> str:
            if not by_assistant:
                return text.translate(self._table)
            return self._names.any_first.sub(self._replace, text)

        return {
            key: value if key == "role" else _each_text(value, hide)
            for key, value in message.items()
        }

    def _replace(self, match: re.Match[str]) -> str:
        text, start = match.string, match.start()
        name = self._names.at(text, start)
        spells = name not in self._own() if name else self._names.ends_within(text, start)
        return self._table[ord(match[0])] if spells else match[0]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_text(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_each_text(one, change) for one in value]
    return value


def plain_messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copies of messages as transformers gives them to a template: without None, thoughts by name.

    raises   DataError for what is no message: a role that is no word, a value that is no JSON
    """
    copies = []
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise DataError(f"message {number} has the role {role!r:.80}, which is no word.")
        copy = {key: _plain(one, number) for key, one in message.items() if one is not None}
        thought = next((copy[key] for key in _REASONING if key in copy), None)
        if thought is not None:
            copy = {"thinking": thought, **copy, "reasoning_content": thought}
        copies.append(copy)
    return copies


def _plain(value: Any, number: int) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(one, number) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, number) for one in value]
    raise DataError(f"message {number} holds a {type(value).__name__}, which no template takes.")
