"""adapter_config.json, which says what the adapters of a PEFT folder are: read and written.

Adapters with tricks that we do not compute (DoRA, trained biases or tokens, adapters of embeddings)
are refused by the name of their field. Which layers have adapters is told by the tensors beside the
file; the patterns of other ranks and alphas are read as names, never run as regular expressions.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.weights import read_table

N = TypeVar("N", int, float)

CONFIG = "adapter_config.json"
ALL = "all-linear"  # peft's word for every layer of the blocks
# Fields that change nothing once the tensors are there: bookkeeping, and how training began.
_HARMLESS = frozenset({
    "auto_mapping", "corda_config", "ensure_weight_tying", "eva_config", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "loftq_config", "lora_ga_config", "megatron_core",
    "modules_to_save", "peft_version", "qalora_group_size", "revision", "runtime_config",
})  # fmt: skip
_READ = frozenset({
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "init_lora_weights",
    "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type", "r", "rank_pattern",
    "target_modules", "task_type", "use_rslora",
})  # fmt: skip
# Ways to begin that leave the base as it was; others (PiSSA, OLoRA, LoftQ) change it.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class PeftConfig:
    """What adapter_config.json says. Layers are named as in transformers.

    base           where its base was when it was trained: a folder, a name on the hub, or ""
    task           CAUSAL_LM, SEQ_CLS or ""
    rank, alpha    of layers that no pattern names
    rank_pattern   of layers whose name ends so
    targets        the layers with adapters, by the ends of their names; None: by a rule that is
                   not read
    blocks         the numbers of the blocks with adapters; None: all
    """

    base: str
    task: str
    rank: int
    alpha: float
    dropout: float
    rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    targets: tuple[str, ...] | None
    blocks: tuple[int, ...] | None

    def rank_of(self, layer: str) -> int:
        """The rank of a layer's adapter."""
        return _by_end(self.rank_pattern, layer, self.rank)

    def alpha_of(self, layer: str) -> float:
        """The alpha of a layer's adapter."""
        return _by_end(self.alpha_pattern, layer, self.alpha)

    def chosen(self, layers: Collection[str]) -> set[str] | None:
        """Which of these layers, all that may have one, have an adapter; None: not known."""
        if self.targets is None:
            return None
        found = set()
        for layer in layers:
            number = re.search(r"\.(\d+)\.", layer)
            in_blocks = self.blocks is None or (number and int(number[1]) in self.blocks)
            if in_blocks and (self.targets == (ALL,) or any(_ends(layer, t) for t in self.targets)):
                found.add(layer)
        return found


def _ends(layer: str, end: str) -> bool:
    return layer == end or layer.endswith(f".{end}")


def _by_end(pattern: Mapping[str, N], layer: str, other: N) -> N:
    """The value of the first key that a name ends with ("^...": that it is), as peft takes it."""
    for end, value in pattern.items():
        if layer == end.removeprefix("^") or layer.endswith(f".{end}"):
            return value
    return other


def read_peft_config(folder: Path) -> PeftConfig:
    """The adapter_config.json of a folder.

    raises   CheckpointError where there is none, and for a field that has the wrong type or asks
             for something that we do not compute
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG}: it is not the folder of an adapter. Give the one that "
            f"holds {CONFIG} and adapter_model.safetensors."
        )
    values = read_table(path)
    _refuse_foreign(values, str(path))
    fields = _Fields(values, str(path))
    return PeftConfig(
        base=fields.text("base_model_name_or_path"),
        task=fields.text("task_type"),
        rank=fields.whole("r", values.get("r", 8)),  # peft's own defaults
        alpha=fields.number("lora_alpha", values.get("lora_alpha", 8)),
        dropout=fields.share("lora_dropout"),
        rslora=values.get("use_rslora") is True,
        rank_pattern=fields.pattern("rank_pattern", fields.whole),
        alpha_pattern=fields.pattern("alpha_pattern", fields.number),
        targets=fields.targets(),
        blocks=fields.blocks(),
    )


def _refuse_foreign(values: dict[str, Any], where: str) -> None:
    """Fail on a field whose meaning or value this program does not compute."""
    for field, known in {
        "peft_type": ("LORA",),
        "bias": ("none", None),
        "use_rslora": (False, True, None),
        "init_lora_weights": _BEGINNINGS,
    }.items():
        value = values.get(field)
        if not any(value is one or (isinstance(one, str) and value == one) for one in known):
            raise CheckpointError(
                f"{where}: {field} = {value!r} is not supported; this program computes "
                f"{' or '.join(repr(one) for one in known if one is not None)}."
            )
    for field, value in values.items():
        if field not in _HARMLESS | _READ and value:
            raise CheckpointError(
                f"{where}: {field} = {str(value)[:80]} is not supported: this program computes "
                "plain LoRA, without it."
            )


class _Fields:
    """The fields of one file, each checked as it is read."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def _refused(self, field: str, value: Any, kind: str) -> CheckpointError:
        return CheckpointError(f"{self.where}: {field} = {str(value)[:80]!r} is not {kind}.")

    def text(self, field: str) -> str:
        value = self.values.get(field) or ""
        if not isinstance(value, str):
            raise self._refused(field, value, "a text")
        return value

    def whole(self, field: str, value: Any) -> int:
        if type(value) is not int or not 1 <= value < 2**31:
            raise self._refused(field, value, "a whole number from 1 on")
        return value

    def number(self, field: str, value: Any) -> float:
        if type(value) not in (int, float) or not 0 < value < 2**63:
            raise self._refused(field, value, "a number above 0")
        return float(value)

    def share(self, field: str) -> float:
        value = self.values.get(field) or 0.0
        if not isinstance(value, float) or not 0 <= value < 1:
            raise self._refused(field, value, "a share from 0 to below 1")
        return value

    def targets(self) -> tuple[str, ...] | None:
        value = self.values.get("target_modules")
        if isinstance(value, str):
            return (ALL,) if value.lower() == ALL else None  # a regular expression
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._refused("target_modules", value, "a list of names, or a text")
        return None if self.values.get("exclude_modules") else tuple(value)

    def blocks(self) -> tuple[int, ...] | None:
        value = self.values.get("layers_to_transform")
        if value is None or value == []:
            return None
        numbers = value if isinstance(value, list) else [value]
        if not all(type(item) is int for item in numbers):
            raise self._refused("layers_to_transform", value, "a list of whole numbers")
        return tuple(numbers)

    def pattern(self, field: str, check: Callable[[str, Any], N]) -> dict[str, N]:
        """{end of a name: value} of regular expressions that are the end of a name and no more."""
        value = self.values.get(field) or {}
        if not isinstance(value, dict):
            raise self._refused(field, value, "an object of names and numbers")
        found = {}
        for key, number in value.items():
            end = re.sub(r"\\([^a-zA-Z0-9])", r"\1", key.removesuffix("$"))
            if not re.fullmatch(r"\^?[\w.-]+", end):
                raise self._refused(field, key, "the plain name of a layer: rules are not read")
            found[end] = check(f"{field}[{key!r}]", number)
        return found
