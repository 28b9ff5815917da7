"""The `.pt` files of tutorials: nanoGPT's and llama2.c's checkpoints.

    {"model": weights, "model_args": sizes, ...}    written by their train.py

Both may bear the prefix that torch.compile gives to names.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.families import NAMES, Row
from scratchlm.formats import llama2c
from scratchlm.formats.gguf_names import interleave
from scratchlm.formats.source import Source, by_rows
from scratchlm.formats.torch_file import Lazy, open_torch, read_pickle
from scratchlm.model.config import ModelConfig
from scratchlm.tokenizer.compose import compose, split, word_level
from scratchlm.tokenizer.config import UNKNOWN
from scratchlm.tokenizer.sentencepiece import from_model_file
from scratchlm.tokenizer.tokenizer import Tokenizer

_COMPILED = "_orig_mod."
_MASKS = (".attn.bias", ".attn.masked_bias")  # triangles that older versions stored

# nanoGPT's names are those of transformers, but its linear layers lie as PyTorch's do.
_NANOGPT = tuple(
    Row(row.ours, row.theirs, part=row.part, parts=row.parts, tied=row.tied)
    for row in NAMES["gpt2"].rows
)
_NANOGPT_SIZES = {
    "n_layer": "n_layers",
    "n_head": "n_heads",
    "n_embd": "d_model",
    "block_size": "max_seq_len",
    "vocab_size": "vocab_size",
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
_LLAMA2C_SIZES = {
    "dim": "d_model",
    "n_layers": "n_layers",
    "n_heads": "n_heads",
    "n_kv_heads": "n_kv_heads",
    "vocab_size": "vocab_size",
    "max_seq_len": "max_seq_len",
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
        return sum(
            torch.Size(one.shape).numel() * one.dtype.itemsize for one in self._tensors.values()
        )


@contextmanager
def open_source(path: Path, tokenizer: Path | None = None) -> Iterator[Source]:
    """Open a checkpoint of nanoGPT or llama2.c.

    tokenizer   nanoGPT's meta.pkl, or llama2.c's tokenizer.bin or .model; None: one beside it
    raises      CheckpointError for a damaged file, or one of another program
    """
    with open_torch(path) as found:
        if not isinstance(found, dict) or not isinstance(found.get("model_args"), dict):
            raise CheckpointError(
                f"{path} is no checkpoint of nanoGPT or llama2.c: it has no model_args."
            )
        state = found.get("model")
        if not isinstance(state, dict) or not all(isinstance(w, Lazy) for w in state.values()):
            raise CheckpointError(f"{path} has no weights under the name model.")
        tensors = {
            name.removeprefix(_COMPILED): weight
            for name, weight in state.items()
            if not name.endswith(_MASKS)
        }
        sizes = found["model_args"]
        make = _nanogpt if "block_size" in sizes else _llama2c
        yield make(path, sizes, tensors, tokenizer)


def _sizes(path: Path, sizes: dict[str, Any], names: dict[str, str]) -> dict[str, int]:
    found = {ours: sizes.get(theirs) for theirs, ours in names.items()}
    if found.get("n_kv_heads", 1) is None:
        found["n_kv_heads"] = found["n_heads"]
    bad = {name: n for name, n in found.items() if not isinstance(n, int) or not 0 < n < 2**24}
    if bad:
        raise CheckpointError(f"{path}: model_args holds no usable {', '.join(bad)}.")
    return found  # type: ignore[return-value]


def _config(path: Path, **sizes: Any) -> ModelConfig:
    try:
        return ModelConfig(**sizes).resolved()
    except ConfigError as bad:
        raise CheckpointError(f"{path} describes an impossible model: {bad}") from None


def _nanogpt(
    path: Path, sizes: dict[str, Any], tensors: dict[str, Lazy], tokenizer: Path | None
) -> Source:
    config = _config(
        path,
        family="gpt2",
        exact_gelu=True,
        tie_embeddings=True,
        **_sizes(path, sizes, _NANOGPT_SIZES),
    )
    if not sizes.get("bias", True):
        tensors = {**_zero_biases(config, tensors), **tensors}
    tensors.pop("lm_head.weight", None)  # the embedding once more
    weights = _Weights(tensors)
    meta = tokenizer or path.with_name("meta.pkl")
    return Source(
        format="nanoGPT checkpoint",
        config=config,
        weights=by_rows(config, [r for r in _NANOGPT if not r.tied], weights, str(path)),
        stored=_stored(tensors),
        dtype=_dtype(tensors),
        n_bytes=weights.n_bytes(),
        tokenizer=partial(read_meta, meta) if tokenizer or meta.is_file() else None,
    )


def _zero_biases(config: ModelConfig, tensors: dict[str, Lazy]) -> dict[str, Lazy]:
    """The biases of a model that was trained without: as zeros they change nothing."""

    def zeros(n: int) -> Lazy:
        return Lazy((n,), torch.float32, lambda: torch.zeros(n))

    rows = [row for r in _NANOGPT for row in r.numbered(config) if row.ours.endswith(".bias")]
    found = {}
    for name in {row.theirs for row in rows}:
        weight = tensors.get(name.removesuffix("bias") + "weight")
        if weight is not None and name not in tensors:
            found[name] = zeros(weight.shape[0])
    return found


def _llama2c(
    path: Path, sizes: dict[str, Any], tensors: dict[str, Lazy], tokenizer: Path | None
) -> Source:
    first = tensors.get("layers.0.feed_forward.w1.weight")
    if first is None or len(first.shape) != 2:
        raise CheckpointError(f"{path} is no checkpoint of nanoGPT or llama2.c.")
    tensors.pop("output.weight", None)  # the embedding once more: train.py always ties the two
    config = _config(
        path,
        family="llama",
        norm_eps=float(sizes.get("norm_eps", 1e-5)),
        d_ff=first.shape[0],
        tie_embeddings=True,
        **_sizes(path, sizes, _LLAMA2C_SIZES),
    )
    weights = _Weights(tensors)
    beside = tokenizer or path.with_name("tokenizer.model")
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
        tokenizer=_sentencepiece(beside, config) if tokenizer or beside.is_file() else None,
    )


def _sentencepiece(path: Path, config: ModelConfig) -> Callable[[], Tokenizer]:
    if path.suffix == ".bin":
        return partial(llama2c.read_tokenizer, path, config.vocab_size)
    return partial(from_model_file, path)


def read_meta(path: Path) -> Tokenizer:
    """The characters of nanoGPT's meta.pkl.

    raises   CheckpointError for a file that is missing, damaged, or another pickle
    """
    found = read_pickle(path)
    letters = found.get("itos") if isinstance(found, dict) else None
    if not isinstance(letters, dict) or sorted(letters) != list(range(len(letters))):
        raise CheckpointError(f"{path} is no meta.pkl of nanoGPT: it has no itos.")
    characters = [letters[i] for i in range(len(letters))]
    if not all(isinstance(c, str) and len(c) == 1 for c in characters):
        raise CheckpointError(f"{path}: itos does not hold single characters.")
    return compose(
        "char",
        word_level(characters, UNKNOWN),
        {},
        pre_tokenizer=split(r"[\s\S]"),
        decoder={"type": "Fuse"},
    )


def _dtype(tensors: dict[str, Lazy]) -> torch.dtype:
    kinds = {weight.dtype for weight in tensors.values()}
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _stored(tensors: dict[str, Lazy]) -> str:
    kinds = dict.fromkeys(str(weight.dtype).removeprefix("torch.") for weight in tensors.values())
    return " and ".join(kinds)
