"""Tasks as data: what to ask a model, and what is right.

A task is a TOML file: in `task_files/` those that scratchlm knows, elsewhere a user's own. It says
where its records lie, and makes prompts, choices and answers of their fields by templates. A file
of records with the usual names (prompt, choices, answer) is a task by itself: `own_tasks.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from scratchlm.base.config import nearest, read_toml
from scratchlm.base.errors import ConfigError, DataError
from scratchlm.evaluation.own_tasks import read_own
from scratchlm.evaluation.task import DataFiles, Item, Task, TaskFile
from scratchlm.evaluation.task_records import Entry, entries_of, matching
from scratchlm.evaluation.templates import Template

_FILES = Path(__file__).parent / "task_files"


@cache
def known_tasks() -> Mapping[str, TaskFile]:
    """The tasks that scratchlm knows, by name."""
    return {path.stem: read_toml(TaskFile, path) for path in sorted(_FILES.glob("*.toml"))}


def load_task(source: str | Path, folder: Path | str | None = None, *, limit: int = 0) -> Task:
    """Open a task.

    source   a name of `known_tasks`; the path of a task file (.toml); or of a file of records with
             choices (`own_tasks.py` says which), questions and answers, or texts
    folder   where the data lie: as they are spread, as `corpus get` brings them, or a folder that
             holds such a folder of the task's name. None: beside the task file; of a known task a
             folder of its name in the current one, where `corpus get` puts it
    limit    only so many items, the first of each subject; 0: all
    raises   ConfigError for an unknown name and a task file that is wrong; DataError naming the
             folder, or file and line of a record; MissingExtraError
    """
    path = Path(source)
    known = known_tasks().get(str(source))
    if known is None and path.suffix != ".toml" and path.exists():
        return _limited(read_own(path), limit)
    if known is None and path.suffix != ".toml":
        raise ConfigError(
            f"{source} is neither a task nor a file.{nearest(str(source), {*known_tasks()})}"
        )
    about = known or read_toml(TaskFile, path)
    name = str(source) if known else path.stem
    where = path.parent if folder is None else Path(folder)
    if folder is None and known:
        here = next((home for home in map(Path, _homes(name, about)) if home.is_dir()), None)
        if here is None:
            raise ConfigError(
                f"task {name} needs the folder with its data: name it with --folder. Fetch them by "
                f'"scratchlm corpus get {about.data_set or name}", or get them from {about.url}.'
            )
        where = here
    return _limited(_read(name, about, where, name if known else str(path)), limit)


def _limited(task: Task, limit: int) -> Task:
    """The first items of each subject."""
    if not limit:
        return task
    left = dict.fromkeys((item.subject for item in task.items), limit)
    kept = []
    for item in task.items:
        left[item.subject] -= 1
        if left[item.subject] >= 0:
            kept.append(item)
    return replace(task, items=tuple(kept))


def _read(name: str, about: TaskFile, folder: Path, file: str) -> Task:
    data, root = _find(name, about, folder)
    making = _Making(about, data, file)
    examples: dict[str, list[Item]] = {}
    if about.fewshot:
        for entry in entries_of(matching(root, data.examples), root, data.columns, data.lines):
            item = making.item(entry)
            examples.setdefault(item.subject, []).append(item)
    items = []
    entries = entries_of(matching(root, data.files), root, data.columns, data.lines, data.beside)
    for entry in entries:
        item = making.item(entry)
        shown = examples.get(item.subject, [])[: about.fewshot]
        if len(shown) < about.fewshot:
            raise DataError(
                f"{item.place}: {len(shown)} of the {about.fewshot} examples of subject "
                f"{item.subject!r} are there. Get the whole data set, or set fewshot lower."
            )
        items.append(making.with_examples(item, entry, shown))
    if not items:
        raise DataError(f"{root}: the files of task {name} hold no records. Fetch them again.")
    return Task(name, about, tuple(items))


def _homes(name: str, about: TaskFile) -> list[str]:
    """What the folder of a task's data is called: as the data set is, or as the task."""
    return list(dict.fromkeys((about.data_set or name, name)))


