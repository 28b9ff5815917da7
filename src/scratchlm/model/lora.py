"""LoRA (arXiv:2106.09685): frozen matrices, each with a narrow product beside it that is trained.

    y = x W^T + (dropout(x) A^T) B^T * alpha / rank        A (rank, in), B (out, rank), at first 0

A transform of the one model: chosen layers are replaced by ones that hold the same weights under
the same names, and two more, `lora_a` and `lora_b`, in float32.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.base.errors import ConfigError
from scratchlm.model.functional import dropout
from scratchlm.model.nf4 import NF4Linear, NF4Weight
from scratchlm.model.transformer import Linear, Transformer

ATTENTION = ("q", "k", "v", "out")
FFN = ("gate", "up", "down")
SETS = {"attention": ATTENTION, "ffn": FFN, "all": (*ATTENTION, *FFN)}


@dataclass(frozen=True)
class LoraConfig:
    """Which matrices get an adapter, and how wide it is."""

    rank: int = 16  # width of an adapter: what it can change of a matrix has at most this rank
    alpha: float = 32.0  # what an adapter adds is multiplied by alpha / rank
    dropout: float = 0.0  # share of what enters an adapter that is zeroed in training
    layers: tuple[str, ...] = ("all",)  # all, attention, ffn, or q, k, v, out, gate, up, down
    rslora: bool = False  # multiply by alpha / sqrt(rank) instead (arXiv:2312.03732)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank = {self.rank} must be at least 1.")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"alpha = {self.alpha} must be above 0.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora_dropout = {self.dropout} must be in [0, 1).")
        known = (*SETS, *SETS["all"])
        if not self.layers or any(word not in known for word in self.layers):
            raise ConfigError(
                f"lora_layers = {list(self.layers)} must be some of {', '.join(known)}."
            )

    @property
    def matrices(self) -> set[str]:
        """The names that `layers` means."""
        return {name for word in self.layers for name in SETS.get(word, (word,))}


class LoraLinear(Linear):
    """A frozen linear layer with an adapter beside it.

    base     what it takes the place of; its weight, or its 4-bit matrix, and its bias are shared
    a, b     (rank, in) and (out, rank), any float dtype: copied
    alpha    what the adapter adds is multiplied by alpha / rank
    rslora   by alpha / sqrt(rank) instead
    drop     share of what enters the adapter that is zeroed in training
    """

    unmerged: Tensor | None  # the weight as it was, while the adapter is merged into it

    def __init__(
        self, base: Linear, a: Tensor, b: Tensor, *, alpha: float, rslora: bool, drop: float
    ) -> None:
        nn.Module.__init__(self)  # nn.Linear's would draw a matrix
        self.in_features, self.out_features = base.in_features, base.out_features
        self.register_parameter("weight", None)  # and so it stays where the matrix is in 4 bits
        self.weight, self.bias = base.weight, base.bias
        self.packed: NF4Weight | None = base.packed if isinstance(base, NF4Linear) else None
        self.register_buffer("unmerged", None, persistent=False)
        held = base.weight if self.packed is None else self.packed.codes
        place: dict[str, Any] = {"device": held.device, "dtype": torch.float32, "copy": True}
        self.lora_a = nn.Parameter(a.detach().to(**place))
        self.lora_b = nn.Parameter(b.detach().to(**place))
        self.alpha, self.rslora, self.drop = alpha, rslora, drop
        self.on = True
        self.train(base.training)

    @property
    def rank(self) -> int:
        """How wide the adapter is."""
        return self.lora_a.shape[0]

    @property
    def scale(self) -> float:
        """What the adapter's product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def merged(self) -> bool:
        """Whether the weight has the adapter in it."""
        return self.unmerged is not None or (self.packed is not None and self.weight is not None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = self._base(x)
        if not self.on or self.merged:
            return y
        inputs = dropout(x, self.drop) if self.training and self.drop and x.numel() else x
        narrow = F.linear(inputs, self.lora_a.to(x.dtype)) * self.scale  # (..., rank)
        return y + F.linear(narrow, self.lora_b.to(x.dtype))

    def _base(self, x: Tensor) -> Tensor:
        """By the weight, which may have the adapter in it; by the plain one where that is off."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.packed is not None and (self.weight is None or not self.on):
            y = self.packed.product(x)
            return y if bias is None else y + bias
        weight = self.weight if self.on or self.unmerged is None else self.unmerged
        return F.linear(x, weight.to(x.dtype), bias)

    def sum(self) -> Tensor:
        """Weight and adapter in one matrix, float32."""
        base = self.base_weight(torch.float32)
        return torch.addmm(base, self.lora_b, self.lora_a, alpha=self.scale)

    def base_weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weight without the adapter, merged or not; None: in the dtype that it has."""
        if self.packed is not None:
            return self.packed.dequantise(dtype or self.packed.dtype)
        weight = self.weight if self.unmerged is None else self.unmerged
        return weight.detach().to(dtype or weight.dtype)

    def merge(self) -> None:
        """Put the adapter into the weight; the weight as it was is kept beside it."""
        merged = self.sum()
        if self.packed is None:
            self.unmerged = self.weight.detach().clone()
        else:
            empty = torch.empty_like(merged, dtype=self.packed.dtype)
            self.weight = nn.Parameter(empty, requires_grad=False)
        self.weight.copy_(merged)  # in place, so that who watches weights by version sees it

    def unmerge(self) -> None:
        """Put the kept weight back, equal in every bit."""
        if self.unmerged is not None:
            self.weight.copy_(self.unmerged)
            self.unmerged = None
        elif self.packed is not None:
            self.register_parameter("weight", None)

    def plain(self) -> Linear:
        """What it took the place of: the same weight as it now is, without the adapter."""
        if self.packed is not None and self.weight is None:
            return NF4Linear(self, self.packed).train(self.training)
        made = Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        made.weight, made.bias = self.weight, self.bias
        return made.train(self.training)


def add_adapters(
    model: Transformer, config: LoraConfig, generator: torch.Generator | None = None
) -> None:
    """Give the chosen matrices of all blocks an adapter and freeze everything else, in place.

    The model computes what it did, since B is zero. Weights keep their dtype, bfloat16 as well;
    4-bit ones (`model/nf4.py`) stay so. In a mixture of experts each expert has adapters of its
    own, the router none.

    generator   draws A; None: PyTorch's own
    raises      ConfigError where the model has adapters, or no matrix of a chosen name
    """
    if has_adapters(model):
        raise ConfigError(
            "the model has adapters already: merge them (scratchlm.model.lora.remove_adapters), or "
            "train these on."
        )
    layers = dict(linear_layers(model))
    there = {_last(name) for name in layers}
    for word in config.layers:
        if there.isdisjoint(SETS.get(word, (word,))):
            raise ConfigError(
                f"lora_layers = {list(config.layers)}: family {model.config.family} has no "
                f"{word!r}. Use some of {', '.join(sorted(there))}, or all."
            )
    if config.rank > model.config.d_model:
        raise ConfigError(
            f"rank = {config.rank} is more than the model is wide ({model.config.d_model}): "
            "adapters would be larger than the matrices beside them. 8 to 64 are usual."
        )
    if model.config.n_experts:
        _check_experts(config)
    settings: dict[str, Any] = {
        "alpha": config.alpha, "rslora": config.rslora, "drop": config.dropout
    }  # fmt: skip
    model.requires_grad_(False)
    for name, linear in layers.items():
        if _last(name) in config.matrices:
            # Drawn on the CPU, so that a seed means the same numbers on every device.
            a = torch.empty(config.rank, linear.in_features)
            bound = linear.in_features**-0.5  # as peft and the authors' code draw it
            a.uniform_(-bound, bound, generator=generator)
            b = torch.zeros(linear.out_features, config.rank)
            replace_layer(model, name, LoraLinear(linear, a, b, **settings))


def _check_experts(config: LoraConfig) -> None:
    """Refuse what peft could not load: it keeps gate and up of all experts as one."""
    chosen = config.matrices & set(FFN)
    if chosen and config.rslora:
        raise ConfigError(
            "rslora = true does not go with adapters of experts: peft joins those of gate and "
            "up and scales them otherwise. Without it, alpha = "
            f"{config.alpha * config.rank**0.5:.4g} is the same; or take layers = attention."
        )
    if ("gate" in chosen) != ("up" in chosen):
        raise ConfigError(
            f"lora_layers = {list(config.layers)}: gate and up of experts have adapters both or "
            "neither, since peft joins them."
        )


def linear_layers(model: Transformer) -> Iterator[tuple[str, Linear]]:
    """Every layer of the blocks that may have an adapter, by its name in the model."""
    for name, module in model.blocks.named_modules(prefix="blocks"):
        if isinstance(module, Linear):
            yield name, module


def adapters(model: Transformer) -> list[tuple[str, LoraLinear]]:
    """Every layer with an adapter, by its name in the model."""
    return [(n, layer) for n, layer in linear_layers(model) if isinstance(layer, LoraLinear)]


def has_adapters(model: Transformer) -> bool:
    """Whether any layer has an adapter."""
    return bool(adapters(model))


def holds_whole_weights(model: Transformer) -> bool:
    """Whether the weights alone are the model: nothing in 4 bits, no adapter that is not merged."""
    return not any(
        not layer.merged if isinstance(layer, LoraLinear) else isinstance(layer, NF4Linear)
        for _, layer in linear_layers(model)
    )


def replace_layer(model: Transformer, name: str, layer: Linear) -> None:
    """Put a layer in the place of that of a name, as `linear_layers` gives it."""
    parent, _, own_name = name.rpartition(".")
    setattr(model.get_submodule(parent), own_name, layer)


def trainable_parameters(model: Transformer) -> dict[str, nn.Parameter]:
    """What is trained, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@contextmanager
def adapters_off(model: Transformer) -> Iterator[None]:
    """Inside, the model computes what its base does, bit for bit; merged or not.

    Call it around compiled functions, not in them. Keys and values that were cached outside are
    those of the adapted model.
    """
    layers = [layer for _, layer in adapters(model)]
    before = [layer.on for layer in layers]
    try:
        for layer in layers:
            layer.on = False
        yield
    finally:
        for layer, on in zip(layers, before, strict=True):
            layer.on = on


@torch.no_grad()
def merge_adapters(model: Transformer) -> None:
    """Put every adapter into its weight, in place: as quick as without, and not to be trained.

    The sum is taken in float32 and rounded once, to the dtype of the weight. The weights as they
    were are kept, so that `unmerge_adapters` restores every bit: adapted matrices take twice their
    memory. Where they need not come back, `remove_adapters` takes none. 4-bit weights become whole
    ones, in the dtype that they had, and the codes are kept.
    """
    for _, layer in adapters(model):
        if not layer.merged:
            layer.merge()


@torch.no_grad()
def unmerge_adapters(model: Transformer) -> None:
    """Undo `merge_adapters`, in place and exactly; nothing happens where nothing is merged."""
    for _, layer in adapters(model):
        layer.unmerge()


@torch.no_grad()
def remove_adapters(model: Transformer, *, merge: bool) -> None:
    """Take every adapter away, in place; floating-point weights can all be trained again.

    merge    leave it in the weight, as `merge_adapters` does; False: leave the base, bit for bit
    """
    for name, layer in adapters(model):
        if merge and not layer.merged:
            layer.merge()
        elif not merge:
            layer.unmerge()
        layer.unmerged = None  # one matrix at a time, so that no second model is in memory
        replace_layer(model, name, layer.plain())
    model.requires_grad_(True)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
