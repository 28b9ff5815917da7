"""An evaluation as one HTML page that loads nothing, holds no script, and shows any text as text.

It stands behind the same three walls as a corpus report (`report/page.py`): every text is made
readable, jinja2 escapes all of them, and a policy allows one style sheet, named by its hash.
"""

import dataclasses
from pathlib import Path
from typing import Any

from scratchlm.base.duration import duration
from scratchlm.evaluation.page_words import EvaluationWords
from scratchlm.evaluation.statistics import Interval
from scratchlm.evaluation.summary import (
    SHARES,
    Comparison,
    Confusion,
    Evaluation,
    TaskSummary,
    TextSummary,
)
from scratchlm.evaluation.summary_table import (
    shown_difference,
    shown_interval,
    shown_p,
    shown_value,
)
from scratchlm.evaluation.task import Reference
from scratchlm.report.confusion import confusion_svg
from scratchlm.report.facts import readable
from scratchlm.report.page import (
    MOST_BYTES,
    by_number,
    cut,
    linked,
    page_style,
    page_template,
    policy_of,
)
from scratchlm.report.words import Language

_FOLDER = Path(__file__).parent / "template"
_ROOMS = ((800, 100), (400, 50), (160, 20), (60, 6))  # characters of a text, rows of a list
_MOST_CHARS = 8000  # of any text: more than the largest room shows
_DASH = " \u2013 "  # between the ends of an interval, in any language
_MOST_SHOWN = 8  # items of a task, windows of a text, matches of a set


def render_evaluation(evaluation: Evaluation, language: Language = "en") -> str:
    """The page. Texts and lists are cut as far as it takes to stay below two million bytes."""
    shown = _readable(evaluation)
    template = page_template(_FOLDER, "evaluation.html")
    for chars, rows in _ROOMS:
        page = template.render(_facts(shown, EvaluationWords(language), chars, rows))
        if len(page.encode()) < MOST_BYTES:
            return page
    raise AssertionError(f"{len(page):,} characters of a page that has cut everything")


def _readable(value: Any) -> Any:
    """The same tree with every text as `readable` makes it."""
    if isinstance(value, str):
        return readable(value[:_MOST_CHARS])
    if isinstance(value, tuple | list):
        return type(value)(map(_readable, value))
    if isinstance(value, dict):
        return {readable(key): _readable(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return type(value)(**{one.name: _readable(getattr(value, one.name)) for one in fields})
    return value


def _facts(e: Evaluation, words: EvaluationWords, chars: int, rows: int) -> dict[str, Any]:
    """Everything that evaluation.html names."""
    style = page_style() + (_FOLDER / "evaluation.css").read_text("utf-8")
    all_of_them: list[TaskSummary | TextSummary] = [*e.tasks, *e.texts]
    overlaps = [one for one in all_of_them if one.overlap is not None]
    missing = [why for one in overlaps if one.overlap for why in one.overlap.not_searched]
    return {
        "e": e,
        "w": words,
        "chars": chars,
        "rows": rows,
        "most_shown": _MOST_SHOWN,
        "style": style,
        "policy": policy_of(style),
        "sections": _sections(e, bool(overlaps)),
        "figures": _figures(e, words),
        "overlaps": overlaps,
        "not_searched": list(dict.fromkeys(missing)),
        "lengths": _lengths(overlaps),
        "cut": lambda text, most=chars: cut(text, min(most, 5 * chars)),
        "few": lambda items: items[:rows],
        "by_number": by_number,
        "linked": linked,
        "number": shown_value,
        "interval": lambda *of: shown_interval(*of).replace(" to ", _DASH),
        "between": _between,
        "signed": shown_difference,
        "p": shown_p,
        "bar_of": _bar,
        "difference_of": _difference_bar(e.comparisons),
        "confusion": lambda found: _confusion(found, words),
        "measures": lambda task: task.measures_zh if words.language == "zh" else task.measures,
        "first_score": _first_score,
    }


def _sections(e: Evaluation, has_overlaps: bool) -> list[str]:
    """The sections that the page has, in their order."""
    there = {
        "tasks": e.tasks,
        "against": e.comparisons,
        "texts": e.texts,
        "judge": e.judge,
        "answers": e.answers,
        "overlap": has_overlaps,
    }
    return [name for name, what in there.items() if what]


def _figures(e: Evaluation, words: EvaluationWords) -> list[tuple[str, str]]:
    """The numbers in the head: what was asked, and how long it took."""
    n_items = sum(task.scores[0].n for task in e.tasks if task.scores)
    figures = [(words("items"), words.number(n_items))] if n_items else []
    first = next((text for text in e.texts if text.bits_per_byte is not None), None)
    if first and first.bits_per_byte is not None:
        figures.append((words("bits_per_byte"), shown_value("bits_per_byte", first.bits_per_byte)))
    if e.seconds:
        figures.append((words("took"), duration(e.seconds)))
    return figures


def _lengths(overlaps: list[TaskSummary | TextSummary]) -> str:
    lengths = {n for one in overlaps if one.overlap for n in one.overlap.run_lengths}
    return ", ".join(map(str, sorted(lengths))) or "13"


def _bar(
    metric: str,
    value: float,
    interval: Interval | None,
    known: tuple[Reference, ...],
    low: float,
    high: float,
) -> dict[str, Any] | None:
    """Places on a scale from 0 to 100; None for metrics that have no scale.

    low, high   the ends of the scale
    """
    if metric not in (*SHARES, "judge"):
        return None

    def at(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - low) / (high - low)))

    first, last = (at(interval.low), at(interval.high)) if interval else (0.0, 0.0)
    return {
        "value": f"{at(value):.2f}",
        "low": f"{first:.2f}",
        "width": f"{last - first:.2f}" if interval else "",
        "known": [
            (f"{at(one.score):.2f}", f"{one.model}: {shown_value(one.metric, one.score)}")
            for one in known
            if one.metric == metric
        ],
    }


def _difference_bar(comparisons: tuple[Comparison, ...]) -> Any:
    """Makes the bar of a comparison, 50 is no difference; each metric has a scale of its own."""
    widest: dict[str, float] = {}
    for one in comparisons:
        ends = (one.difference.interval.low, one.difference.interval.high, one.difference.mean)
        widest[one.metric] = max(widest.get(one.metric, 0.0), *map(abs, ends))

    def bar(one: Comparison) -> dict[str, str]:
        scale = 48 / (widest[one.metric] or 1.0)
        value, low, high = (
            50 + scale * end
            for end in (
                one.difference.mean,
                one.difference.interval.low,
                one.difference.interval.high,
            )
        )
        places = {"left": min(value, 50), "value": abs(value - 50), "low": low, "width": high - low}
        return {name: f"{place:.2f}" for name, place in places.items()}

    return bar


def _between(one: Comparison) -> str:
    """The interval of a difference."""
    interval = one.difference.interval
    ends = (shown_difference(one.metric, end) for end in (interval.low, interval.high))
    return _DASH.join(end.removesuffix(" nats") for end in ends)


def _confusion(found: Confusion, words: EvaluationWords) -> str:
    return confusion_svg(
        found.names,
        found.matrix,
        true=words("true_class"),
        told=words("told_class"),
        others=words("other_classes", n="{n}"),
    )


def _first_score(one: TaskSummary | TextSummary, part: str) -> str:
    """The first score of the items that were found in the training text, or of the others."""
    scores = getattr(one, part) if isinstance(one, TaskSummary) else ()
    return f"{shown_value(scores[0].metric, scores[0].value)} ({scores[0].n:,})" if scores else ""
