"""An evaluation as tables for a terminal, aligned also where letters are two columns wide."""

from collections.abc import Iterator, Sequence

from scratchlm.base.duration import duration
from scratchlm.base.progress import counted, in_bytes
from scratchlm.evaluation.statistics import Interval
from scratchlm.evaluation.summary import (
    SHARES,
    Evaluation,
    JudgeSummary,
    ModelFacts,
    OverlapSummary,
    Score,
    TaskSummary,
    TextSummary,
)
from scratchlm.report.facts import readable
from scratchlm.report.letters import cells

_WIDEST = 44  # columns of a name
_LEFT = "<"  # before the heading of a column that is not of numbers


def as_table(evaluation: Evaluation, *, subjects: bool = True) -> str:
    """All tables of an evaluation that have rows, ending with a line end.

    subjects   with a row for each subject of a task
    """
    sections = [
        "\n".join(_models(evaluation)),
        _aligned(
            ("<task", "<metric", "score", "95 % interval", "items", "<known"),
            [row for task in evaluation.tasks for row in _task_rows(task, subjects)],
        ),
        _aligned(
            (
                "<text",
                "bits/byte",
                "95 % interval",
                "perplexity",
                "nats/token",
                "tokens",
                "<window",
            ),
            [_text_row(text) for text in evaluation.texts],
        ),
        _aligned(
            ("<against", "<metric", "this", "other", "difference", "95 % interval", "p"),
            [_comparison_row(evaluation, i) for i in range(len(evaluation.comparisons))],
        ),
        "\n".join(_judge_lines(evaluation.judge)) if evaluation.judge else "",
        _overlaps(evaluation),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def shown_value(metric: str, value: float) -> str:
    """A value as its metric is written: a share in per cent, others in figures that say enough."""
    if metric in SHARES:
        return f"{100 * value:.2f}%"
    if metric == "bits_per_byte":
        return f"{value:.4f}"
    return f"{value:,.2f}" if abs(value) < 1e6 else f"{value:.3g}"


def shown_interval(metric: str, interval: Interval | None) -> str:
    """An interval as text; "" for none."""
    if interval is None:
        return ""
    low, high = (shown_value(metric, end) for end in (interval.low, interval.high))
    return f"{low.removesuffix('%')} to {high}"


def shown_difference(metric: str, value: float) -> str:
    """A difference with its sign; of shares in points, of perplexity in nats."""
    if metric in SHARES:
        return f"{100 * value:+.2f}"
    return f"{value:+.4f}" + " nats" * (metric == "perplexity")


def shown_p(p_value: float) -> str:
    """A p-value; what is very small is not given a false precision."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _models(evaluation: Evaluation) -> Iterator[str]:
    yield f"model    {_model(evaluation.model)}"
    if evaluation.against:
        yield f"against  {_model(evaluation.against)}"
    if evaluation.seconds:
        yield f"took     {duration(evaluation.seconds)}"


def _model(model: ModelFacts) -> str:
    facts = [_name(model.name, 200)]
    if model.n_parameters:
        facts.append(f"{model.n_parameters:,} parameters")
    facts += [fact for fact in (model.dtype, model.device) if fact]
    return ", ".join(facts)


def _task_rows(task: TaskSummary, subjects: bool) -> Iterator[list[str]]:
    for i, score in enumerate(task.scores):
        known = [
            f"{shown_value(one.metric, one.score)} {_name(one.model)}"
            for one in task.references
            if one.metric == score.metric
        ]
        name = _name(task.name) if i == 0 else ""
        yield [name, *_score_cells(score), "; ".join(known)]
    for subject in task.subjects if subjects else ():
        value = shown_value(task.scores[0].metric, subject.value)
        yield [f"  {_name(subject.name)}", "", value, "", f"{subject.n:,}", ""]


def _score_cells(score: Score) -> list[str]:
    value = shown_value(score.metric, score.value)
    return [score.metric, value, shown_interval(score.metric, score.interval), f"{score.n:,}"]


def _text_row(text: TextSummary) -> list[str]:
    bits = text.bits_per_byte
    return [
        _name(text.name),
        "" if bits is None else shown_value("bits_per_byte", bits),
        shown_interval("bits_per_byte", text.interval),
        shown_value("perplexity", text.perplexity),
        f"{text.loss_nats:.4f}",
        f"{text.n_targets:,}",
        f"{text.seq_len:,}, stride {text.stride:,}, {in_bytes(text.n_bytes)}",
    ]


def _comparison_row(evaluation: Evaluation, i: int) -> list[str]:
    one = evaluation.comparisons[i]
    before = evaluation.comparisons[i - 1].name if i else None
    low, high = (
        shown_difference(one.metric, end)
        for end in (one.difference.interval.low, one.difference.interval.high)
    )
    return [
        "" if one.name == before else _name(one.name),
        one.metric,
        shown_value(one.metric, one.ours),
        shown_value(one.metric, one.theirs),
        shown_difference(one.metric, one.difference.mean),
        f"{low.removesuffix(' nats')} to {high}",
        shown_p(one.difference.p_value),
    ]


def _judge_lines(judge: JudgeSummary) -> Iterator[str]:
    interval = shown_interval("judge", judge.score.interval)
    yield f"judge    {_name(judge.model, 80)} at {_name(judge.url, 80)}"
    yield (
        f"score    {judge.score.value:.2f} of {judge.low:g} to {judge.high:g}"
        + (f" (95 % interval {interval})" if interval else "")
        + f", {counted(judge.score.n, 'answer')}"
    )
    yield f"prompt   {_name(judge.prompt, 2000)}"
    for reason, n in judge.failures.items():
        yield f"no score {counted(n, 'answer')}: {_name(reason, 300)}"


def _overlaps(evaluation: Evaluation) -> str:
    """Which texts the model was trained on, and what it scores on the others."""
    rows, notes = [], []
    all_of_them: list[TaskSummary | TextSummary] = [*evaluation.tasks, *evaluation.texts]
    for one in all_of_them:
        if one.overlap is None:
            continue
        clean = one.clean[0] if isinstance(one, TaskSummary) and one.clean else None
        rows.append(_overlap_row(one.name, one.overlap, clean))
        notes += [f"not searched: {_name(why, 300)}" for why in one.overlap.not_searched]
    heads = ("<trained on", "items", "found", "share", "too short", "score of the others")
    return "\n".join(filter(None, [_aligned(heads, rows), *dict.fromkeys(notes)]))


def _overlap_row(name: str, overlap: OverlapSummary, clean: Score | None) -> list[str]:
    found, n = overlap.n_found, overlap.n_items
    return [
        _name(name),
        f"{n:,}",
        "?" if found is None else f"{found:,}",
        "?" if found is None else f"{100 * found / max(1, n):.1f}%",
        f"{overlap.n_too_short:,}",
        shown_value(clean.metric, clean.value) if clean else "",
    ]


def _name(text: str, most: int = _WIDEST) -> str:
    """A foreign text on one line that moves no cursor, at most so many columns wide."""
    line = " ".join(readable(text).split())
    if cells(line) <= most:
        return line
    while cells(line) >= most:
        line = line[:-1]
    return line + "\u2026"


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns without anything in them are left out. "" without rows."""
    if not rows:
        return ""
    used = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    lines = [[heads[i].removeprefix(_LEFT) for i in used]] + [
        [row[i] for i in used] for row in rows
    ]
    widths = [max(cells(line[k]) for line in lines) for k in range(len(used))]
    return "\n".join(
        "  ".join(
            _padded(cell, width, left=heads[i].startswith(_LEFT))
            for i, cell, width in zip(used, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _padded(cell: str, width: int, *, left: bool) -> str:
    gap = " " * (width - cells(cell))
    return cell + gap if left else gap + cell
