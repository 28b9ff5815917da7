"""Examples: what a person wrote down, as ids with a target wherever something is to be learned.

    conversation   targets where the assistant wrote, its end token among them
    label          one target, the class, at the text's last token
    preference     two segments: the chosen answer (0) and the rejected one (1)

Imports without torch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from scratchlm.base.errors import DataError
from scratchlm.base.log import warn
from scratchlm.data.rows import IGNORE
from scratchlm.examples.conversations import Conversation, Preference
from scratchlm.examples.labels import Labelled
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer

OnLong = Literal["drop", "cut", "refuse"]
_SHOWN = 5  # places that a message names


@dataclass(frozen=True)
class Example:
    """One example, all parts (n,) int64.

    tokens     ids that the model reads
    targets    what it shall answer at each of them, IGNORE where nothing is learned
    segments   numbers from 0 on: parts that do not see each other; None: one part
    place      where the user finds it
    """

    tokens: np.ndarray
    targets: np.ndarray
    place: str
    segments: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_segments(self) -> int:
        """How many parts do not see each other."""
        return 1 if self.segments is None else int(self.segments[-1]) + 1


def of_conversation(conversation: Conversation, template: ChatTemplate) -> Example:
    """A conversation; its targets are what the assistant wrote, each answer with its end.

    An answer whose message has the weight 0 is read and not learned (OpenAI's fine-tuning format).

    raises   DataError for a conversation that the template refuses
    """
    only_read = {n for n, one in enumerate(conversation.messages) if one.get("weight") == 0}
    try:
        ids, learned = template.encode_with_targets(conversation.messages, only_read)
    except DataError as bad:
        raise DataError(f"{conversation.place}: {bad}") from None
    tokens = np.asarray(ids, dtype=np.int64)
    targets = np.where(np.asarray(learned[1:], dtype=bool), tokens[1:], IGNORE)
    if conversation.n_prompt:
        prompt = template.encode(conversation.messages[: conversation.n_prompt])
        if ids[: len(prompt)] != prompt:
            raise DataError(f"{conversation.place}: {_why_apart(conversation, template)}")
        targets[: len(prompt) - 1] = IGNORE
    return Example(tokens[:-1], targets, conversation.place)


def _why_apart(conversation: Conversation, template: ChatTemplate) -> str:
    """Why the ids of a prompt are not those that an answered one begins with."""
    prompt = template.render(conversation.messages[: conversation.n_prompt])
    if template.render(conversation.messages, prompt=False).startswith(prompt):
        return (
            f"the chat template ends a prompt with {prompt[-12:]!r}, whose end becomes one token "
            "with the beginning of an answer, so that the answer alone cannot be learned. Let it "
            "end the prompt with a control token or a line break, not with a blank."
        )
    return (
        "the chat template writes the prompt in another way once it is answered, so that the "
        "answer alone cannot be learned."
    )


def of_text(text: str, place: str, tokenizer: Tokenizer, seq_len: int) -> list[Example]:
    """A text in rows of so many tokens, behind a begin token where its maker puts one."""
    ids = np.asarray([*tokenizer.encode(text, bos=tokenizer.begins), *tokenizer.joint()[:1]])
    return [
        Example(ids[at : at + seq_len + 1][:-1], ids[at + 1 : at + seq_len + 1], place)
        for at in range(0, len(ids) - 1, seq_len)
    ]


def of_label(item: Labelled, number: int, tokenizer: Tokenizer) -> Example:
    """A text whose last token has the number of its class as its target.

    raises   DataError for a text without tokens
    """
    tokens = text_ids(item.text, tokenizer)
    if not len(tokens):
        raise DataError(f"{item.place}: the text is empty.")
    targets = np.full_like(tokens, IGNORE)
    targets[-1] = number
    return Example(tokens, targets, item.place)


def text_ids(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """A text that is to be classified as ids: with the begin token where its maker puts one."""
    return np.asarray(tokenizer.encode(text, bos=tokenizer.begins), dtype=np.int64)


def of_preference(pair: Preference, template: ChatTemplate) -> Example:
    """Two answers to one prompt, side by side; targets are the last answer of each.

    raises   DataError for what the template refuses, and for answers that do not differ as ids
    """
    n = len(pair.prompt)
    parts = [
        of_conversation(Conversation((*pair.prompt, *answer), pair.place, pair.form, n), template)
        for answer in (pair.chosen, pair.rejected)
    ]
    if np.array_equal(parts[0].tokens, parts[1].tokens):
        raise DataError(f"{pair.place}: chosen and rejected are the same to the model.")
    return Example(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.targets for part in parts]),
        pair.place,
        np.repeat(np.arange(2), [len(part) for part in parts]),
    )


@dataclass
class Fitted:
    """What became of examples that are longer than the context.

    examples   those that are left, none longer than it
    long       places of those that were longer
    empty      places of those in which nothing was left to learn
    """

    examples: list[Example]
    on_long: OnLong
    seq_len: int
    long: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def report(self) -> None:
        """Say how many were dropped or cut, and where."""
        if self.long:
            done = "were left out" if self.on_long == "drop" else "lost their end"
            warn(
                f"{len(self.long)} examples are longer than {self.seq_len} tokens and {done}: "
                f"{_listed(self.long)}. Raise --seq-len to keep them whole."
            )
        if self.empty:
            warn(
                f"{len(self.empty)} examples had nothing left to learn and were left out: "
                f"{_listed(self.empty)}."
            )


def fit(
    examples: Iterable[Example], seq_len: int, on_long: OnLong, purpose: str = "learn from"
) -> Fitted:
    """Keep examples within a context.

    purpose  of these examples, for messages: "learn from", "validate by"
    raises   DataError where a long one is to be refused, and where no example is left
    """
    done = Fitted([], on_long, seq_len)
    for example in examples:
        if len(example) > seq_len:
            if on_long == "refuse":
                raise DataError(
                    f"{example.place} has {len(example)} tokens, and --seq-len is {seq_len}. Raise "
                    "it, shorten the example, or set --long to drop or cut."
                )
            done.long.append(example.place)
            if on_long == "drop":
                continue
            example = _cut(example, seq_len)
        if not (example.targets != IGNORE).any():
            done.empty.append(example.place)
            continue
        done.examples.append(example)
    if not done.examples:
        raise DataError(
            f"no example is left to {purpose}: {len(done.long)} have more than {seq_len} tokens "
            f"(raise --seq-len, or set --long cut), and in {len(done.empty)} nothing is to be "
            "learned (every answer has the weight 0, or the template writes none)."
        )
    return done


def _cut(example: Example, seq_len: int) -> Example:
    """The first tokens; the class of a text goes with its last one."""
    targets = example.targets[:seq_len].copy()
    labelled = np.flatnonzero(example.targets != IGNORE)
    if len(labelled) == 1:
        targets[-1] = example.targets[labelled[0]]
    return Example(example.tokens[:seq_len], targets, example.place)


def _listed(places: Sequence[str]) -> str:
    more = len(places) - _SHOWN
    return ", ".join(places[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def check(example: Example, vocab_size: int, ends: Callable[[int], bool]) -> None:
    """What must hold of a whole conversation, before it is cut to the context.

    ends     whether an id ends an answer
    raises   DataError for an id outside the vocabulary, and for an answer whose end is not learned
    """
    if (most := int(example.tokens.max())) >= vocab_size:
        raise DataError(
            f"{example.place} has the id {most}, and the model only {vocab_size} ids: its "
            "tokenizer is another one."
        )
    learned = np.flatnonzero(example.targets != IGNORE)
    if len(learned) and not ends(int(example.targets[learned[-1]])):
        raise DataError(
            f"{example.place}: the last answer is learned without its end token, so the model "
            "would never stop. Mend the chat template: an answer ends with a control token."
        )
