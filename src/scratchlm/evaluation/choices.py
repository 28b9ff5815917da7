"""Multiple choice and continuations, judged by how likely the model finds them."""

from collections.abc import Sequence

import numpy as np

from scratchlm.evaluation.likelihood import Likelihood, Scorer
from scratchlm.evaluation.results import Outcome, TaskResult
from scratchlm.evaluation.task import Item, Metric, Task


def score_task(scorer: Scorer, task: Task) -> TaskResult:
    """Score a task of kind choices or continuation.

    returns   outcomes in the order of the items; ties go to the first choice, as in
              lm-evaluation-harness
    raises    what `Scorer.loglikelihoods` raises
    """
    assert task.about.kind in ("choices", "continuation")
    requests = [request for item in task.items for request in task.requests(item)]
    cut_before = scorer.n_cut
    found = scorer.loglikelihoods(requests)
    outcomes, start = [], 0
    for item in task.items:
        own = found[start : start + len(item.choices)]
        start += len(own)
        outcomes.append(
            _continued(item, own[0]) if task.about.kind == "continuation" else _chosen(item, own)
        )
    facts = {"requests": len(requests), "cut": scorer.n_cut - cut_before}
    about = task.about
    return TaskResult(task.name, about.metrics, tuple(outcomes), about.references, facts)


def _continued(item: Item, one: Likelihood) -> Outcome:
    values: dict[Metric, float] = {"acc": float(one.greedy), "perplexity": -one.nats}
    return Outcome(item.id, item.subject, values, "", item.choices[0])


def _chosen(item: Item, likelihoods: Sequence[Likelihood]) -> Outcome:
    nats = np.array([one.nats for one in likelihoods])
    by: dict[Metric, np.ndarray] = {
        "acc": nats,
        "acc_norm": nats / [len(choice) for choice in item.choices],
        "acc_bytes": nats / [len(choice.encode()) for choice in item.choices],
    }
    values = {metric: float(scores.argmax() == item.right) for metric, scores in by.items()}
    others = np.delete(nats, item.right)
    return Outcome(
        item.id,
        item.subject,
        values,
        given=item.choices[int(nats.argmax())],
        right=item.choices[item.right],
        margin=float(nats[item.right] - others.max()) if len(others) else None,
    )