def _find(name: str, about: TaskFile, folder: Path) -> tuple[DataFiles, Path]:
    """The form in which the data are there, and the folder that holds them."""
    homes = (folder / one for one in _homes(name, about))
    roots = [*(home for home in homes if home.is_dir()), folder]
    for root in roots:
        for data in about.data:
            if matching(root, data.files):
                return data, root
    forms = "; or ".join(" ".join(data.files) for data in about.data)
    fetch = f'"scratchlm corpus get {about.data_set}", or ' if about.data_set else ""
    raise DataError(
        f"{folder} does not hold the data of task {name}: {forms}. Fetch them by {fetch}from "
        f"{about.url}, and name their folder."
    )


class _Making:
    """Makes items of records, by the templates of a task file."""

    def __init__(self, about: TaskFile, data: DataFiles, file: str) -> None:
        def template(text: str, setting: str) -> Template:
            return Template(text, f"{file}: {setting}")

        self._about = about
        self._prompt = template(about.prompt if data.prompt is None else data.prompt, "prompt")
        self._choices = [template(text, "choices") for text in data.choices or about.choices]
        self._answer = template(about.answer if data.answer is None else data.answer, "answer")
        self._names = [template(text, "names") for text in data.names or about.names]
        subject = about.subject if data.subject is None else data.subject
        self._subject = template(subject, "subject")
        self._description = template(about.description, "description")

    def item(self, entry: Entry) -> Item:
        """One record as an item, without examples."""
        values, place = self._values(entry)
        texts = {"prompt": self._clean(self._prompt.render(values, place))}
        common = (entry.id, self._subject.render(values, place), place, texts["prompt"])
        kind = self._about.kind
        if kind == "choices":
            choices = [self._clean(text) for text in _list_of(self._choices, values, place)]
            return Item(*common, tuple(choices), self._right(values, place, len(choices)))
        answer = self._clean(self._answer.render(values, place))
        if not answer.strip():
            raise DataError(f"{place}: the answer is empty, so nothing can be compared with it.")
        if kind == "answers":
            return Item(*common, answer=answer)
        return Item(*common, (answer,))

    def with_examples(self, item: Item, entry: Entry, shown: list[Item]) -> Item:
        """The item with the description and the examples before its prompt."""
        values, place = self._values(entry)
        parts = [self._description.render(values, place)]
        for one in shown:
            answer = one.choices[one.right] if one.choices else one.answer
            parts.append(f"{one.prompt}{self._about.separator}{answer}\n\n")
        before = "".join(parts)
        return replace(item, prompt=before + item.prompt, n_before=len(before))

    def _values(self, entry: Entry) -> tuple[dict[str, Any], str]:
        subject = self._subject.render(entry.values, entry.place)
        name = self._about.subjects.get(subject, subject)
        return {**entry.values, "_subject": name}, entry.place

    def _clean(self, text: str) -> str:
        for pattern, replacement in self._about.clean:
            text = re.sub(pattern, replacement, text)
        return text

    def _right(self, values: dict[str, Any], place: str, n_choices: int) -> int:
        answer = str(self._answer.value(values, place)).strip()
        names = _list_of(self._names, values, place) or [str(i) for i in range(n_choices)]
        if answer not in names[:n_choices]:
            raise DataError(f"{place}: the answer {answer!r} is none of {', '.join(names)}.")
        return names.index(answer)


def _list_of(templates: list[Template], values: dict[str, Any], place: str) -> list[str]:
    """The texts of several templates, or of one whose field is a list."""
    if len(templates) == 1:
        found = templates[0].value(values, place)
        return [str(one) for one in found] if isinstance(found, list) else [str(found)]
    return [template.render(values, place) for template in templates]
