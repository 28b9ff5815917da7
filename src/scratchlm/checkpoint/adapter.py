"""Adapters are ordinary PEFT folders: what we save, `peft` loads, and the reverse.

    adapter_config.json         rank, alpha, which layers (`checkpoint/peft_config.py`)
    adapter_model.safetensors   A and B of each layer, and whole weights that were trained beside
    adapter.json                ours: the base that it belongs to, and how joined layers divide
    tokenizer.json ...          the tokenizer, where there is one
    manifest.json               ours: sizes and SHA-256 of the others, written last

GPT-2's q, k and v are three layers here and one there, c_attn. Three adapters of ours become one of
thrice the rank, whose B has a block for each; one of theirs becomes three that begin with the same
A, each with its part of B (`checkpoint/adapter_layers.py`).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import MANIFEST, read_manifest, replace_folder, write_json, write_manifest
from scratchlm.checkpoint import folder as model_folder
from scratchlm.checkpoint.adapter_base import Base, describe_base
from scratchlm.checkpoint.adapter_layers import (
    WEIGHT,
    Joined,
    Parts,
    join,
    layer_rows,
    pattern,
    target_names,
)
from scratchlm.checkpoint.adapter_read import (
    PREFIX,
    WEIGHTS,
    A,
    B,
    Plan,
    full_rows,
    open_adapter,
    settings_of,
)
from scratchlm.checkpoint.classes import class_fields, read_classes
from scratchlm.checkpoint.peft_config import CONFIG, read_peft_config
from scratchlm.checkpoint.sharded import whole
from scratchlm.checkpoint.weights import read_table
from scratchlm.model.classifier import Classifier, Pooling
from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import (
    LoraConfig,
    LoraLinear,
    adapters,
    remove_adapters,
    replace_layer,
    trainable_parameters,
)
from scratchlm.model.transformer import Linear, Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer

FORMAT = "scratchlm adapter"
VERSION = 1
OWN = "adapter.json"


@dataclass(frozen=True)
class AdapterFacts:
    """What can be told of an adapter without its base.

    base_name   where its base lay when it was trained: a folder, a name on the hub, or ""
    base        which base it was; None in folders of other programs
    classes     of a classifier: their names in order, and how texts are pooled; None for a language
                model, and in folders of other programs
    """

    base_name: str
    base: Base | None
    classes: tuple[tuple[str, ...], Pooling] | None


@dataclass(frozen=True)
class PackedAdapter:
    """An adapter ready to be written: what JSON holds, and copies of the tensors on the CPU."""

    config: dict[str, Any]
    own: dict[str, Any]
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer | None

    def write(self, folder: Path) -> None:
        """Write its files, all but the manifest, into a folder that exists."""
        write_json(folder / CONFIG, self.config)
        write_json(folder / OWN, self.own)
        save_file(self.tensors, folder / WEIGHTS, metadata={"format": "pt"})
        if self.tokenizer is not None:
            self.tokenizer.save(folder)


@torch.no_grad()
def pack_adapter(
    model: Transformer, config: LoraConfig, base: Base, tokenizer: Tokenizer | None
) -> PackedAdapter:
    """Copy a model's adapters, and whole what else is trained, with the head of a classifier.

    With weights in parts (FSDP) all processes must call it alike.

    config   that the adapters were made by, or that `load_adapter` returned
    base     of `describe_base`
    raises   ConfigError for a whole weight that such a folder cannot hold
    """
    layers = dict(adapters(model))
    assert layers, "the model has no adapters"
    kept = _joined_layers(model.config, layers)
    tensors = _whole_weights(model, layers)
    for name, joined in kept.items():
        tensors |= {f"{PREFIX}{name}{A}": joined.a, f"{PREFIX}{name}{B}": joined.b}
    parts = {name: asdict(joined.parts) for name, joined in kept.items() if joined.parts}
    own: dict[str, Any] = {"base": base.to_json(), "parts": parts}
    if isinstance(model, Classifier):
        own["classes"] = class_fields(model)
    written = {
        **_peft_config(model.config, config, kept),
        "base_model_name_or_path": base.name,
        "task_type": "SEQ_CLS" if isinstance(model, Classifier) else "CAUSAL_LM",
        "modules_to_save": ["score"] if isinstance(model, Classifier) else None,
    }
    return PackedAdapter(written, own, tensors, tokenizer)


def save_adapter(
    folder: Path,
    model: Transformer,
    config: LoraConfig,
    base: Base,
    tokenizer: Tokenizer | None = None,
    *,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write the folder of an adapter, whole or not at all; an older one of that name is replaced.

    facts    kept in the manifest: anything JSON can hold
    others   as `pack_adapter`
    """
    packed = pack_adapter(model, config, base, tokenizer)

    def fill(partial: Path) -> None:
        packed.write(partial)
        write_manifest(partial, FORMAT, VERSION, **(facts or {}))

    replace_folder(Path(folder), fill)


