"""The `.pt` files of tutorials: nanoGPT's and its kin's, and llama2.c's checkpoints.

    {"model": weights, "model_args": sizes, ...}    nanoGPT, llama2.c
    {"model": weights, "config": GPTConfig(...)}    miniGPT and others that pickle their config

Names may bear the prefix that torch.compile gives, or lack "transformer.".
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.families import NAMES, Row
from scratchlm.checkpoint.rope_names import is_positive
from scratchlm.formats.gguf_names import interleave
from scratchlm.formats.given_tokenizer import read_given
from scratchlm.formats.source import Source, by_rows
from scratchlm.formats.torch_file import Lazy, Record, check_weights, open_torch
from scratchlm.model.config import ModelConfig
from scratchlm.tokenizer.tokenizer import Tokenizer

_MOST_LAYERS = 2**12
_COMPILED = "_orig_mod."
_MASKS = (".attn.bias", ".attn.masked_bias")  # triangles that older versions stored

# nanoGPT's names are those of transformers, but its linear layers lie as PyTorch's do.
_NANOGPT = tuple(
    Row(row.ours, row.theirs, part=row.part, parts=row.parts, tied=row.tied)
    for row in NAMES["gpt2"].rows
)
_GPT, _HEAD = "transformer.", "lm_head.weight"
_NANOGPT_SIZES = {
    "n_layers": ("n_layer", "n_layers", "num_layers"),
    "n_heads": ("n_head", "n_heads", "num_heads"),
    "d_model": ("n_embd", "n_embed", "d_model", "emb_dim"),
    "max_seq_len": ("block_size", "max_seq_len", "context_length"),
    "vocab_size": ("vocab_size",),
}
_LAYER = "layers.{i}"
_LLAMA2C = tuple(
    Row(f"{ours}.weight", f"{theirs}.weight", tied=ours == "head")
    for ours, theirs in {
        "embedding": "tok_embeddings",
        "blocks.{i}.attention_norm": f"{_LAYER}.attention_norm",
        "blocks.{i}.attention.q": f"{_LAYER}.attention.wq",
        "blocks.{i}.attention.k": f"{_LAYER}.attention.wk",
        "blocks.{i}.attention.v": f"{_LAYER}.attention.wv",
        "blocks.{i}.attention.out": f"{_LAYER}.attention.wo",
        "blocks.{i}.ffn_norm": f"{_LAYER}.ffn_norm",
        "blocks.{i}.ffn.gate": f"{_LAYER}.feed_forward.w1",
        "blocks.{i}.ffn.up": f"{_LAYER}.feed_forward.w3",
        "blocks.{i}.ffn.down": f"{_LAYER}.feed_forward.w2",
        "norm": "norm",
        "head": "output",
    }.items()
)
_LLAMA2C_SIZES: dict[str, tuple[str, ...]] = {
    "d_model": ("dim",),
    "n_layers": ("n_layers",),
    "n_heads": ("n_heads",),
    "n_kv_heads": ("n_kv_heads",),
    "vocab_size": ("vocab_size",),
    "max_seq_len": ("max_seq_len",),
}


class _Weights:
    """Tensors of a state dict, as `by_rows` asks for them."""

    def __init__(self, tensors: Mapping[str, Lazy]) -> None:
        self._tensors = tensors

    @property
    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def read(self, name: str) -> Tensor:
        return self._tensors[name].read()

    def n_bytes(self) -> int:
        return sum(math.prod(one.shape) * one.dtype.itemsize for one in self._tensors.values())


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a checkpoint of nanoGPT, one of its kin, or llama2.c; its tokenizer may lie beside it.

    raises   CheckpointError for a damaged file, or one of another program
    """
    with open_torch(path) as found:
        sizes = _fields(found, ("model_args", "config", "model_config", "gpt_config"))
        state = _fields(found, ("model", "model_state_dict", "state_dict"))
        if sizes is None:
            raise CheckpointError(
                f"{path} is no checkpoint of nanoGPT or llama2.c: it has no model_args, and no "
                "config."
            )
        if not state:
            raise CheckpointError(
                f"{path} has no weights under the name model. Nothing that is in it was run."
            )
        tensors = {
            name.removeprefix(_COMPILED): weight
            for name, weight in check_weights(state, f"{path}, model").items()
            if not name.endswith(_MASKS)
        }
        if wrong := [name for name, w in tensors.items() if not w.dtype.is_floating_point]:
            raise CheckpointError(f"{path}: {wrong[0]} holds whole numbers: it was damaged.")
        if "tok_embeddings.weight" in tensors:
            yield _llama2c(path, sizes, tensors)
        else:
            yield _nanogpt(path, sizes, tensors)


