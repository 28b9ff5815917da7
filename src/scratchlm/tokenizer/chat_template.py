"""Conversations as the text that a model was trained on: Jinja templates, as the hub has them.

A template comes with a model, so it is a stranger's program: it runs in a process with limits
(`chat_worker.py`). What messages hold is a stranger's text: no control token comes of it
(`chat_disguise.py`).
"""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.chat_disguise import Disguise, Names, plain_messages
from scratchlm.tokenizer.chat_presets import is_ours
from scratchlm.tokenizer.chat_sandbox import Program
from scratchlm.tokenizer.chat_spans import (
    Ending,
    Finder,
    answers,
    marked_messages,
    read_ending,
)
from scratchlm.tokenizer.chat_worker import Rendered, Task, refusal, renderer, run_task
from scratchlm.tokenizer.offsets import Span
from scratchlm.tokenizer.tokenizer import Tokenizer

Messages = Sequence[dict[str, Any]]  # {"role": "user", "content": "..."}

_MARK, _HIDDEN = "\ue000.", "\ue001"  # which no template writes; the end of a sentence
_SYSTEM, _USER, _ANSWER = (
    {"role": role, "content": content}
    for role, content in (("system", "!"), ("user", "?"), ("assistant", _MARK))
)


@dataclass(frozen=True)
class _Told:
    """A conversation as text.

    written   numbers of the characters that people wrote and a control token may begin with
    answers   where the assistant wrote
    """

    text: str
    written: set[int]
    answers: list[Span]