def _joined_layers(config: ModelConfig, layers: Mapping[str, LoraLinear]) -> dict[str, Joined]:
    """The adapters by the names of layers in transformers."""
    found = {}
    for theirs, rows in layer_rows(config).items():
        own = [layers.get(row.ours.removesuffix(WEIGHT)) for row in rows]
        if any(layer is not None for layer in own):
            found[theirs] = join(rows, own)
    return found


def _whole_weights(model: Transformer, layers: Mapping[str, LoraLinear]) -> dict[str, Tensor]:
    """Copies of what is trained beside the adapters, by their names in the file."""
    adapted = {f"{layer}.{own}" for layer in layers for own in ("lora_a", "lora_b")}
    head = ["head.weight"] if isinstance(model, Classifier) else []
    rows = full_rows(model)
    weights = dict(model.named_parameters())
    tensors = {}
    for name in dict.fromkeys((*head, *trainable_parameters(model))):
        if name in adapted:
            continue
        if name not in rows or name.rpartition(".")[0] in layers:
            raise ConfigError(
                f"{name} is trained beside the adapters, and the folder of an adapter cannot hold "
                "it. Freeze it, or train the whole model."
            )
        weight = whole(weights[name].detach()).to("cpu", copy=True)
        theirs = weight.T if rows[name].transpose else weight
        tensors[f"{PREFIX}{rows[name].theirs}"] = theirs.contiguous()
    return tensors


def _peft_config(
    shape: ModelConfig, config: LoraConfig, kept: Mapping[str, Joined]
) -> dict[str, Any]:
    """What adapter_config.json says of the adapters."""
    ranks = pattern(shape, {name: joined.rank for name, joined in kept.items()}, config.rank)
    alphas = pattern(shape, {name: joined.alpha for name, joined in kept.items()}, config.alpha)
    rows = layer_rows(shape)
    return {
        "peft_type": "LORA",
        "r": config.rank,
        "lora_alpha": _number(config.alpha),
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "rank_pattern": ranks,
        "alpha_pattern": {name: _number(alpha) for name, alpha in alphas.items()},
        "target_modules": target_names(shape, kept),
        "fan_in_fan_out": any(row.transpose for name in kept for row in rows[name]),
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
        "revision": None,
    }


def _number(value: float) -> float:
    """As peft writes it: 32, not 32.0."""
    return int(value) if value == int(value) else value


def is_adapter(folder: Path) -> bool:
    """Whether a folder is that of an adapter, ours or peft's."""
    return (Path(folder) / CONFIG).is_file()


def read_adapter_config(folder: Path) -> AdapterFacts:
    """What the folder of an adapter tells of itself and of its base.

    raises   CheckpointError for a folder that is none, and for an adapter that we cannot read
    """
    own = _read_own(Path(folder))
    return AdapterFacts(read_peft_config(Path(folder)).base, own.base, own.classes)


