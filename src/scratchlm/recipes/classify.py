"""`classify`: which class a text is of, by a model that `finetune classify` made."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from scratchlm.base.device import choose_device
from scratchlm.base.errors import DataError
from scratchlm.base.log import say, warn
from scratchlm.checkpoint.folder import load_classifier, load_tokenizer
from scratchlm.data.rows import IGNORE
from scratchlm.evaluation.loss import evaluating
from scratchlm.evaluation.side_by_side import side_by_side
from scratchlm.examples.batches import lay_out
from scratchlm.examples.encode import Example, text_ids
from scratchlm.examples.labels import Labelled
from scratchlm.model.classifier import Classifier
from scratchlm.recipes.load import find_model
from scratchlm.tokenizer.tokenizer import Tokenizer

TOGETHER = 128  # texts that are looked at in one go, sorted by length


@dataclass(frozen=True)
class Verdict:
    """What a text was taken for.

    label           the most probable class
    probabilities   of all classes, by name, in the order of the model
    cut             the text was longer than the context, and only its beginning was read
    """

    label: str
    probabilities: dict[str, float]
    cut: bool = False

    @property
    def probability(self) -> float:
        """Of the label."""
        return self.probabilities[self.label]


class TextClassifier:
    """A model that says which class texts are of."""

    def __init__(self, model: Classifier, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, folder: Path | str, *, device: str | None = None) -> "TextClassifier":
        """Open a classifier, or the run that made it.

        raises   CheckpointError for a folder that is none
        """
        place = find_model(Path(folder))
        where, reason = choose_device(device)
        model = load_classifier(place, device=where)
        say(f"{place}: {', '.join(model.class_names)}, on {where} ({reason}).")
        return cls(model, load_tokenizer(place, model.config))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.model.class_names

    def __call__(self, text: str) -> Verdict:
        """The class of one text."""
        return self.all([text])[0]

    def all(self, texts: Sequence[str]) -> list[Verdict]:
        """The classes of texts, in their order.

        raises   DataError for a text without tokens
        """
        return list(self.stream(texts))

    def stream(self, texts: Iterable[str]) -> Iterator[Verdict]:
        """`all` for texts without end; memory holds a few of them."""
        rest = iter(texts)
        number = 0
        while group := list(islice(rest, TOGETHER)):
            examples = [self._example(text, number + i) for i, text in enumerate(group, 1)]
            number += len(group)
            yield from self._verdicts(examples)

    def _example(self, text: str, number: int) -> Example:
        ids = text_ids(text, self.tokenizer)
        if not len(ids):
            raise DataError(f"text {number} is empty: there is nothing to classify.")
        most = self.model.config.max_seq_len
        targets = [IGNORE] * (min(len(ids), most) - 1) + [0]
        return Example(ids[:most], torch.tensor(targets).numpy(), "cut" if len(ids) > most else "")

    def _verdicts(self, examples: list[Example]) -> list[Verdict]:
        """Of a few texts: one row each, those of like length together, the longest first."""
        order = sorted(range(len(examples)), key=lambda i: -len(examples[i]))
        batches = [order[start : start + 16] for start in range(0, len(order), 16)]
        verdicts: list[Verdict | None] = [None] * len(examples)
        with evaluating(self.model) as device:

            def rows_of(some: list[int]) -> list[list[float]]:
                with torch.inference_mode():  # which each thread has for itself
                    batch = lay_out([examples[i] for i in some], packed=False)
                    at = (batch.targets != IGNORE).to(device)
                    scores = self.model.scores(batch.tokens.to(device), at)  # (n, classes)
                    rows: list[list[float]] = scores.softmax(dim=-1).tolist()
                    return rows

            found = side_by_side(rows_of, batches, device)
            for some, rows in zip(batches, found, strict=True):
                for i, row in zip(some, rows, strict=True):
                    chances = dict(zip(self.class_names, row, strict=True))
                    best = max(chances, key=chances.__getitem__)
                    verdicts[i] = Verdict(best, chances, bool(examples[i].place))
        if n_cut := sum(bool(one.place) for one in examples):
            warn(
                f"{n_cut} texts are longer than the model's context of "
                f"{self.model.config.max_seq_len} tokens: only their beginning was read."
            )
        return [verdict for verdict in verdicts if verdict]


def check_known(found: Iterable[Labelled], class_names: Sequence[str]) -> None:
    """Refuse labelled texts whose class the model does not know.

    raises   DataError naming file and line
    """
    for item in found:
        if item.label not in class_names:
            raise DataError(
                f"{item.place}: the label {item.label!r} is unknown to the model, which knows "
                f"{', '.join(class_names)}."
            )
