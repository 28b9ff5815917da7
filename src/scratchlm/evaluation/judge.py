"""A judge: a larger model at some endpoint reads free answers and gives each a score.

A judge is another model's opinion: it likes long answers and its own kin, and an answer may try to
talk it round. So the prompt travels with the scores, and what got no score is counted, not guessed.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.progress import Progress
from scratchlm.base.runtime import secret
from scratchlm.evaluation.judge_client import PAUSES_S, Endpoint, NoReply

# Raschka, Build a Large Language Model (From Scratch), chapter 7, listing 7.11
PROMPT = (
    "Given the input `{prompt}` and correct output `{reference}`, score the model response "
    "`{answer}` on a scale from 0 to 100, where 100 is the best score. Respond with the integer "
    "number only."
)
# The same for tasks that have no one right answer.
PROMPT_WITHOUT_REFERENCE = (
    "Given the input `{prompt}`, score the model response `{answer}` on a scale from 0 to 100, "
    "where 100 is the best score. Respond with the integer number only."
)
GIVE_UP = 5  # answers in a row for which the endpoint could not be reached

_PLACES = re.compile(r"\{(prompt|reference|answer)\}")
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)  # before the reply, in some servers
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """What was asked, what a model answered, and what would have been right (None: not known)."""

    prompt: str
    answer: str
    reference: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The judge's reply on one answer.

    score     None where there is none: `failure` then says why
    """

    score: float | None
    reply: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Judged:
    """The verdicts on all answers, in their order, and how they came about."""

    url: str
    model: str
    prompt: str
    low: float
    high: float
    verdicts: tuple[Verdict, ...]

    @property
    def scores(self) -> list[float]:
        """Those that were given."""
        return [one.score for one in self.verdicts if one.score is not None]

    @property
    def mean(self) -> float:
        """Of the scores that were given; there is at least one."""
        return sum(self.scores) / len(self.scores)

    @property
    def failures(self) -> dict[str, int]:
        """Answers without a score, by the reason."""
        return dict(Counter(one.failure for one in self.verdicts if one.failure).most_common())


@dataclass(frozen=True)
class Judge:
    """A model behind an OpenAI-compatible endpoint, and what it is asked.

    prompt    with {answer}, and {prompt} and {reference} where they are wanted
    key       None: the endpoint wants none
    """

    url: str  # of an endpoint: https://api.openai.com/v1, http://127.0.0.1:11434/v1 (ollama)
    model: str  # its name there
    key: str | None = field(default=None, repr=False)  # what `read_key` gives
    prompt: str = PROMPT  # what it is asked, and how it is to answer
    low: float = 0.0  # the worst score
    high: float = 100.0  # the best score
    concurrency: int = 4  # answers that are asked about at a time
    timeout_s: float = 60.0  # for one reply
    pauses_s: tuple[float, ...] = PAUSES_S  # before an endpoint that fails is asked again

    def __post_init__(self) -> None:
        if "{answer}" not in self.prompt:
            raise ConfigError(
                "judge prompt does not have {answer}, so the judge would not see the answer. Put "
                "it where the answer is to stand."
            )
        if not self.low < self.high:
            raise ConfigError(f"judge scale {self.low:g} to {self.high:g} has no room for scores.")
        if self.concurrency < 1 or not self.timeout_s > 0:
            raise ConfigError(
                f"judge concurrency = {self.concurrency} and timeout_s = {self.timeout_s:g} must "
                "be above 0."
            )
        if not self.model:
            raise ConfigError("judge model is empty. Name the model that the endpoint is to use.")
        _ = self.endpoint  # which has checks of its own

    @cached_property
    def endpoint(self) -> Endpoint:
        """Who is asked."""
        return Endpoint(self.url, self.key, self.timeout_s, self.pauses_s)

    def score(self, answers: Sequence[Answer]) -> Judged:
        """Ask about each answer, several at a time, at temperature 0.

        raises   ConfigError for a key, address or model that the endpoint refuses, and for answers
                 that lack the reference which the prompt asks for; DataError where no answer at all
                 got a score
        """
        prompts = [self._prompt(answer, i) for i, answer in enumerate(answers)]
        verdicts = self._ask_all(prompts)
        judged = Judged(self.url, self.model, self.prompt, self.low, self.high, tuple(verdicts))
        if not judged.scores:
            reason = next(iter(judged.failures), "there was none to ask about")
            raise DataError(
                f"{self.url} gave no score to any of {len(verdicts)} answers: {reason}."
            )
        return judged

    def _ask_all(self, prompts: Sequence[str]) -> list[Verdict]:
        talk = _Talk(self)
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="judge")
        try:
            with Progress("judging", len(prompts), "answers") as progress:
                verdicts = []
                for verdict in pool.map(talk.verdict, prompts):
                    verdicts.append(verdict)
                    progress.advance(1)
                return verdicts
        finally:
            talk.stop.set()  # an error or Ctrl-C: no thread asks on, or waits for long
            pool.shutdown(cancel_futures=True)

    def _prompt(self, answer: Answer, i: int) -> str:
        """The prompt with its places filled, in one pass: texts may have braces of their own."""
        if answer.reference is None and "{reference}" in self.prompt:
            raise ConfigError(
                f"answer {i + 1} has no reference, and the judge's prompt asks for one. Give "
                "references, or a prompt without {reference}."
            )
        values = {"prompt": answer.prompt, "reference": answer.reference, "answer": answer.answer}
        return _PLACES.sub(lambda found: values[found[1]] or "", self.prompt)


class _Talk:
    """What the threads share."""

    def __init__(self, judge: Judge) -> None:
        self.stop = threading.Event()
        self._judge = judge
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._why = ""

    def verdict(self, prompt: str) -> Verdict:
        """Ask about one answer; once the endpoint is gone, nobody is asked any more."""
        if self.stop.is_set():
            return Verdict(None, failure=f"not asked, since the endpoint was gone: {self._why}")
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self._judge.model, "messages": messages, "temperature": 0}
        try:
            reply = self._judge.endpoint.reply(body, self.stop)
        except ConfigError as refused:  # everything would be
            self._end(str(refused))
            raise
        except NoReply as bad:
            self._count(bad)
            return Verdict(None, failure=bad.reason)
        self._count(None)
        score = parse_verdict(reply, self._judge.low, self._judge.high)
        failure = "" if score is not None else "the reply is no score"
        return Verdict(score, reply, failure)

    def _count(self, bad: NoReply | None) -> None:
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if bad and bad.passing else 0
            if bad and self._in_a_row >= GIVE_UP:
                self._end(bad.reason)

    def _end(self, why: str) -> None:
        self._why = self._why or why
        self.stop.set()


def parse_verdict(reply: str, low: float, high: float) -> float | None:
    """The score in a reply that is nothing but JSON: a number, or an object with "score".

    A fence of Markdown around it and thoughts before it may be there, other words may not: of
    "95, not 100" nobody knows what is meant.

    returns   None for a reply of another kind, or a score outside of [low, high]
    """
    text = _THOUGHTS.sub("", reply).strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1]
    try:
        value = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = value.get("score")
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    return float(value)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def read_key(variable: str) -> str | None:
    """The judge's key, from the environment variable of that name; "" asks for none.

    raises   ConfigError where it is not set
    """
    if not variable:
        return None
    key = secret(variable)
    if not key:
        raise ConfigError(
            f"judge key = {variable!r} names an environment variable that is not set. Set it to "
            "the key, or leave the name empty for an endpoint without one."
        )
    return key
