"""What config.json says of a classifier, as transformers' ...ForSequenceClassification has it."""

from typing import Any, get_args

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.families import NAMES
from scratchlm.model.classifier import Classifier, Pooling

SCORE = "score.weight"  # what transformers calls the head
POOLING = "scratchlm_pooling"  # transformers knows but one, "last"
_SUFFIX = "ForSequenceClassification"
_LANGUAGE = ("ForCausalLM", "LMHeadModel")
_MOST = 100_000  # classes


def architecture(family: str) -> str:
    """The class in transformers: LlamaForSequenceClassification."""
    name = NAMES[family].architecture
    for suffix in _LANGUAGE:
        name = name.removesuffix(suffix)
    return name + _SUFFIX


def class_fields(model: Classifier) -> dict[str, Any]:
    """The fields of config.json that make a model a classifier."""
    return {
        "architectures": [architecture(model.config.family)],
        "id2label": {str(i): name for i, name in enumerate(model.class_names)},
        "label2id": {name: i for i, name in enumerate(model.class_names)},
        "problem_type": "single_label_classification",
        POOLING: model.pooling,
    }


def read_classes(values: dict[str, Any], where: str) -> tuple[tuple[str, ...], Pooling] | None:
    """The names of the classes, in order, and how texts are pooled; None for a language model.

    raises   CheckpointError for labels that are none
    """
    names = values.get("architectures")
    if not (isinstance(names, list) and any(str(name).endswith(_SUFFIX) for name in names)):
        return None
    class_names = values.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})  # transformers' default
    good = isinstance(class_names, dict) and 0 < len(class_names) < _MOST
    if not good or set(class_names) != {str(i) for i in range(len(class_names))}:
        raise CheckpointError(
            f"{where}: id2label = {class_names!r} does not number the classes from 0."
        )
    pooling = values.get(POOLING, "last")
    if pooling not in get_args(Pooling):
        raise CheckpointError(f"{where}: {POOLING} = {pooling!r} is not one of last, mean.")
    return tuple(str(class_names[str(i)]) for i in range(len(class_names))), pooling
