"""A user's file of records as a task: what it asks is told by the names of its fields.

    prompt, choices, answer     the likeliest choice; answer is its number from 0, its letter (A is
                                the first) or its text
    question, answer            the answer that the model writes, compared whole
    text                        how well the model foretells it

Instead of prompt one may write question, query, context or input; instead of answer label, target,
gold or completion; subject and id are used where they are there. Chinese names are known as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratchlm.base.errors import DataError
from scratchlm.evaluation.task import METRICS, DataFiles, Item, Kind, Task, TaskFile
from scratchlm.evaluation.task_records import Entry, entries_of

_NAMES = {
    "prompt": ("prompt", "question", "query", "context", "input", "问题", "题目", "提示"),
    "choices": ("choices", "options", "endings", "选项"),
    "answer": ("answer", "label", "target", "gold", "completion", "答案"),
    "text": ("text", "文本", "正文"),
    "subject": ("subject", "category", "科目", "类别"),
    "id": ("id",),
}
_NO_SPACE = "\u2e80"  # from here on scripts that write no space between words (CJK)


def read_own(path: Path) -> Task:
    """Make a task of a file of records; all of them are of the kind of the first.

    A space stands between prompt and choice, unless white space, or a Chinese or Japanese
    character, is on either side of it.

    raises   DataError naming file and line
    """
    items: list[Item] = []
    kind: Kind | None = None
    for entry in entries_of([path], path.parent):
        kind = kind or _kind_of(entry)
        items.append(_item(entry, kind))
    if kind is None:
        raise DataError(f"{path} holds no records.")
    about = TaskFile(
        measures="a file of one's own",
        measures_zh="自备的文件",
        source=path.name,
        url="",
        license="",
        kind=kind,
        metrics=METRICS[kind],
        data=(DataFiles((path.name,)),),
        choices=("{choices}",) if kind == "choices" else (),
        separator="",  # the prompts have theirs
        stop=("\n",),
    )
    return Task(path.name.split(".")[0], about, tuple(items))


def _kind_of(entry: Entry) -> Kind:
    there = {name for name in _NAMES if _find(entry.values, name) is not None}
    if {"prompt", "choices", "answer"} <= there:
        return "choices"
    if {"prompt", "answer"} <= there and "choices" not in there:
        return "answers"
    if "text" in there and not there & {"choices", "answer"}:
        return "text"
    fields = ", ".join(name for name in entry.values if name != "_path")
    raise DataError(
        f"{entry.place}: its fields are {fields}. A file to evaluate on has "
        "prompt, choices and answer; or question and answer; or text."
    )


def _item(entry: Entry, kind: Kind) -> Item:
    values, place = entry.values, entry.place
    given = _find(values, "id")
    name = entry.id if given is None else str(given)
    subject = _find(values, "subject")
    common = name, "" if subject is None else str(subject), place
    if kind == "text":
        return Item(*common, "", (_text(values, "text", place),))
    prompt = _text(values, "prompt", place)
    if kind == "answers":
        return Item(*common, prompt, answer=_text(values, "answer", place))
    choices = _find(values, "choices")
    if not isinstance(choices, list) or len(choices) < 2:
        raise DataError(f"{place}: choices must be a list of at least two texts.")
    texts = [str(one) for one in choices]
    if "" in texts or len(set(texts)) < len(texts):
        raise DataError(f"{place}: the choices must not be empty, and each another.")
    right = _right(_find(values, "answer"), texts, place)
    edges = [prompt[-1], *(one[0] for one in texts)]
    spaced = any(edge.isspace() or edge >= _NO_SPACE for edge in edges)
    return Item(*common, prompt if spaced else f"{prompt} ", tuple(texts), right)


def _right(answer: Any, choices: list[str], place: str) -> int:
    text = str(answer).strip()
    if not isinstance(answer, int):
        for there, wanted in ((choices, str(answer)), ([one.strip() for one in choices], text)):
            if there.count(wanted) == 1:
                return there.index(wanted)
    letters = [chr(ord("A") + i) for i in range(len(choices))]
    for names in (letters, [str(i) for i in range(len(choices))]):
        if text in names:
            return names.index(text)
    raise DataError(
        f"{place}: the answer {text!r} is none of the {len(choices)} choices. Give its number, "
        "counted from 0, its letter or its text."
    )


def _text(values: Mapping[str, Any], name: str, place: str) -> str:
    found = _find(values, name)
    if isinstance(found, bool) or not isinstance(found, str | int | float) or str(found) == "":
        raise DataError(f"{place}: {name} is missing or is no text.")
    return str(found)


def _find(values: Mapping[str, Any], name: str) -> Any:
    """The field of that meaning, or None."""
    return next((values[key] for key in _NAMES[name] if values.get(key) is not None), None)