class ChatTemplate:
    """Writes a conversation out as a model has it.

    source      Jinja, as transformers reads it (`apply_chat_template`)
    tokenizer   whose begin and end tokens the template may name
    raises      CheckpointError for a template that does not parse

    Messages are read as text: names of control tokens in them become no control tokens. Only the
    assistant's messages may hold such, if they are not flagged special and begin or end no turn:
    "<think>", where the tokenizer has it.
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        self.source = source
        self._tokenizer = tokenizer
        self._names = Names(tokenizer)
        names = {i: name for name, i in tokenizer.special_tokens.items()}
        roles = ((role, getattr(tokenizer, f"{role}_id")) for role in ("bos", "eos", "pad", "unk"))
        self._tokens = {f"{role}_token": names[i] for role, i in roles if i in names}
        if not is_ours(source):
            renderer(os.getpid()).check(source)

    def render(self, messages: Messages, *, prompt: bool = True, **variables: Any) -> str:
        """The text of a conversation, control tokens by name.

        prompt      the beginning of the model's next answer follows
        variables   further ones that the template asks for, such as enable_thinking
        raises      DataError for messages that the template refuses, and for a template that takes
                    more time or memory than it may
        """
        return self._tell(messages, prompt, variables).text

    def encode(self, messages: Messages, *, prompt: bool = True, **variables: Any) -> list[int]:
        """The ids of `render`."""
        told = self._tell(messages, prompt, variables)
        if not told.written:
            return self._tokenizer.encode(told.text, allowed_special=True)
        return self._tokenizer.offsets(told.text, allowed_special=True, plain=told.written)[0]

    def spans(self, messages: Messages, **variables: Any) -> tuple[str, list[Span]]:
        """The text of a whole conversation, and which characters of it the assistant wrote.

        Each (start, end) has the token that ends the answer in it, not what follows that. Where a
        template leaves the last answer without an end, it gets the end of the others.

        raises   DataError as `render`, and where what the assistant wrote cannot be found
        """
        told = self._tell(messages, False, variables, find=True)
        return told.text, told.answers

    def encode_with_targets(
        self, messages: Messages, only_read: Collection[int] = (), **variables: Any
    ) -> tuple[list[int], list[bool]]:
        """The ids of a whole conversation, and for each whether the assistant wrote any of it.

        only_read   numbers of messages from 0 that are not counted as the assistant's
        raises      as `spans`
        """
        told = self._tell(messages, False, variables, find=True)
        ids, places = self._tokenizer.offsets(told.text, allowed_special=True, plain=told.written)
        targets = [False] * len(ids)
        spans = iter(_learned(messages, told.answers, only_read))
        span = next(spans, None)
        for k, (start, end) in enumerate(places):
            while span and start >= span[1]:
                span = next(spans, None)
            targets[k] = span is not None and max(end, start + 1) > span[0]
        return ids, targets

    def answer_end(self) -> list[int]:
        """The control token that ends an answer, as a list; none where text does."""
        return [self._tokenizer.special_tokens[name] for name in self._ending.tokens[-1:]]

    def _tell(
        self, messages: Messages, prompt: bool, variables: dict[str, Any], *, find: bool = False
    ) -> _Told:
        """Render a conversation; with `find`, find the answers in it."""
        plain = plain_messages(messages)
        disguise = Disguise(plain, self._names, self.source, lambda: self._own_names)
        seen = disguise.messages
        task = Task(seen, prompt, {**self._tokens, **variables})
        if not find:
            text, written = disguise.uncover(self._render(task).text)
            return _Told(text, written, [])
        numbers = tuple(number for number, _ in answers(seen))
        marked, placed = marked_messages(seen, disguise.marks(len(numbers)))
        rendered = self._render(replace(task, marked=marked if placed else None, prompts=numbers))
        more = partial(self._render_more, task.variables)
        found = Finder(seen, rendered, placed, self._ending, self._names, more).spans()
        text, written = disguise.uncover(rendered.text)
        if found and found[-1][1] == len(text) and self._ending.is_open(text):
            text += self._ending.closing  # which the template leaves to whoever goes on
            found[-1] = found[-1][0], len(text)
        return _Told(text, written, found)

    def _render_more(self, variables: dict[str, Any], task: Task) -> Rendered:
        return self._render(replace(task, variables=variables))

    @cached_property
    def _render(self) -> Callable[[Task], Rendered]:
        if not is_ours(self.source):
            return lambda task: renderer(os.getpid()).render(self.source, task)
        program = Program(self.source)

        def run(task: Task) -> Rendered:
            try:
                return run_task(program, task)
            except Exception as bad:  # messages of any shape
                raise refusal(bad) from None

        return run

    def _around(self, *messages: dict[str, Any]) -> tuple[str, str] | None:
        """What stands before and behind the answer; None where the template refuses it."""
        try:
            text = self._render(Task(list(messages), False, dict(self._tokens))).text
        except DataError:
            return None
        before, mark, behind = text.partition(_MARK)
        return (before, behind) if mark else None

    @cached_property
    def _ending(self) -> Ending:
        for first in ((_SYSTEM, _USER), (_USER,)):
            if last := self._around(*first, _ANSWER):
                followed = self._around(*first, _ANSWER, _USER) or ("", "")
                openers = self._names.leading(last[0])
                return read_ending(last[1], followed[1], self._tokenizer.special_tokens, openers)
        return Ending("", "", (), frozenset())

    @cached_property
    def _own_names(self) -> set[str]:
        """Control tokens that the assistant's messages may hold.

        Those that are flagged as text and stand around no message, and those that the template
        looks for in answers: some write empty thoughts into every turn.
        """
        added = self._tokenizer.definition.get("added_tokens") or []
        own = {token["content"] for token in added if not token.get("special")}
        for first in ((_SYSTEM, _USER), (_USER,)):
            if parts := self._around(*first, _ANSWER, _USER):
                around = {name for name in own if name in "".join(parts)}
                read = {name for name in around if self._is_read(name, first)}
                read |= {f"<{name[2:]}" for name in read if name.startswith("</")}
                return own - (around - read)
        return set()

    def _is_read(self, name: str, first: Messages) -> bool:
        """Whether a template writes an answer otherwise for a name in it."""
        hidden = _HIDDEN + name[1:]
        written = [
            self._around(*first, {**_ANSWER, "content": f"a{one}b{_MARK}"})
            for one in (name, hidden)
        ]
        as_name, as_text = ("".join(parts or ("",)) for parts in written)
        return as_name != as_text.replace(_HIDDEN, name[0])


def _learned(messages: Messages, spans: list[Span], only_read: Collection[int]) -> list[Span]:
    """The answers without those that are only read."""
    if not only_read:
        return spans
    numbers = [n for n, one in enumerate(messages) if one["role"] == "assistant"]
    if len(numbers) != len(spans):
        raise DataError(
            f"the chat template marks {len(spans)} generated parts in a conversation of "
            f"{len(numbers)} answers, so that the answers of weight 0 cannot be told from the rest."
        )
    return [span for number, span in zip(numbers, spans) if number not in only_read]