def _fields(found: Any, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The first of these entries that is a table, or an object with fields."""
    for name in names if isinstance(found, dict) else ():
        value = found.get(name)
        if isinstance(value, Record):
            value = value.fields
        if isinstance(value, dict):
            return value
    return None


def _sizes(path: Path, sizes: dict[str, Any], names: dict[str, tuple[str, ...]]) -> dict[str, int]:
    found: dict[str, Any] = {
        ours: next((sizes[name] for name in theirs if sizes.get(name) is not None), None)
        for ours, theirs in names.items()
    }
    if found.get("n_kv_heads", 1) is None:
        found["n_kv_heads"] = found["n_heads"]
    bad = [name for name, n in found.items() if type(n) is not int or not 0 < n < 2**24]
    if bad:
        theirs = " or ".join(name for ours in bad for name in names[ours])
        raise CheckpointError(f"{path}: its config holds no usable {theirs}.")
    if found["n_layers"] > _MOST_LAYERS:
        raise CheckpointError(f"{path}: its config asks for {found['n_layers']:,} layers.")
    return found


def _config(path: Path, **sizes: Any) -> ModelConfig:
    try:
        return ModelConfig(**sizes).resolved()
    except ConfigError as bad:
        raise CheckpointError(f"{path} describes an impossible model: {bad}") from None


def _nanogpt(path: Path, sizes: dict[str, Any], tensors: dict[str, Lazy]) -> Source:
    if not any(name.startswith(_GPT) for name in tensors):
        tensors = {n if n == _HEAD else f"{_GPT}{n}": weight for n, weight in tensors.items()}
    head, table = tensors.get(_HEAD), tensors.get(f"{_GPT}wte.weight")
    tied = head is None or table is None or _equal(head, table)
    if tied:
        tensors.pop(_HEAD, None)  # the embedding once more
    config = _config(
        path,
        family="gpt2",
        exact_gelu=True,
        tie_embeddings=tied,
        **_sizes(path, sizes, _NANOGPT_SIZES),
    )
    if not any(name.endswith(".bias") for name in tensors):
        tensors = {**_zero_biases(config, tensors), **tensors}
    weights = _Weights(tensors)
    return Source(
        format="nanoGPT checkpoint",
        config=config,
        weights=by_rows(config, [r for r in _NANOGPT if not (tied and r.tied)], weights, str(path)),
        stored=_stored(tensors),
        dtype=_dtype(tensors),
        n_bytes=weights.n_bytes(),
        tokenizer=_beside(path, ("meta.pkl", "tokenizer.json"), config),
    )


def _equal(head: Lazy, table: Lazy) -> bool:
    if head.place is not None and head.place == table.place:
        return True
    return head.shape == table.shape and torch.equal(head.read(), table.read())


def _beside(
    path: Path, names: tuple[str, ...], config: ModelConfig
) -> Callable[[], Tokenizer] | None:
    """What reads the tokenizer that lies beside a checkpoint."""
    files = [path.with_name(name) for name in names]
    return next((partial(read_given, f, config) for f in files if f.is_file()), None)


def _zero_biases(config: ModelConfig, tensors: dict[str, Lazy]) -> dict[str, Lazy]:
    """The biases of a model that was trained without: as zeros they change nothing."""

    def zeros(n: int) -> Lazy:
        return Lazy((n,), torch.float32, lambda: torch.zeros(n))

    rows = [row for r in _NANOGPT for row in r.numbered(config) if row.ours.endswith(".bias")]
    found = {}
    for name in {row.theirs for row in rows}:
        weight = tensors.get(name.removesuffix("bias") + "weight")
        if weight is not None and weight.shape and name not in tensors:
            found[name] = zeros(weight.shape[0])
    return found


def _llama2c(path: Path, sizes: dict[str, Any], tensors: dict[str, Lazy]) -> Source:
    first = tensors.get("layers.0.feed_forward.w1.weight")
    if first is None or len(first.shape) != 2:
        raise CheckpointError(f"{path} is no checkpoint of nanoGPT or llama2.c.")
    tensors.pop("output.weight", None)  # the embedding once more: train.py always ties the two
    norm_eps = sizes.get("norm_eps", 1e-5)
    if not is_positive(norm_eps):
        raise CheckpointError(f"{path}: model_args holds no usable norm_eps.")
    config = _config(
        path,
        family="llama",
        norm_eps=float(norm_eps),
        d_ff=first.shape[0],
        tie_embeddings=True,
        **_sizes(path, sizes, _LLAMA2C_SIZES),
    )
    weights = _Weights(tensors)
    return Source(
        format="llama2.c checkpoint",
        config=config,
        weights=by_rows(
            config,
            [row for row in _LLAMA2C if not row.tied],
            weights,
            str(path),
            change=lambda name, weight: interleave(config, name, weight, undo=True),
        ),
        stored=_stored(tensors),
        dtype=_dtype(tensors),
        n_bytes=weights.n_bytes(),
        tokenizer=_beside(path, ("tokenizer.model", "tokenizer.bin"), config),
    )


def _dtype(tensors: dict[str, Lazy]) -> torch.dtype:
    kinds = {weight.dtype for weight in tensors.values()}
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _stored(tensors: dict[str, Lazy]) -> str:
    kinds = dict.fromkeys(str(weight.dtype).removeprefix("torch.") for weight in tensors.values())
    return " and ".join(kinds)
