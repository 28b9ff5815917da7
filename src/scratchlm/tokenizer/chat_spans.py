"""What the assistant wrote, found in a conversation that a template has rendered.

Where the template bounds it with `{% generation %}`, that is it. Elsewhere an answer begins where
the prompt for it ends: the messages before it, rendered with the beginning of an answer. Where it
ends, a mark behind its last word tells, once it is sure that the mark has changed nothing else. The
end token belongs to it, whatever follows does not.
"""

import os
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.chat_disguise import Names
from scratchlm.tokenizer.chat_worker import Rendered, Task
from scratchlm.tokenizer.offsets import Span

Message = dict[str, Any]
_LONGEST_END = 16  # characters of an end that is no control token: an empty line, "###"


@dataclass(frozen=True)
class Ending:
    """What a template writes behind an answer.

    behind    all of it, where the answer is the last message
    closing   the part that belongs to the answer: up to the last control token of it
    tokens    the control tokens in that; none where text ends an answer
    others    those that stand there instead where another message follows
    """

    behind: str
    closing: str
    tokens: tuple[str, ...]
    others: frozenset[str]

    def end(self, text: str, at: int) -> int | None:
        """Where the end of an answer ends that was written up to a place; None: there is none."""
        if not self.tokens:
            return at + len(self.closing) if text.startswith(self.closing, at) else at
        if found := self._pattern.match(text, at):
            return found.end()
        return None if text[at:].strip() else len(text)  # some leave the last answer open

    def is_open(self, text: str) -> bool:
        """Whether a text that ends with an answer lacks the control token that ends it."""
        return bool(self.tokens) and not text.rstrip().endswith((self.tokens[-1], *self.others))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        one, n = _any(self.others.union(self.tokens)), len(self.tokens)
        return re.compile(rf"\s*(?:{re.escape(self.closing.lstrip())}|(?:{one}){{1,{n}}})")


def read_ending(last: str, followed: str, names: Iterable[str], openers: Container[str]) -> Ending:
    """How answers end, from what stands behind one.

    last       where it is the last message
    followed   where another message follows; "" if the template does not take that
    names      of all control tokens
    openers    those that a conversation begins with: they end nothing
    """
    name = re.compile(_any(names) or "(?!)")

    def tokens(text: str) -> list[re.Match[str]]:
        found = list(name.finditer(text))
        n = next((k for k, one in enumerate(found) if k and one[0] in openers), len(found))
        return found[:n] if found and not text[: found[0].start()].strip() else []

    def run(text: str) -> list[str]:
        found = tokens(text)
        joined = (k for k, (a, b) in enumerate(pairwise(found), 1) if a.end() != b.start())
        return [one[0] for one in found[: next(joined, len(found))]]

    ends = tokens(last)
    if not ends:  # some write no end behind the last answer
        ends = tokens(followed)[:1]
        short = last if len(last) <= _LONGEST_END else ""
        closing = followed[: ends[0].end()] if ends else short
        return Ending(last, closing, tuple(one[0] for one in ends), frozenset())
    common = len(os.path.commonprefix([last, followed]))  # noqa: RUF071 (no paths)
    n = sum(one.end() <= common for one in ends) or len(run(last))
    own = tuple(one[0] for one in ends[:n])
    return Ending(last, last[: ends[n - 1].end()], own, frozenset(run(followed)[:n]))


def _any(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))


def marked_messages(
    messages: list[Message], marks: Sequence[str]
) -> tuple[list[Message], dict[int, str]]:
    """The conversation with a mark behind the last word of each answer, and which mark where.

    An answer without words has none.
    """
    marked, placed = list(messages), {}
    for (number, message), mark in zip(answers(messages), marks):
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        last = next((part for part in reversed(parts) if _words(part)), None)
        if last is None:
            continue
        core = last["text"].rstrip()
        changed = {**last, "text": core + mark + last["text"][len(core) :]}
        parts = [changed if part is last else part for part in parts]
        new = parts if isinstance(content, list) else parts[0]["text"]
        marked[number] = {**message, "content": new}
        placed[number] = mark
    return marked, placed


