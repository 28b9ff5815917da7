"""Answers of a model to conversations, many at a time: what is shown before and after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.examples.conversations import Conversation
from scratchlm.generation.engine import Engine
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer

LONGEST = 256  # tokens of an answer
TOGETHER = 16  # answers that are written at a time


@dataclass(frozen=True)
class Answer:
    """What a model said; `ended` by itself, not by the number of tokens."""

    text: str
    ended: bool


def prompt_of(conversation: Conversation) -> tuple[dict[str, str], ...]:
    """The messages before the last answer."""
    messages = conversation.messages
    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    return messages[:last]


def answer_all(
    model: Transformer,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    conversations: Sequence[Conversation],
    *,
    n_tokens: int = LONGEST,
    what: str = "answering",
) -> list[Answer]:
    """Greedy answers to what is asked last in each conversation, in their order.

    Prompts that leave no room for an answer are not answered: "", not ended.
    """
    model.eval()
    ends = tuple(template.answer_end())
    engine = Engine(model, tokenizer, max_batch=TOGETHER)
    sampling = Sampling(max_new_tokens=n_tokens, temperature=0.0)
    numbers: dict[int, int] = {}
    parts: list[list[str]] = [[] for _ in conversations]
    ended = [False] * len(conversations)
    for i, conversation in enumerate(conversations):
        ids = template.encode(prompt_of(conversation))
        if len(ids) < model.config.max_seq_len:
            numbers[engine.add(Request(ids, sampling, ends=ends, window=True))] = i
    with Progress(what, len(numbers), unit="answers") as progress:
        left = set(numbers)
        while left:
            engine.step()
            for number in sorted(left):
                for token in engine.collect(number):
                    parts[numbers[number]].append(token.text)
                    if token.finish:
                        ended[numbers[number]] = token.finish == "stop"
                        left.discard(number)
            progress.update(len(numbers) - len(left))
    return [Answer("".join(p), end) for p, end in zip(parts, ended, strict=True)]


def side_by_side(
    conversations: Sequence[Conversation],
    before: Sequence[Answer],
    after: Sequence[Answer],
    show: Callable[[str], None] = print,
) -> None:
    """Print what was asked, what was wished for, and both answers."""
    for i, (one, old, new) in enumerate(zip(conversations, before, after, strict=True), 1):
        prompt = prompt_of(one)
        wished = one.messages[len(prompt)]["content"]
        show(f"--- question {i} of {len(conversations)}, {one.place} ---\n{prompt[-1]['content']}")
        for name, text in (("wished for", wished), ("before", old.text), ("after", new.text)):
            show(f"[{name}] {text.strip()}")
        show("")
    n = sum(one.ended for one in after)
    say(f"{n} of {len(after)} answers ended by themselves")
