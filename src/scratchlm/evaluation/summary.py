"""What an evaluation came to: the numbers that are printed, stored and drawn.

The outcomes of every item are in `results.py`; here is what is left to be shown of them, as
`summarise.py` takes it from there. It goes to evaluation.json (format "scratchlm evaluation",
version 1) and comes back equal.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scratchlm.base.config import from_dict, to_dict
from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import read_json, write_json
from scratchlm.evaluation.overlap import SharedText
from scratchlm.evaluation.perplexity import Surprise
from scratchlm.evaluation.statistics import Difference, Interval
from scratchlm.evaluation.task import Reference

FILE = "evaluation.json"
FORMAT = "scratchlm evaluation"
VERSION = 1
AnyMetric = Literal[
    "acc", "acc_norm", "acc_bytes", "exact_match", "perplexity", "bits_per_byte", "accuracy", "f1",
    "judge",
]  # fmt: skip
SHARES = ("acc", "acc_norm", "acc_bytes", "exact_match", "accuracy", "f1")  # 0 to 1
LOWER_IS_BETTER = ("perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Score:
    """A number that was measured on `n` items."""

    metric: AnyMetric
    value: float
    n: int
    interval: Interval | None = None


@dataclass(frozen=True)
class Subject:
    """The score of a part of a task, by its first metric."""

    name: str
    value: float
    n: int


@dataclass(frozen=True)
class OverlapSummary:
    """`Overlap` without the shares of each item; `n_found` is None where nothing was searched."""

    n_items: int
    n_found: int | None = None
    n_too_short: int = 0
    run_lengths: tuple[int, ...] = ()
    n_documents: int = 0
    examples: tuple[SharedText, ...] = ()
    searched: tuple[str, ...] = ()
    not_searched: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShownItem:
    """An item that surprised the model: it held something else for right, and was sure of it.

    margin   nats by which the right choice is likelier than the best other one: below 0
    """

    id: str
    subject: str
    prompt: str
    right: str
    given: str
    margin: float


@dataclass(frozen=True)
class Confusion:
    """How many items of class i (row) were taken for class j."""

    names: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.names)
        if not n or len(self.matrix) != n or any(len(row) != n for row in self.matrix):
            raise DataError(f"a confusion matrix of {n} classes has another number of rows")


@dataclass(frozen=True)
class TaskSummary:
    """What a task came to.

    measures    what it measures, in English and in Chinese
    source      who made it, and where it is described
    scores      the first is the task's own
    references  scores that are known
    subjects    by the first metric
    clean, contaminated   the scores of the items that share nothing with the training text, and of
                those that do; empty where nothing was searched, or there are none
    surprising  wrong items, the surest first
    facts       more that a reader should know
    """

    name: str
    scores: tuple[Score, ...]
    measures: str = ""
    measures_zh: str = ""
    source: str = ""
    references: tuple[Reference, ...] = ()
    subjects: tuple[Subject, ...] = ()
    overlap: OverlapSummary | None = None
    clean: tuple[Score, ...] = ()
    contaminated: tuple[Score, ...] = ()
    surprising: tuple[ShownItem, ...] = ()
    confusion: Confusion | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TextSummary:
    """Loss over a text: `TextLoss` without its parts; perplexity is e to loss_nats.

    interval   of bits per byte
    """

    name: str
    loss_nats: float
    perplexity: float
    n_targets: int
    n_bytes: int
    n_documents: int
    seq_len: int
    stride: int
    begin: str
    bits_per_byte: float | None = None
    interval: Interval | None = None
    n_first: int = 0
    n_unknown: int = 0
    overlap: OverlapSummary | None = None
    surprising: tuple[Surprise, ...] = ()


@dataclass(frozen=True)
class JudgeSummary:
    """What a judge gave: the mean of the scores, and the answers that got none, by the reason."""

    url: str
    model: str
    prompt: str
    low: float
    high: float
    score: Score
    failures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownAnswer:
    """An answer; beside it what the other model answers, and what would have been right.

    before          of the model that this one is held against; None: there is none
    score           the judge's; None: there is none
    """

    prompt: str
    answer: str
    before: str | None = None
    reference: str | None = None
    score: float | None = None
    score_before: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A score beside the other model's, on the same items.

    difference   ours less theirs; of perplexity in nats
    """

    name: str
    metric: AnyMetric
    ours: float
    theirs: float
    difference: Difference


@dataclass(frozen=True)
class ModelFacts:
    """Which model it was, and how it was run."""

    name: str
    n_parameters: int = 0
    dtype: str = ""
    device: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """All of evaluation.json; what is empty was not asked for.

    against   the model that this one is held against
    made      day and time, ISO 8601
    program   the version of scratchlm
    seconds   that it took
    """

    model: ModelFacts
    against: ModelFacts | None = None
    tasks: tuple[TaskSummary, ...] = ()
    texts: tuple[TextSummary, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    judge: JudgeSummary | None = None
    answers: tuple[ShownAnswer, ...] = ()
    made: str = ""
    program: str = ""
    seconds: float = 0.0


def save_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write it as JSON, whole or not at all.

    raises   DataError for a number that JSON does not have
    """
    values = {"format": FORMAT, "version": VERSION, **to_dict(evaluation)}
    if at := _not_finite(values, ""):
        raise DataError(f"{path} is not written: {at} is no finite number.")
    write_json(path, values)


def load_evaluation(path: Path) -> Evaluation:
    """Read what `save_evaluation` wrote.

    raises   DataError for another kind of file, another version, or a damaged one: it names what
             is wrong in it
    """
    values = read_json(path)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise DataError(f"{path} is not a {FORMAT}.")
    if (version := values.pop("version", None)) != VERSION:
        raise DataError(
            f"{path} has version {version}; this program reads version {VERSION}. Use the "
            "scratchlm release that wrote it, or evaluate again."
        )
    try:
        if at := _not_finite(values, ""):
            raise DataError(f"{at} is no finite number")
        return from_dict(Evaluation, values)
    except (ConfigError, DataError, TypeError) as wrong:
        raise DataError(f"{path} is damaged ({wrong}). Evaluate again.") from None


def _not_finite(value: Any, at: str) -> str:
    """The place of the first number that is infinite or none; "" where all are finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return at
    inside: Any = ()
    if isinstance(value, Mapping):
        inside = ((f"{at}.{key}" if at else key, item) for key, item in value.items())
    elif isinstance(value, list):
        inside = ((f"{at}[{i}]", item) for i, item in enumerate(value))
    return next(filter(None, (_not_finite(item, place) for place, item in inside)), "")