def _words(part: Any) -> bool:
    text = part.get("text") if isinstance(part, dict) else None
    return isinstance(text, str) and bool(text.strip())


def answers(messages: list[Message]) -> list[tuple[int, Message]]:
    """The assistant's messages, each with its number from 0."""
    return [(n, one) for n, one in enumerate(messages) if one["role"] == "assistant"]


class Finder:
    """Finds the answers of one conversation.

    messages   as the template saw them
    rendered   them, with the prompts of all answers and the marked messages
    placed     the mark in each answer that has one
    names      of control tokens, of which none is cut
    render     renders some more, as a task says
    """

    def __init__(
        self,
        messages: list[Message],
        rendered: Rendered,
        placed: dict[int, str],
        ending: Ending,
        names: Names,
        render: Callable[[Task], Rendered],
    ) -> None:
        self._messages, self._text = messages, rendered.text
        self._blocks = rendered.blocks
        numbers = [number for number, _ in answers(messages)]
        self._prompts = dict(zip(numbers, rendered.prompts))
        self._ending, self._names, self._render = ending, names, render
        self._words_end = _places(rendered, placed)

    def spans(self) -> list[Span]:
        """First character and the one behind the last of each answer, in order.

        raises   DataError for an answer that cannot be told from the rest
        """
        if self._blocks:
            return [span for block in self._blocks if (span := self._with_end(block))]
        return [self._span(number, one) for number, one in answers(self._messages)]

    def _with_end(self, block: Span) -> Span | None:
        start, end = block
        if self._ending.is_open(self._text[start:end]):
            end = self._ending.end(self._text, end) or end
        return (start, end) if end > start else None

    def _span(self, number: int, message: Message) -> Span:
        words_end, prompt = self._words_end.get(number), self._prompts[number]
        if words_end is None and prompt and not _content(message).strip():
            words_end = prompt[0]
        if words_end is None:
            return self._by_prefix(number)
        start = self._start(message, prompt, words_end)
        end = self._ending.end(self._text, words_end)
        return self._by_prefix(number) if start is None or end is None else (start, end)

    def _start(
        self, message: Message, prompt: tuple[int, int] | None, words_end: int
    ) -> int | None:
        """Where an answer begins; None: that cannot be told."""
        if prompt and prompt[0] == prompt[1]:
            return prompt[0]
        shared = self._names.start_of(self._text, prompt[0]) if prompt else None
        before, core = self._text[:words_end], _content(message).rstrip()
        core = core if before.endswith(core) else core.lstrip()
        if before.endswith(core):
            begin = words_end - len(core)
            return begin if shared is None else min(begin, shared)
        return shared if shared is not None and shared <= words_end else None  # thoughts are out

    def _by_prefix(self, number: int) -> Span:
        """By rendering the conversation up to this answer."""
        prompt, behind = self._prompts[number], self._ending.behind
        whole = self._render(Task(self._messages[: number + 1], False, {})).text
        body = whole.removesuffix(behind)
        if prompt and prompt[0] == prompt[1] and self._text.startswith(body):
            end = self._ending.end(self._text, len(body))
            if end is not None and (whole != body or not behind):
                return prompt[0], end
        raise DataError(
            f"message {number + 1} is the assistant's, and the chat template writes it so that it "
            "cannot be told from the rest. Use a template that bounds answers by "
            "{% generation %} and {% endgeneration %}."
        )


def _places(rendered: Rendered, placed: dict[int, str]) -> dict[int, int]:
    """Where each mark stands in the text; nothing where marks have changed the text."""
    marked = rendered.marked or ""
    every = re.compile("|".join(placed.values()) or "(?!)")
    if every.sub("", marked) != rendered.text:
        return {}
    found = [
        (match[0], match.start() - before) for before, match in enumerate(every.finditer(marked))
    ]
    places = dict(found) if len(dict(found)) == len(found) else {}
    return {number: places[mark] for number, mark in placed.items() if mark in places}


def _content(message: Message) -> str:
    content = message.get("content") or ""
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