def whole_shapes(folder: Path, model: Transformer) -> dict[str, tuple[int, ...]]:
    """The shapes of the whole weights beside an adapter, by our names: a table may have grown.

    model    its base
    raises   CheckpointError
    """
    with open_adapter(Path(folder)) as weights:
        plan = Plan(weights, read_peft_config(Path(folder)), {}, model)
        return {ours: weights.shape_of(row) for ours, row in plan.whole.items()}


@torch.no_grad()
def load_adapter(
    model: Transformer, folder: Path, *, base: Base | None = None, verify: bool = True
) -> LoraConfig:
    """Give a model the adapters of a folder, ours or peft's, in place; all else is frozen.

    Adapters that it has are replaced. Nothing is changed before everything is checked and read. The
    new ones can be trained on, and so can the whole weights that the folder brings.

    base     of `describe_base`; None: found here, which a base in 4 bits no more allows
    verify   hold the files against the manifest, where there is one, before they are read
    returns  the settings, for whoever saves it again
    raises   CheckpointError for a folder that is damaged, of a kind that we do not compute, or made
             for another base
    """
    folder = Path(folder)
    if verify and (folder / MANIFEST).is_file():
        _verify(folder)
    peft, own = read_peft_config(folder), _read_own(folder)
    if own.base is not None:
        _check_base(folder, own.base, base or describe_base(model, "the one given"))
    with open_adapter(folder) as weights:
        plan = Plan(weights, peft, own.parts, model)
        plan.check_shapes()
        layers, tables = dict(plan.read_layers()), plan.read_whole()
    remove_adapters(model, merge=False)
    model.requires_grad_(False)
    for name, (a, b, alpha) in layers.items():
        old = model.get_submodule(name)
        assert isinstance(old, Linear)
        settings: dict[str, Any] = {"rslora": peft.rslora, "drop": peft.dropout}
        replace_layer(model, name, LoraLinear(old, a, b, alpha=alpha, **settings))
    held = dict(model.named_parameters(remove_duplicate=False))
    for name, weight in tables.items():
        held[name].copy_(weight)
        held[name].requires_grad_(True)
    return settings_of(peft, layers)


def _check_base(folder: Path, made_for: Base, mine: Base) -> None:
    if not made_for.fits(mine):
        raise CheckpointError(
            f"{folder} is an adapter of {made_for}, and the model is another: {mine}. An adapter "
            "fits only the weights beside which it was trained: load that base."
        )


def _verify(folder: Path) -> None:
    """Hold the files against the manifest: of an adapter, or of a run's checkpoint."""
    kind = read_table(folder / MANIFEST).get("format")
    if kind == model_folder.FORMAT:
        read_manifest(folder, model_folder.FORMAT, model_folder.VERSION)
    else:
        read_manifest(folder, FORMAT, VERSION)


@dataclass(frozen=True)
class _Own:
    """What our own file says; nothing in folders of other programs."""

    base: Base | None = None
    parts: Mapping[str, Parts] = field(default_factory=dict)
    classes: tuple[tuple[str, ...], Pooling] | None = None


def _read_own(folder: Path) -> _Own:
    path = folder / OWN
    if not path.is_file():
        return _Own()
    values = read_table(path)
    parts, classes = values.get("parts"), values.get("classes", {})
    if not isinstance(parts, dict) or not isinstance(classes, dict):
        raise _damaged(path)
    return _Own(
        Base.from_json(values.get("base"), str(path)),
        {name: _parts(value, path) for name, value in parts.items()},
        read_classes(classes, str(path)),
    )


def _parts(value: Any, path: Path) -> Parts:
    if not isinstance(value, dict) or value.keys() != {"ranks", "alpha"}:
        raise _damaged(path)
    ranks, alpha = value["ranks"], value["alpha"]
    good = isinstance(ranks, list) and all(type(rank) is int and rank >= 0 for rank in ranks)
    if not good or type(alpha) not in (int, float) or not 0 < alpha < math.inf:
        raise _damaged(path)
    return Parts(tuple(ranks), alpha)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} does not hold what scratchlm writes: it was damaged.")
