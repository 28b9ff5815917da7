"""Adapters under the names of transformers: which layer is which, and how joined layers divide."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scratchlm.checkpoint.families import NAMES, Row
from scratchlm.checkpoint.names import weight_rows
from scratchlm.checkpoint.sharded import whole
from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import SETS, LoraLinear

WEIGHT = ".weight"


@dataclass(frozen=True)
class Parts:
    """How the adapter of a joined layer divides: the rank of each part, 0 for none; their alpha."""

    ranks: tuple[int, ...]
    alpha: float


@dataclass(frozen=True)
class Joined:
    """One adapter of theirs.

    a, b     (rank, in), (out, rank), on the CPU
    parts    of a joined layer, each with an A of its own; None: all parts have the same A
    """

    a: Tensor
    b: Tensor
    alpha: float
    parts: Parts | None = None

    @property
    def rank(self) -> int:
        """Of the whole."""
        return self.a.shape[0]


def layer_rows(config: ModelConfig) -> dict[str, list[Row]]:
    """The layers that may have an adapter by their names there, each with its parts here."""
    found: dict[str, list[Row]] = {}
    for row in weight_rows(config):
        layer = row.ours.removesuffix(WEIGHT)
        last = layer.rpartition(".")[2]
        if row.ours.startswith("blocks.") and row.ours != layer and last in SETS["all"]:
            found.setdefault(row.theirs.removesuffix(WEIGHT), []).append(row)
    return found


def join(rows: Sequence[Row], layers: Sequence[LoraLinear | None]) -> Joined:
    """The adapters of the parts of one layer of theirs, as one.

    rows     of all parts in their order
    layers   likewise; None for a part without an adapter, but not for all
    """
    there = [layer for layer in layers if layer is not None]
    a = [_on_cpu(layer.lora_a) for layer in there]
    b = [_on_cpu(layer.lora_b) for layer in there]
    first = there[0]
    assert all(layer.scale == first.scale for layer in there), "theirs has one alpha"
    if len(there) == len(rows) and all(torch.equal(a[0], other) for other in a):
        return Joined(a[0], torch.cat(b), first.alpha)
    ranks = tuple(0 if layer is None else layer.rank for layer in layers)
    joined = torch.zeros(len(rows) * first.out_features, sum(ranks))
    row = column = 0
    for layer, rank in zip(layers, ranks, strict=True):
        if layer is not None:
            joined[row : row + first.out_features, column : column + rank] = b.pop(0)
        row, column = row + first.out_features, column + rank
    times = sum(ranks) / first.rank  # another alpha, so that the scale stays
    alpha = first.alpha * (math.sqrt(times) if first.rslora else times)
    return Joined(torch.cat(a), joined, alpha, Parts(ranks, first.alpha))


def divide(joined: Joined, part: int, parts: int) -> tuple[Tensor, Tensor, float]:
    """A, B and alpha of one part of a joined layer of so many; undoes `join`."""
    size = joined.b.shape[0] // parts
    b = joined.b[part * size : (part + 1) * size]
    if joined.parts is None:
        return joined.a, b, joined.alpha
    start = sum(joined.parts.ranks[:part])
    own = slice(start, start + joined.parts.ranks[part])
    return joined.a[own], b[:, own], joined.parts.alpha


def target_names(config: ModelConfig, adapted: Collection[str]) -> list[str]:
    """What tells peft which layers have adapters: short where all layers of a kind do.

    adapted   their names
    """
    kinds = _kinds(config)
    found = set()
    for end, layers in kinds.items():
        have = layers & set(adapted)
        found |= {end} if have == layers else have
    return sorted(found)


def pattern(config: ModelConfig, values: dict[str, float], usual: float) -> dict[str, float]:
    """What tells peft the numbers of layers that differ from the usual one."""
    found: dict[str, float] = {}
    for end, layers in _kinds(config).items():
        here = {layer: values[layer] for layer in layers & values.keys()}
        if len(set(here.values())) == 1:
            here = {end: next(iter(here.values()))}
        found |= {re.escape(name): v for name, v in here.items() if v != usual}
    return found


def _kinds(config: ModelConfig) -> dict[str, set[str]]:
    """The layers of each kind, by the shortest end of their names that no other kind has."""
    rows = [row for row in NAMES[config.family].rows if row.theirs.endswith(WEIGHT)]
    names = {row.theirs.removesuffix(WEIGHT) for row in rows}
    adaptable = layer_rows(config)
    found = {}
    for row in rows:
        kind = row.theirs.removesuffix(WEIGHT)
        layers = {n.theirs.removesuffix(WEIGHT) for n in row.numbered(config)} & adaptable.keys()
        words = kind.split(".")
        for n in range(1, len(words) + 1):
            end = ".".join(words[-n:])
            if sum(f".{name}".endswith(f".{end}") for name in names) == 1:
                break
        if layers:
            found[end] = layers
    return found


def _on_cpu(weight: Tensor) -> Tensor:
    return whole(weight.detach()).to("cpu", copy=True).contiguous()
