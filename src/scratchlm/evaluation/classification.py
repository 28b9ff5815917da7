"""How well classes are told apart: accuracy, F1 and the confusion matrix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from scratchlm.data.rows import IGNORE
from scratchlm.evaluation.loss import evaluating
from scratchlm.model.classifier import Classifier
from scratchlm.training.objectives import TokenBatch


@dataclass(frozen=True)
class ClassScores:
    """Sums over labelled texts.

    nats       of their classes
    confusion  how many texts of class i were taken for class j, at i * n_classes + j
    """

    nats: float
    n_classes: int
    confusion: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"held-out loss {self.loss_nats:.4f} nats per text, accuracy {self.accuracy:.2%}, "
            f"F1 {self.f1:.4f} (mean over classes), of {self.n_texts:,} texts"
        )

    @property
    def matrix(self) -> list[list[int]]:
        """Rows are the true classes, columns what they were taken for."""
        n = self.n_classes
        return [list(self.confusion[i * n : (i + 1) * n]) for i in range(n)]

    @property
    def n_texts(self) -> int:
        """How many there were."""
        return sum(self.confusion)

    @property
    def loss_nats(self) -> float:
        """Mean nats per text."""
        return self.nats / max(1, self.n_texts)

    @property
    def accuracy(self) -> float:
        """Share of the texts whose class was told, 0 to 1."""
        return sum(row[i] for i, row in enumerate(self.matrix)) / max(1, self.n_texts)

    @property
    def f1_by_class(self) -> list[float]:
        """2 TP / (2 TP + FP + FN) of each class; 0 for one that is neither there nor told."""
        found = []
        for i, row in enumerate(self.matrix):
            both = sum(row) + sum(other[i] for other in self.matrix)
            found.append(2 * row[i] / both if both else 0.0)
        return found

    @property
    def f1(self) -> float:
        """The mean over the classes (macro F1)."""
        return sum(self.f1_by_class) / self.n_classes

    def metrics(self) -> dict[str, float | None]:
        """By their names in metrics.jsonl."""
        return {"val_loss_nats": self.loss_nats, "val_accuracy": self.accuracy, "val_f1": self.f1}

    def summed(self, add: Callable[..., tuple[Any, ...]]) -> "ClassScores":
        """The sum over processes, by `add`."""
        nats, *confusion = add(self.nats, *self.confusion)
        return ClassScores(nats, self.n_classes, tuple(confusion))


@torch.inference_mode()
def class_scores(model: Classifier, batches: Iterable[TokenBatch]) -> ClassScores:
    """Look at each text of `batches` once, without dropout."""
    n = len(model.class_names)
    confusion = torch.zeros(n * n, dtype=torch.int64)
    nats = 0.0
    with evaluating(model) as device:
        for batch in batches:
            targets = batch.targets.to(device)
            at = targets != IGNORE
            if not at.any():
                continue
            segments = None if batch.segments is None else batch.segments.to(device)
            logits = model.scores(batch.tokens.to(device), at, segments)  # (n, classes)
            truth = targets[at]
            nats += torch.nn.functional.cross_entropy(logits, truth, reduction="sum").item()
            told = truth * n + logits.argmax(dim=-1)
            confusion += told.cpu().bincount(minlength=n * n)
    return ClassScores(nats, n, tuple(confusion.tolist()))
