"""Which base an adapter belongs to: its shape, and a hash of the weights that adapters sit on."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.names import read_config, weight_rows, write_config
from scratchlm.checkpoint.sharded import whole
from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import adapters
from scratchlm.model.transformer import Transformer

_SITS_ON = ("blocks.", "norm.")


@dataclass(frozen=True)
class Base:
    """A base model, as an adapter remembers it.

    name     a folder or a name on the hub, for people and for peft
    sha256   of the weights of blocks and last norm, each rounded to bfloat16: equal however they
             are stored, and whatever embedding and head have become
    """

    name: str
    config: ModelConfig
    sha256: str

    def __str__(self) -> str:
        c = self.config
        shape = f"{c.family}, {c.n_layers} layers of {c.d_model}"
        return f"{self.name} ({shape}, weights {self.sha256[:12]})"

    def fits(self, other: "Base") -> bool:
        """Whether it is the same base, by another name perhaps."""
        return self.sha256 == other.sha256 and _plain(self.config) == _plain(other.config)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        config = write_config(replace(self.config, dropout=0.0))
        return {"name": self.name, "config": config, "sha256": self.sha256}

    @classmethod
    def from_json(cls, values: Any, where: str) -> "Base":
        """The base that a file of ours names.

        where    the file, for messages
        raises   CheckpointError when it was damaged
        """
        good = isinstance(values, dict) and isinstance(values.get("config"), dict)
        if not good or not all(isinstance(values.get(key), str) for key in ("name", "sha256")):
            raise CheckpointError(f"{where} does not name a base: it was damaged.")
        return cls(values["name"], read_config(values["config"], where), values["sha256"])


@torch.no_grad()
def describe_base(model: Transformer, name: str | Path) -> Base:
    """The base that a model is, or has under its adapters; a second per GB of bfloat16.

    Before its matrices are kept in 4 bits: what they were is not known afterwards.

    name     where it lies: a folder, or a name on the hub
    """
    weights: dict[str, Tensor] = dict(model.named_parameters())
    for layer_name, layer in adapters(model):
        if layer.merged:
            weights[f"{layer_name}.weight"] = layer.base_weight()
    digest = hashlib.sha256()
    for row in weight_rows(model.config):
        if row.ours.startswith(_SITS_ON):
            assert row.ours in weights, "describe the base before it is quantised"
            weight = whole(weights[row.ours].detach()).to("cpu", torch.bfloat16).contiguous()
            digest.update(f"{row.ours} {tuple(weight.shape)}".encode())
            digest.update(weight.flatten().view(torch.uint8).numpy().data)
    return Base(str(name), model.config, digest.hexdigest())


def _plain(config: ModelConfig) -> ModelConfig:
    """Without what may change when an adapter is trained: vocabulary, head, and training itself."""
    known = ModelConfig()
    free = ("vocab_size", "tie_embeddings", "dropout", "init", "balance")
    return replace(config, **{name: getattr(known, name) for name in free})
