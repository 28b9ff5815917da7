"""Answers that the model writes, compared with the right ones."""

import re
from collections import deque
from collections.abc import Sequence

from scratchlm.base.errors import ConfigError
from scratchlm.base.log import warn
from scratchlm.base.progress import Progress
from scratchlm.evaluation.results import Outcome, TaskResult
from scratchlm.evaluation.task import Task, TaskFile
from scratchlm.generation.engine import Engine
from scratchlm.generation.prompt import encode_prompt
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request


def answer_task(engine: Engine, task: Task) -> TaskResult:
    """Let the model write the answers of a task of kind answers, greedily, and compare them.

    An answer may fill half of the context at most; a warning says where the task grants more.

    engine    with a tokenizer
    raises    what `write` raises
    """
    assert task.about.kind == "answers"
    assert engine.tokenizer is not None
    about = task.about
    prompts = [encode_prompt(engine.tokenizer, item.prompt) for item in task.items]
    longest = min(about.max_new_tokens, max(1, engine.max_seq_len // 2))
    if longest < about.max_new_tokens:
        warn(
            f"{task.name}: answers end after {longest} tokens, half of the model's context, "
            f"instead of {about.max_new_tokens}."
        )
    texts, n_cut = write(engine, prompts, about.stop, longest)
    outcomes = []
    for item, text in zip(task.items, texts, strict=True):
        right, given = comparable(item.answer, about), comparable(text, about)
        match = float(right == given and right is not None)
        outcomes.append(Outcome(item.id, item.subject, {"exact_match": match}, text, item.answer))
    facts = {"requests": len(prompts), "cut": n_cut}
    return TaskResult(task.name, about.metrics, tuple(outcomes), about.references, facts)


def comparable(text: str, about: TaskFile) -> str | None:
    """What of an answer is compared: None where the pattern to be extracted is not in it."""
    if about.extract:
        found = re.search(about.extract, text)
        if found is None:
            return None
        text = found[1] if found.re.groups else found[0]
    for pattern in about.ignore:
        text = re.sub(pattern, "", text)
    text = text.strip()
    return text.lower() if about.ignore_case else text


def write(
    engine: Engine, prompts: Sequence[Sequence[int]], stop: Sequence[str], max_new_tokens: int
) -> tuple[list[str], int]:
    """The greedy continuation of each prompt, up to a stop string, an end token or the length.

    prompts   ids
    returns   the texts, without the stop string, and how many prompts lost their beginnings,
              because they left no room in the context for `max_new_tokens`; a warning says so
    raises    ConfigError where nothing of a prompt would be left; what `Engine.add` raises
    """
    room = engine.max_seq_len - max_new_tokens
    if room < 1:
        raise ConfigError(
            f"max_new_tokens = {max_new_tokens} leaves no room for a prompt in the model's context "
            f"of {engine.max_seq_len} tokens. Use less."
        )
    n_cut = sum(len(ids) > room for ids in prompts)
    if n_cut:
        warn(
            f"{n_cut:,} of {len(prompts):,} prompts leave no room for {max_new_tokens} tokens in "
            f"the model's context of {engine.max_seq_len:,}: their beginnings were cut off."
        )
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=0.0, stop=tuple(stop))
    waiting = deque(enumerate(prompts))
    texts = [""] * len(prompts)
    numbers: dict[int, int] = {}
    with Progress("answering", len(prompts), "answers") as progress:
        while waiting or numbers:
            while waiting and len(numbers) < engine.max_batch:
                i, ids = waiting.popleft()
                numbers[engine.add(Request(ids[-room:], sampling))] = i
            engine.step()
            for number, i in list(numbers.items()):
                tokens = engine.collect(number)
                texts[i] += "".join(token.text for token in tokens)
                if tokens and tokens[-1].finish:
                    del numbers[number]
                    progress.advance(1)
    return texts, n_cut
