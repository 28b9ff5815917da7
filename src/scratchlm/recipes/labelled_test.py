"""A classifier on labelled texts: a table, a picture, and the texts that it got wrong."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scratchlm.base.files import write_json, write_text
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.evaluation.classification import ClassScores
from scratchlm.examples.labels import Labelled
from scratchlm.recipes.classify import TextClassifier, Verdict
from scratchlm.report.confusion import confusion_svg

RESULT = "test.json"
PICTURE = "confusion.svg"
FORMAT, VERSION = "scratchlm classification", 1


def score_texts(
    classifier: TextClassifier, texts: Sequence[Labelled]
) -> tuple[ClassScores, list[Verdict]]:
    """How a classifier does on texts whose classes it knows, and what it took each for."""
    class_names = classifier.class_names
    with Progress("testing", len(texts), unit="texts") as progress:
        verdicts = []
        for verdict in classifier.stream(item.text for item in texts):
            verdicts.append(verdict)
            progress.advance(1)
    n = len(class_names)
    confusion, nats = [0] * (n * n), 0.0
    for item, verdict in zip(texts, verdicts, strict=True):
        confusion[class_names.index(item.label) * n + class_names.index(verdict.label)] += 1
        nats -= math.log(max(verdict.probabilities[item.label], sys.float_info.min))
    return ClassScores(nats, n, tuple(confusion)), verdicts


def write_test(
    folder: Path, classifier: TextClassifier, texts: Sequence[Labelled], title: str
) -> ClassScores:
    """Test, and leave test.json and confusion.svg in a folder."""
    scores, verdicts = score_texts(classifier, texts)
    class_names = classifier.class_names
    wrong = [
        {
            "place": item.place,
            "text": item.text,
            "label": item.label,
            "taken_for": verdict.label,
            "probability": verdict.probability,
        }
        for item, verdict in zip(texts, verdicts, strict=True)
        if verdict.label != item.label
    ]
    write_json(
        folder / RESULT,
        {
            "format": FORMAT,
            "version": VERSION,
            "texts": scores.n_texts,
            "accuracy": scores.accuracy,
            "f1": scores.f1,
            "f1_by_class": dict(zip(class_names, scores.f1_by_class, strict=True)),
            "loss_nats": scores.loss_nats,
            "classes": list(class_names),
            "confusion": scores.matrix,
            "wrong": sorted(wrong, key=lambda one: -float(str(one["probability"]))),
        },
    )
    write_text(folder / PICTURE, confusion_svg(class_names, scores.matrix, title))
    return scores


def show_scores(
    scores: ClassScores, class_names: Sequence[str], show: Callable[[str], None] = print
) -> None:
    """A line for each class, and one for all."""
    width = max(len("class"), *(len(name) for name in class_names))
    show(f"{'class':{width}}  {'texts':>7}  {'precision':>9}  {'recall':>7}  {'F1':>7}")
    for i, name in enumerate(class_names):
        row = scores.matrix[i]
        told = sum(other[i] for other in scores.matrix)
        precision, recall = row[i] / max(1, told), row[i] / max(1, sum(row))
        show(
            f"{name:{width}}  {sum(row):7,}  {precision:9.2%}  {recall:7.2%}  "
            f"{scores.f1_by_class[i]:7.4f}"
        )
    say(f"test: accuracy {scores.accuracy:.2%} of {scores.n_texts:,} texts, F1 {scores.f1:.4f}")
