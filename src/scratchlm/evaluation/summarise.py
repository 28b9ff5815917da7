"""From the results of an evaluation to what is kept of them: a few items, texts cut short."""

from collections.abc import Sequence

from scratchlm.evaluation.bits import bits_interval
from scratchlm.evaluation.classification import ClassScores
from scratchlm.evaluation.judge import Judged
from scratchlm.evaluation.overlap import Overlap, SharedText
from scratchlm.evaluation.perplexity import Surprise, TextLoss
from scratchlm.evaluation.results import Outcome, TaskResult
from scratchlm.evaluation.statistics import bootstrap_mean, wilson
from scratchlm.evaluation.summary import (
    Comparison,
    Confusion,
    JudgeSummary,
    OverlapSummary,
    Score,
    ShownItem,
    Subject,
    TaskSummary,
    TextSummary,
)
from scratchlm.evaluation.task import Task

SHOWN = 20  # items of a task that are kept to be shown
CHARS = 2000  # of a text that is kept to be shown


def summarise_task(task: Task, result: TaskResult, overlap: Overlap | None = None) -> TaskSummary:
    """What is kept of a task's result.

    overlap   of the task's items, in their order: splits the scores into clean and contaminated
    """
    own = result.metrics[0]
    by_subject = result.by_subject(own)
    found = overlap.found if overlap else None
    clean, contaminated = (
        _scores(_part(result, found, chosen)) if found else () for chosen in (False, True)
    )
    return TaskSummary(
        name=result.task,
        scores=_scores(result),
        measures=task.about.measures,
        measures_zh=task.about.measures_zh,
        source=task.about.source,
        references=result.references,
        subjects=tuple(Subject(name, *score) for name, score in by_subject.items() if name),
        overlap=summarise_overlap(overlap) if overlap else None,
        clean=clean,
        contaminated=contaminated,
        surprising=_surprising(task, result.outcomes),
        facts=dict(result.facts),
    )


def _scores(result: TaskResult) -> tuple[Score, ...]:
    n = len(result.outcomes)
    if not n:
        return ()
    return tuple(
        Score(metric, result.score(metric), n, result.interval(metric)) for metric in result.metrics
    )


def _part(result: TaskResult, found: frozenset[int], chosen: bool) -> TaskResult:
    """The items that are among those found, or those that are not."""
    outcomes = tuple(one for i, one in enumerate(result.outcomes) if (i in found) == chosen)
    return TaskResult(result.task, result.metrics, outcomes)


def _surprising(task: Task, outcomes: Sequence[Outcome]) -> tuple[ShownItem, ...]:
    prompts = {item.id: item.prompt for item in task.items}
    wrong = [(one.margin, one) for one in outcomes if one.margin is not None and one.margin < 0]
    wrong.sort(key=lambda pair: pair[0])
    return tuple(
        ShownItem(
            one.id,
            one.subject,
            _end(prompts.get(one.id, "")),
            one.right[:CHARS],
            one.given[:CHARS],
            margin,
        )
        for margin, one in wrong[:SHOWN]
    )


def _end(prompt: str) -> str:
    """The end of a prompt, where the question is: examples stand before it."""
    return prompt if len(prompt) <= CHARS else "\u2026" + prompt[-CHARS:]


def summarise_text(name: str, loss: TextLoss, overlap: Overlap | None = None) -> TextSummary:
    """What is kept of the loss over a text."""
    return TextSummary(
        name=name,
        loss_nats=loss.loss_nats,
        perplexity=loss.perplexity,
        n_targets=loss.n_targets,
        n_bytes=loss.n_bytes,
        n_documents=loss.n_documents,
        seq_len=loss.seq_len,
        stride=loss.stride,
        begin=loss.begin,
        bits_per_byte=loss.bits_per_byte,
        interval=bits_interval(loss),
        n_first=loss.n_first,
        n_unknown=loss.n_unknown,
        overlap=summarise_overlap(overlap) if overlap else None,
        surprising=tuple(
            Surprise(one.place, one.text[:CHARS], one.loss_nats) for one in loss.surprising
        ),
    )


def summarise_judge(judged: Judged) -> JudgeSummary:
    """What is kept of a judge's verdicts; the interval of the mean is a bootstrap's."""
    scores = judged.scores
    interval = bootstrap_mean(scores) if len(scores) > 1 else None
    score = Score("judge", judged.mean, len(scores), interval)
    return JudgeSummary(
        judged.url, judged.model, judged.prompt, judged.low, judged.high, score, judged.failures
    )


def compare_tasks(ours: TaskResult, theirs: TaskResult) -> tuple[Comparison, ...]:
    """Each metric of a task beside the other model's.

    raises   DataError where the items are not the same
    """
    return tuple(
        Comparison(
            ours.task,
            metric,
            ours.score(metric),
            theirs.score(metric),
            ours.against(theirs, metric),
        )
        for metric in ours.metrics
    )


def summarise_overlap(overlap: Overlap) -> OverlapSummary:
    """What is kept of an overlap."""
    examples = (SharedText(one.item, one.place, one.text[:CHARS]) for one in overlap.examples)
    return OverlapSummary(
        n_items=overlap.n_items,
        n_found=overlap.n_found,
        n_too_short=overlap.n_too_short,
        run_lengths=overlap.run_lengths,
        n_documents=overlap.n_documents,
        examples=tuple(examples),
        searched=overlap.searched,
        not_searched=overlap.not_searched,
    )


def summarise_classes(name: str, names: Sequence[str], scores: ClassScores) -> TaskSummary:
    """What is kept of a classification: accuracy, macro F1, and who is taken for whom.

    name    of the labelled texts
    names   of the classes
    """
    n, matrix = scores.n_texts, scores.matrix
    right = sum(row[i] for i, row in enumerate(matrix))
    return TaskSummary(
        name=name,
        scores=(
            Score("accuracy", scores.accuracy, n, wilson(right, n)),
            Score("f1", scores.f1, n),
        ),
        confusion=Confusion(tuple(names), tuple(map(tuple, matrix))),
    )
