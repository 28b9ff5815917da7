"""What came of a task: every item's outcome, the scores, and two models side by side.

acc           share of items whose right choice is the likeliest; of continuations, of which
              each token is the likeliest
acc_norm      the same, each choice's log-probability divided by its characters, as
              lm-evaluation-harness has it
acc_bytes     the same, divided by its bytes in UTF-8
exact_match   share of answers that are written as the right one
perplexity    e to the mean negative log-probability of the continuations, each counted whole
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchlm.base.errors import DataError
from scratchlm.evaluation.statistics import (
    Difference,
    Interval,
    bootstrap_mean,
    compare_paired,
    wilson,
)
from scratchlm.evaluation.task import Metric, Reference


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one item.

    values   by metric: 1 for right and 0 for wrong; of perplexity the nats
    given    what the model chose or wrote; "" of continuations
    right    what is right
    margin   nats by which the right choice is likelier than the best other one, below 0 where the
             other one is; None where nothing was chosen
    """

    id: str
    subject: str
    values: Mapping[Metric, float]
    given: str
    right: str
    margin: float | None = None


@dataclass(frozen=True)
class TaskResult:
    """A task's outcomes, in the order of its items, and what is known of the task."""

    task: str
    metrics: tuple[Metric, ...]
    outcomes: tuple[Outcome, ...]
    references: tuple[Reference, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # more that a reader should know

    def values(self, metric: Metric) -> np.ndarray:
        """(n,) float64: of each item, as `Outcome.values`."""
        return np.array([outcome.values[metric] for outcome in self.outcomes])

    @property
    def subjects(self) -> list[str]:
        """Of each item."""
        return [outcome.subject for outcome in self.outcomes]

    def score(self, metric: Metric) -> float:
        """The mean over the items; of perplexity e to it."""
        return _finished(metric, float(self.values(metric).mean()))

    def interval(self, metric: Metric, *, clustered: bool = False, seed: int = 0) -> Interval:
        """The 95 % interval of the score: Wilson's for shares, else by a bootstrap.

        clustered   by subject, as if other subjects could have been asked
        """
        values = self.values(metric)
        if metric != "perplexity" and not clustered:
            return wilson(round(values.sum()), len(values))
        found = bootstrap_mean(values, clusters=self.subjects if clustered else None, seed=seed)
        low, high = _finished(metric, found.low), _finished(metric, found.high)
        return Interval(low, high, found.level)

    def by_subject(self, metric: Metric) -> dict[str, tuple[float, int]]:
        """Of each subject its score and how many items it has, in order of their first ones."""
        found: dict[str, list[float]] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.subject, []).append(outcome.values[metric])
        return {
            subject: (_finished(metric, math.fsum(values) / len(values)), len(values))
            for subject, values in found.items()
        }

    def against(
        self, other: "TaskResult", metric: Metric, *, clustered: bool = False, seed: int = 0
    ) -> Difference:
        """This result less the other model's, on the same items.

        Perplexity is compared as nats: below 0 is better.

        raises   DataError where the items are not the same
        """
        mine, theirs = ({one.id: one for one in r.outcomes} for r in (self, other))
        if self.task != other.task or mine.keys() != theirs.keys():
            raise DataError(
                f"the results of {self.task} ({len(mine)} items) and {other.task} ({len(theirs)} "
                "items) are not of the same items, so they cannot be compared pair by pair. Run "
                "both models on the same data and limit."
            )
        return compare_paired(
            [theirs[i].values[metric] for i in mine],
            [one.values[metric] for one in mine.values()],
            clusters=self.subjects if clustered else None,
            seed=seed,
        )


def _finished(metric: Metric, mean: float) -> float:
    return math.exp(min(mean, 700.0)) if metric == "perplexity" else mean
