"""What fine-tuning gets: examples in rows, each beside the file and line that it is from."""

from typing import Any

import numpy as np

from scratchlm.base.errors import DataError
from scratchlm.base.progress import counted
from scratchlm.data.rows import IGNORE
from scratchlm.examples.batches import ExampleLoader
from scratchlm.examples.encode import Example
from scratchlm.recipes.finetune_config import DpoConfig, FinetuneConfig
from scratchlm.recipes.lessons import Lesson
from scratchlm.recipes.preview_checks import (
    CLASS,
    END,
    IDS,
    NOTHING_CUT,
    SAME_EXAMPLES,
    TARGETS,
    Findings,
    listed,
    tokenizer_check,
)
from scratchlm.recipes.preview_facts import Check, SplitName, Stock, Vocabulary
from scratchlm.recipes.preview_rows import REJECTED, Stretch, borders

_Key = tuple[bytes, bytes]


class ExampleRows:
    """Batches of fine-tuning, as stretches of text, and what must hold of their examples.

    config, lesson   from `prepare_lesson`
    began            run.json of a run that has begun; {} before
    raises           DataError where nothing is held out, and that is to be shown
    """

    def __init__(
        self, config: FinetuneConfig, lesson: Lesson, split: SplitName, began: dict[str, Any]
    ) -> None:
        self.method, self.tokenizer = config.METHOD, lesson.tokenizer
        self._class_names = lesson.class_names
        self._config, self._lesson, self._began = config, lesson, began
        self._train = split == "train"
        self._examples = lesson.train if self._train else lesson.validation
        if not self._examples:
            raise DataError("nothing is held out: validation = 0. Show --split train.")
        size, seed = config.train.micro_batch, config.train.seed
        self._loader = ExampleLoader(
            self._examples, size, packed=config.packed, train=self._train, seed=seed
        )
        self.n_batches: int | None = self._loader.n_batches
        self.horizon = self._loader.n_batches
        self.accumulate = config.train.accumulate
        self._parts = 2 if isinstance(config, DpoConfig) else 1
        self._places: dict[_Key, str] = {}
        for one in self._examples:
            self._places.setdefault(_key(one.tokens, one.targets), one.place)

    def rows(self, n: int) -> list[list[Stretch]]:
        """Batch n as the trainer gets it; what is no whole example has no place."""
        batch = self._loader.batch(n)
        assert batch.segments is not None, "lay_out gives segments"
        arrays = batch.tokens.numpy(), batch.targets.numpy(), batch.segments.numpy()
        return [self._stretches(*row) for row in zip(*arrays)]

    def _stretches(
        self, tokens: np.ndarray, targets: np.ndarray, segments: np.ndarray
    ) -> list[Stretch]:
        found: list[Stretch] = []
        parts = borders(segments)
        at = 0
        while at < len(parts):
            members = parts[at : at + self._parts]
            whole = slice(members[0].start, members[-1].stop)
            place = self._places.get(_key(tokens[whole], targets[whole]), "")
            if not place:  # an example or nothing: the next one may begin right behind it
                members = members[:1]
            nobodys = not place and at == len(parts) - 1
            names = ("chosen", REJECTED) if place and self._parts == 2 else ("",)
            for name, here in zip(names, members):
                label = self._label(targets[here])
                found.append(
                    Stretch(tokens[here], targets[here], place, name, nobodys, label=label)
                )
            at += len(members)
        return found

    def _label(self, targets: np.ndarray) -> str:
        """The class that is asked for, of a text that is classified."""
        names, asked = self._class_names, int(targets[-1])
        if not names or asked == IGNORE:
            return ""
        return names[asked] if 0 <= asked < len(names) else f"[class {asked}]"

    def findings(self) -> Findings:
        """An account of batches, to be filled."""
        return Findings(None, self.tokenizer.vocab_size)

    def stock(self) -> Stock:
        """All examples of the split."""
        lengths = [len(one) for one in self._examples]
        learned = sum(int((one.targets != IGNORE).sum()) for one in self._examples)
        own = self._lesson.fitted[0 if self._train else 1 :][:1]
        return Stock(
            len(lengths),
            sum(lengths),
            learned,
            max(lengths),
            tuple(place for one in own for place in one.long),
            "".join(one.on_long for one in own),
            tuple(place for one in own for place in one.empty),
        )

    def vocabulary(self) -> Vocabulary:
        """The model gets a row for each id of its tokenizer."""
        own = self.tokenizer
        return Vocabulary(own.kind, own.vocab_size, own.hash, own.vocab_size)

    def checks(self, found: Findings) -> list[Check]:
        """What must hold before the first step."""
        sha = self._began.get("tokenizer", {}).get("sha256")
        made_with = [("run.json", sha)] if sha else []
        if self._class_names:
            about_targets = [self._classes(), self._ids(found)]
        else:
            about_targets = [self._ends(), self._ids(found), found.next_check()]
        return [
            *about_targets,
            self._targets(),
            found.padding_check(),
            self._nothing_cut(found),
            tokenizer_check(self.tokenizer, made_with),
            self._same_examples(),
        ]

    def _ends(self) -> Check:
        speaker = self._lesson.speaker
        if speaker is None:
            return self._ends_of_texts()
        cut = {place for one in self._lesson.fitted if one.on_long == "cut" for place in one.long}
        n_answers, n_cut, wrong = 0, 0, []
        for example in self._examples:
            for last, at in _last_targets(example):
                n_answers += 1
                if speaker.ends_answer(last):
                    continue
                if example.place in cut and at == len(example) - 1:
                    n_cut += 1
                else:
                    wrong.append(example.place)
        if wrong:
            return Check(END, False, f"an answer is learned without its end in {listed(wrong)}")
        good = f"{n_answers - n_cut:,} of {counted(n_answers, 'answer')} are learned with their end"
        return Check(END, True, f"{good}; the others are cut" if n_cut else good)

    def _ends_of_texts(self) -> Check:
        end = self.tokenizer.eos_id
        if end is None:
            return Check(END, None, f"this {self.tokenizer.kind} tokenizer has none")
        both = [*self._lesson.train, *self._lesson.validation]
        texts = {one.place for one in both}
        ended = {one.place for one in both if (one.targets == end).any()}
        wrong = sorted(texts - ended)
        good = f"it closes each of {counted(len(texts), 'text')}"
        return Check(END, not wrong, f"it closes no row of {listed(wrong)}" if wrong else good)

    def _classes(self) -> Check:
        n = len(self._class_names)
        wrong = [
            one.place
            for one in self._examples
            if (one.targets[:-1] != IGNORE).any() or not 0 <= one.targets[-1] < n
        ]
        good = f"one of {n:,} in each of {counted(len(self._examples), 'text')}"
        return Check(CLASS, not wrong, f"it is not there in {listed(wrong)}" if wrong else good)

    def _ids(self, found: Findings) -> Check:
        bound = self.tokenizer.vocab_size
        asked_too = not self._class_names
        wrong, highest = [], 0
        for one in self._examples:
            most = int(max(one.tokens.max(), one.targets.max() if asked_too else 0))
            highest = max(highest, most)
            if most >= bound or one.tokens.min() < 0:
                wrong.append(one.place)
        if wrong:
            return Check(IDS, False, f"there are {bound:,}, and other ids in {listed(wrong)}")
        if strange := found.wrong(IDS):
            return Check(IDS, False, strange)
        return Check(IDS, True, f"the highest in the examples is {highest:,}, below {bound:,}")

    def _targets(self) -> Check:
        wrong = [one.place for one in self._examples if not all(_learned(one))]
        answers = " in each answer" if self._parts == 2 else ""
        good = f"each of {counted(len(self._examples), 'example')} has some{answers}"
        return Check(TARGETS, not wrong, f"all is masked in {listed(wrong)}" if wrong else good)

    def _nothing_cut(self, found: Findings) -> Check:
        """Batches hold whole examples, as many as they should; what was left out is named."""
        if found.strangers:
            return Check(NOTHING_CUT, False, f"no whole example: {listed(found.strangers)}")
        size, n_all = self._config.train.micro_batch, len(self._examples)
        wanted = sum(size if self._train else min(size, n_all - n * size) for n in found.batches)
        if found.amount.examples != wanted:
            wrong = f"{found.amount.examples:,} examples are in batches of {wanted:,}"
            return Check(NOTHING_CUT, False, wrong)
        said = [f"{counted(found.amount.examples, 'example')} are whole in their rows"]
        for what, fitted in zip(("train", "validation"), self._lesson.fitted):
            done = "left out" if fitted.on_long == "drop" else "cut"
            more = f"longer than {fitted.seq_len:,} tokens and {done}"
            for places, why in ((fitted.long, more), (fitted.empty, "left out: nothing to learn")):
                if places:
                    said.append(f"of {what}, {len(places):,} {why} ({listed(places)})")
        return Check(NOTHING_CUT, True, "; ".join(said))

    def _same_examples(self) -> Check:
        then = self._began.get("examples")
        if then is None:
            return Check(SAME_EXAMPLES, None, "no run has begun with them yet")
        same = then == self._lesson.hash
        wrong = "the files, or the chat template, have changed since the run began"
        return Check(SAME_EXAMPLES, same, "the same SHA-256 as in run.json" if same else wrong)


def _key(tokens: np.ndarray, targets: np.ndarray) -> _Key:
    return tokens.tobytes(), targets.tobytes()


def _learned(example: Example) -> list[bool]:
    """Whether each part of an example has a target."""
    asked = example.targets != IGNORE
    if example.segments is None:
        return [bool(asked.any())]
    return [bool(asked[here].any()) for here in borders(example.segments)]


def _last_targets(example: Example) -> list[tuple[int, int]]:
    """(target, position) of the end of each run of targets: of each answer."""
    whole = [slice(0, len(example))] if example.segments is None else borders(example.segments)
    found = []
    for here in whole:
        asked = example.targets[here] != IGNORE
        last = np.flatnonzero(asked & ~np.append(asked[1:], False)) + here.start
        found += [(int(example.targets[at]), int(at)) for at in last]
    return found
