"""`inspect`: what a model is, from its headers alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scratchlm.base.errors import CheckpointError
from scratchlm.base.files import MANIFEST, read_json
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.import_model import find_source, open_any


@dataclass(frozen=True)
class ModelFacts:
    """What `inspect` found.

    parameters   numbers that are learned: embedding (a tied head counts there), attention,
                 feed-forward, norms, head
    active       of all, those that one token passes through
    stored       how the weights are stored
    n_bytes      of them in the files
    memory       bytes in memory, by dtype
    cache        bytes of keys and values for each token of context, in bfloat16
    tokenizer    kind and ids; None where there is none
    template     whether chats have one
    origin       where it came from, as far as the files tell
    """

    path: Path
    format: str
    config: ModelConfig
    parameters: dict[str, int]
    active: int
    stored: str
    n_bytes: int
    memory: dict[str, int]
    cache: int
    tokenizer: str | None
    template: bool
    origin: dict[str, Any]

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())


def inspect(source: Path | str) -> ModelFacts:
    """What a model file, a model folder, or a run's folder holds; no weight is loaded.

    source   a path, or what `import_model` downloads

    raises   CheckpointError for what is missing, damaged, or of no known format
    """
    path = find_source(source)
    with open_any(path) as opened:
        config = opened.config
        with torch.device("meta"):
            model = Transformer(config)
        parts = _parts(model)
        total = sum(parts.values())
        return ModelFacts(
            path=path,
            format=opened.format,
            config=config,
            parameters=parts,
            active=total - _idle(model),
            stored=opened.stored,
            n_bytes=opened.n_bytes,
            memory={"float32": 4 * total, "bfloat16": 2 * total},
            cache=2 * 2 * config.n_layers * config.n_kv_heads * config.d_head,
            tokenizer=_tokenizer(opened),
            template=opened.template is not None,
            origin={**opened.facts, **_manifest(path)},
        )


def _parts(model: Transformer) -> dict[str, int]:
    tables = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    parts = {"embedding": tables, "attention": 0, "feed-forward": 0, "norms": 0}
    for name, weight in model.blocks.named_parameters():
        kind = "attention" if ".attention." in name else "feed-forward"
        norm = weight.ndim == 1 and ("norm" in name or "after_" in name)
        parts["norms" if norm else kind] += weight.numel()
    parts["norms"] += sum(weight.numel() for weight in model.norm.parameters())
    parts["head"] = model.n_parameters() - sum(parts.values())
    return parts


def _idle(model: Transformer) -> int:
    """Parameters of experts that a token does not pass through."""
    c = model.config
    if not c.n_experts:
        return 0
    experts = sum(w.numel() for n, w in model.named_parameters() if ".experts." in n)
    return experts * (c.n_experts - c.n_active) // c.n_experts


def _tokenizer(source: Any) -> str | None:
    if source.tokenizer is None:
        return None
    try:
        tokenizer = source.tokenizer()
    except CheckpointError as bad:
        return f"not usable: {bad}"
    return f"{tokenizer.kind}, {tokenizer.vocab_size:,} ids"


def _manifest(path: Path) -> dict[str, Any]:
    """What the manifest of a folder of ours says about where it came from."""
    file = path / MANIFEST
    if not path.is_dir() or not file.is_file():
        return {}
    found = read_json(file, CheckpointError)
    facts = found if isinstance(found, dict) else {}
    known = {"imported": facts.get("imported"), "run": facts.get("run"), "step": facts.get("step")}
    return {name: value for name, value in known.items() if value is not None}
