"""The tensors of an adapter's folder: which layer each belongs to, checked before any is read."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.adapter_layers import WEIGHT, Joined, Parts, divide, layer_rows
from scratchlm.checkpoint.classes import SCORE
from scratchlm.checkpoint.families import NAMES, Row
from scratchlm.checkpoint.names import listed, weight_rows
from scratchlm.checkpoint.peft_config import CONFIG, PeftConfig
from scratchlm.checkpoint.weights import Weights
from scratchlm.model.classifier import Classifier
from scratchlm.model.lora import SETS, LoraConfig
from scratchlm.model.transformer import Linear, Transformer

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft's, of every name
A, B = ".lora_A.weight", ".lora_B.weight"
_PICKLE = "adapter_model.bin"


@contextmanager
def open_adapter(folder: Path) -> Iterator[Weights]:
    """Open the tensors of an adapter's folder.

    raises   CheckpointError for a file that is missing, cut short or not safetensors
    """
    path = folder / WEIGHTS
    if not path.is_file() and (folder / _PICKLE).is_file():
        raise CheckpointError(
            f"{folder / _PICKLE} is a pickle, which can run any code when it is loaded. Save the "
            f"adapter with a newer peft, which writes {WEIGHTS}, and load that."
        )
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}: it was only partly copied or written.")
    try:
        with safe_open(path, framework="pt") as file:
            yield Weights(str(path), dict.fromkeys(file.keys(), file))
    except (SafetensorError, OSError) as bad:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({bad}). Copy it again."
        ) from None


def full_rows(model: Transformer) -> dict[str, Row]:
    """The weights that may lie whole beside an adapter, by our names."""
    rows = {row.ours: row for row in weight_rows(model.config) if row.parts == 1}
    if isinstance(model, Classifier):
        rows["head.weight"] = Row("head.weight", SCORE)
    return rows


class Plan:
    """What a folder holds for a model; nothing is in memory yet, and the model is not changed.

    parts    how joined layers divide, as our own file tells
    whole    the whole weights by our names; each row's `theirs` is the name in the file
    raises   CheckpointError for tensors that belong to no part of such a model, and for a set of
             layers that is not the one that adapter_config.json names
    """

    def __init__(
        self,
        weights: Weights,
        peft: PeftConfig,
        parts: Mapping[str, Parts],
        model: Transformer,
    ) -> None:
        self.weights, self.peft, self.parts, self.model = weights, peft, parts, model
        self._rows = layer_rows(model.config)
        self._stored: dict[str, str] = {}  # each layer by its name in transformers -> in the file
        self._sort_layers()
        self._check_targets()
        self.whole = self._whole_weights()

    def _sort_layers(self) -> None:
        names = [name.removeprefix(PREFIX) for name in self.weights.names]
        adapted = {name.rpartition(".lora_")[0] for name in names if ".lora_" in name}
        prefix = NAMES[self.model.config.family].prefix
        # Trained on the class without a head, names lack what the head's class puts before them.
        bare = not any(name.startswith(prefix) for name in adapted)
        for name in sorted(adapted):
            layer = prefix + name if bare else name
            if layer not in self._rows:
                raise CheckpointError(
                    f"{self.weights.where}: the adapter of {name} belongs to no layer that can "
                    f"have one here. {self._base()} Adapters of embeddings, heads and routers are "
                    "not read."
                )
            self._stored[layer] = PREFIX + name
        if not adapted:
            raise CheckpointError(f"{self.weights.where} holds no adapter.")
        ends = {f"{stored}{end}" for stored in self._stored.values() for end in (A, B)}
        odd = {n for n in self.weights.names if ".lora_" in n} ^ ends
        if odd:
            raise CheckpointError(
                f"{self.weights.where}: an adapter is an A and a B for each layer; missing, or not "
                f"of these: {listed(sorted(odd))}."
            )

    def _check_targets(self) -> None:
        chosen = self.peft.chosen(self._rows)
        if chosen is not None and chosen != self._stored.keys():
            raise CheckpointError(
                f"{self.weights.where} and {CONFIG} (target_modules) differ. Named, but not there: "
                f"{listed(sorted(chosen - self._stored.keys()))}. There, but not named: "
                f"{listed(sorted(self._stored.keys() - chosen))}."
            )

    def _whole_weights(self) -> dict[str, Row]:
        by_theirs = {row.theirs: row for row in full_rows(self.model).values()}
        if self.model.config.tie_embeddings:
            heads = [row for row in NAMES[self.model.config.family].rows if row.tied]
            by_theirs |= {row.theirs: row for row in heads}
        found = {}
        for name in sorted(self.weights.names):
            if ".lora_" in name:
                continue
            row = by_theirs.get(name.removeprefix(PREFIX))
            if row is None:
                raise CheckpointError(
                    f"{self.weights.where} holds {name}, for which this model has no place: it "
                    "belongs to a model of another kind, such as a classifier."
                )
            found[row.ours] = replace(row, theirs=name)
        if isinstance(self.model, Classifier) and "head.weight" not in found:
            raise CheckpointError(
                f"{self.weights.where} has no {SCORE}, the head of a classifier: it is the adapter "
                "of a language model."
            )
        return found

    def check_shapes(self) -> None:
        """Hold every shape against the model's, before memory is taken.

        raises   CheckpointError
        """
        for layer, stored in self._stored.items():
            self._check_adapter(layer, stored)
        held = dict(self.model.named_parameters(remove_duplicate=False))
        for ours, row in self.whole.items():
            expected, found = tuple(held[ours].shape), self.weights.shape_of(row)
            if expected != found:
                raise CheckpointError(
                    f"{self.weights.where}: {row.theirs} has the shape {found}, where this model's "
                    f"{ours} has {expected}. {self._base()}"
                )

    def _check_adapter(self, layer: str, stored: str) -> None:
        a, b = self.weights.shape(stored + A), self.weights.shape(stored + B)
        rows, rank = self._rows[layer], self.peft.rank_of(layer)
        ours = self.model.get_submodule(rows[0].ours.removesuffix(WEIGHT))
        assert isinstance(ours, Linear)
        expected = (rank, ours.in_features), (ours.out_features * len(rows), rank)
        if (a, b) != expected:
            raise CheckpointError(
                f"{self.weights.where}: the adapter of {layer} has A {a} and B {b}, where rank "
                f"{rank} ({CONFIG}) and this model ask for {expected[0]} and {expected[1]}. "
                f"{self._base()}"
            )
        parts = self.parts.get(layer)
        if parts and (len(parts.ranks) != len(rows) or sum(parts.ranks) != rank):
            raise CheckpointError(
                f"{self.weights.where}: the adapter of {layer} has rank {rank}, and is said to "
                f"have parts of {parts.ranks}: a file was damaged or exchanged."
            )

    def _base(self) -> str:
        named = f" ({CONFIG} names it {self.peft.base!r})" if self.peft.base else ""
        return f"The base that it was trained on{named} is needed."

    def read_layers(self) -> Iterator[tuple[str, tuple[Tensor, Tensor, float]]]:
        """A, B and alpha of each adapter by the name of its layer here; on the CPU."""
        for layer, stored in self._stored.items():
            joined = Joined(
                self.weights.read(stored + A).float(),
                self.weights.read(stored + B).float(),
                self.peft.alpha_of(layer),
                self.parts.get(layer),
            )
            for row in self._rows[layer]:
                a, b, alpha = divide(joined, row.part, row.parts)
                if len(a):
                    yield row.ours.removesuffix(WEIGHT), (a, b, alpha)

    def read_whole(self) -> dict[str, Tensor]:
        """The whole weights by our names, as they are stored.

        raises   CheckpointError for a head that is not the embedding, where the model ties the two
        """
        read = {
            ours: self.weights.read_row(row, "cpu", self.weights.dtype_of(row.theirs))
            for ours, row in self.whole.items()
        }
        if self.model.config.tie_embeddings and "head.weight" in read:
            head, table = read["head.weight"], read.get("embedding.weight")
            if table is None or not torch.equal(head, table):
                raise CheckpointError(
                    f"{self.weights.where} has a head of its own, and this model takes the "
                    "embedding for it: they were trained apart, which needs a base with both."
                )
        return read


def settings_of(peft: PeftConfig, layers: Collection[str]) -> LoraConfig:
    """What adapters would be made by that are like these.

    layers   by our names
    """
    there = {name.rpartition(".")[2] for name in layers}
    names = tuple(name for name in SETS["all"] if name in there)
    return LoraConfig(peft.rank, peft.alpha, peft.dropout, names, peft.rslora)
