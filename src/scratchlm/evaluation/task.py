"""What a task is: its file, its items, and what they are made of."""

import re
from dataclasses import dataclass, field
from typing import Literal

from scratchlm.base.errors import ConfigError

Kind = Literal["choices", "continuation", "answers", "text"]
Metric = Literal[
    "acc", "acc_norm", "acc_bytes", "exact_match", "perplexity", "bits_per_byte"
]  # what each means is said in `results.py`
METRICS: dict[Kind, tuple[Metric, ...]] = {
    "choices": ("acc", "acc_norm", "acc_bytes"),
    "continuation": ("acc", "perplexity"),
    "answers": ("exact_match",),
    "text": ("bits_per_byte", "perplexity"),
}


@dataclass(frozen=True)
class Reference:
    """A score that is known of a model."""

    model: str  # its name
    metric: Metric  # which of the task's
    score: float  # a share from 0 to 1, or a perplexity
    source: str  # who measured it, and how; where it differs from this task


@dataclass(frozen=True)
class DataFiles:
    """Where the records of a task lie, in one of the forms that they are spread in."""

    files: tuple[str, ...]  # patterns of paths in the folder
    examples: tuple[str, ...] = ()  # likewise of those that are shown before the question
    columns: tuple[str, ...] = ()  # names of the columns of a table that does not name them
    lines: tuple[str, ...] = ()  # plain text: names of the lines of each record
    beside: dict[str, str] = field(default_factory=dict)  # field -> file with one line a record
    prompt: str | None = None  # in place of the task's; so are the next ones
    choices: tuple[str, ...] = ()
    answer: str | None = None
    names: tuple[str, ...] = ()
    subject: str | None = None


@dataclass(frozen=True)
class TaskFile:
    """What a task file holds."""

    measures: str  # what the task measures
    measures_zh: str  # the same in Chinese
    source: str  # who made it, and where it is described
    url: str  # where it is from
    license: str  # of the data
    kind: Kind  # choices, continuation, answers: how it is scored
    metrics: tuple[Metric, ...]  # the first is the task's own
    data: tuple[DataFiles, ...]  # the first whose files are there is read
    data_set: str = ""  # its name in `corpus get`
    prompt: str = ""  # template: what the model reads
    choices: tuple[str, ...] = ()  # templates; or one, of a field that is a list
    answer: str = ""  # template: the text; of choices: the number from 0, or one of `names`
    names: tuple[str, ...] = ()  # what answers are called: templates; or one, of a list
    separator: str = " "  # between prompt and choice or answer
    subject: str = ""  # template: items of one subject belong together; {_path.0} is the file
    description: str = ""  # template: stands before everything
    subjects: dict[str, str] = field(default_factory=dict)  # what {_subject} is in templates
    fewshot: int = 0  # examples before each question: the first ones, of its subject
    clean: tuple[tuple[str, str], ...] = ()  # regular expressions and what replaces them
    stop: tuple[str, ...] = ()  # answers: strings that end them
    max_new_tokens: int = 256  # answers: their longest
    extract: str = ""  # answers: a regular expression; its first group is compared
    ignore: tuple[str, ...] = ()  # answers: regular expressions, taken out before comparing
    ignore_case: bool = False  # answers: A is a
    references: tuple[Reference, ...] = ()  # scores that are known

    def __post_init__(self) -> None:
        for metric in self.metrics or ("none",):
            if metric not in METRICS[self.kind]:
                allowed = ", ".join(METRICS[self.kind])
                raise ConfigError(
                    f"metrics = {list(self.metrics)}: kind {self.kind} has {allowed}."
                )
        if self.kind == "choices" and not (self.choices or all(d.choices for d in self.data)):
            raise ConfigError("choices is missing: kind choices needs their templates.")
        if self.fewshot and not all(d.examples for d in self.data):
            raise ConfigError(f"fewshot = {self.fewshot} needs data.examples, files to take from.")
        for pattern in (*(found for found, _ in self.clean), self.extract, *self.ignore):
            try:
                re.compile(pattern)
            except re.error as bad:
                raise ConfigError(f"{pattern!r} is no regular expression: {bad}.") from None


@dataclass(frozen=True, slots=True)
class Item:
    """One question.

    id        the same whatever folder the data lie in
    subject   "" where the task has none
    place     the record, for messages
    prompt    what the model reads, examples included
    choices   without the separator before them; of kind continuation and text the text itself
    right     which of the choices, from 0
    answer    of kind answers: the right one as it is written
    n_before  characters of the prompt that come before the question: description and examples
    """

    id: str
    subject: str
    place: str
    prompt: str
    choices: tuple[str, ...] = ()
    right: int = 0
    answer: str = ""
    n_before: int = 0

    @property
    def text(self) -> str:
        """All that is this item's own: the question and the answers."""
        return "\n".join((self.prompt[self.n_before :], *self.choices, self.answer))


@dataclass(frozen=True)
class Task:
    """A task with its items, which are at least one."""

    name: str
    about: TaskFile
    items: tuple[Item, ...]

    def requests(self, item: Item) -> list[tuple[str, str]]:
        """Context and continuation of each choice."""
        return [(item.prompt, self.about.separator + choice) for choice in item.choices]
