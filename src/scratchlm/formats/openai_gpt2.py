"""OpenAI's own GPT-2 folders (github.com/openai/gpt-2): a TensorFlow checkpoint and three JSONs.

checkpoint, model.ckpt.index, model.ckpt.data-00000-of-00001, model.ckpt.meta
hparams.json    the sizes
encoder.json    tokens and their ids
vocab.bpe       merges
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.families import Row
from scratchlm.checkpoint.weights import read_table
from scratchlm.formats.source import Source, by_rows
from scratchlm.formats.tensorflow_checkpoint import TensorFlowCheckpoint
from scratchlm.model.config import ModelConfig
from scratchlm.tokenizer.compose import bpe, byte_level, compose
from scratchlm.tokenizer.config import END_OF_TEXT
from scratchlm.tokenizer.tokenizer import Tokenizer

PREFIX = "model.ckpt"
HPARAMS = "hparams.json"
_ENCODER = "encoder.json"
_MERGES = "vocab.bpe"
_SIZES = {
    "n_vocab": "vocab_size",
    "n_ctx": "max_seq_len",
    "n_embd": "d_model",
    "n_head": "n_heads",
    "n_layer": "n_layers",
}
_MOST_LAYERS = 2**12
_LAYER = "model/h{i}"


def _norm(ours: str, theirs: str) -> tuple[Row, Row]:
    return Row(f"{ours}.weight", f"{theirs}/g"), Row(f"{ours}.bias", f"{theirs}/b")


def _linear(ours: str, theirs: str, part: int = 0, parts: int = 1) -> tuple[Row, Row]:
    """A convolution of width 1: (inputs, outputs)."""
    return (
        Row(f"{ours}.weight", f"{theirs}/w", transpose=True, part=part, parts=parts),
        Row(f"{ours}.bias", f"{theirs}/b", part=part, parts=parts),
    )


_ROWS = (
    Row("embedding.weight", "model/wte"),
    Row("positions.weight", "model/wpe"),
    *_norm("blocks.{i}.attention_norm", f"{_LAYER}/ln_1"),
    *_linear("blocks.{i}.attention.q", f"{_LAYER}/attn/c_attn", 0, 3),
    *_linear("blocks.{i}.attention.k", f"{_LAYER}/attn/c_attn", 1, 3),
    *_linear("blocks.{i}.attention.v", f"{_LAYER}/attn/c_attn", 2, 3),
    *_linear("blocks.{i}.attention.out", f"{_LAYER}/attn/c_proj"),
    *_norm("blocks.{i}.ffn_norm", f"{_LAYER}/ln_2"),
    *_linear("blocks.{i}.ffn.up", f"{_LAYER}/mlp/c_fc"),
    *_linear("blocks.{i}.ffn.down", f"{_LAYER}/mlp/c_proj"),
    *_norm("norm", "model/ln_f"),
)


def open_source(folder: Path) -> Source:
    """Open a folder as OpenAI publishes them.

    raises   CheckpointError for files that are missing, damaged, or do not fit together
    """
    sizes = read_table(folder / HPARAMS)
    if missing := sorted(_SIZES.keys() - sizes.keys()):
        raise CheckpointError(f"{folder / HPARAMS} has no {', '.join(missing)}: it was damaged.")
    named = {ours: sizes[theirs] for theirs, ours in _SIZES.items()}
    for theirs, ours in _SIZES.items():
        most = _MOST_LAYERS if ours == "n_layers" else 2**24
        if type(sizes[theirs]) is not int or not 0 < sizes[theirs] <= most:
            raise CheckpointError(
                f"{folder / HPARAMS}: {theirs} is no whole number from 1 to {most:,}."
            )
    try:
        config = ModelConfig(family="gpt2", **named).resolved()
    except ConfigError as bad:
        raise CheckpointError(f"{folder / HPARAMS}: {bad}") from None
    checkpoint = TensorFlowCheckpoint(folder / PREFIX)
    return Source(
        format="OpenAI's GPT-2 checkpoint",
        config=config,
        weights=by_rows(config, _ROWS, checkpoint, str(folder)),
        stored="float32",
        dtype=torch.float32,
        n_bytes=4 * sum(math.prod(checkpoint.shape(name)) for name in checkpoint.names),
        tokenizer=partial(read_tokenizer, folder),
    )


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of encoder.json and vocab.bpe.

    raises   CheckpointError for files that are missing or do not fit together
    """
    encoder, path = folder / _ENCODER, folder / _MERGES
    vocab: dict[str, Any] = read_table(encoder)
    if not all(type(i) is int for i in vocab.values()):
        raise CheckpointError(f"{encoder}: an id in it is no whole number.")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise CheckpointError(f"{encoder}: its ids are not 0 to {len(vocab) - 1}.")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as bad:
        raise CheckpointError(f"{path} cannot be read: {bad}.") from None
    merges = [line.split(" ") for line in lines[1:] if line]  # the first is a version
    if any(len(pair) != 2 or not vocab.keys() >= {*pair, "".join(pair)} for pair in merges):
        raise CheckpointError(f"{path} does not belong to {encoder}.")
    merged = {token for token in vocab if len(token) > 1 and token != END_OF_TEXT}
    if unmade := sorted(merged - {"".join(pair) for pair in merges}):
        raise CheckpointError(
            f"{path} is cut short, or does not belong to {encoder}: no merge in it makes "
            f"{unmade[0][:40]!r}."
        )
    end = END_OF_TEXT if END_OF_TEXT in vocab else None
    try:
        return compose(
            "gpt2",
            bpe(sorted(vocab, key=vocab.__getitem__), [(left, right) for left, right in merges]),
            {"bos": end, "eos": end},
            pre_tokenizer=byte_level(use_regex=True),
            decoder=byte_level(use_regex=True),
            facts={"pre_tokenizer": "gpt-2"},
        )
    except CheckpointError as bad:  # half a surrogate pair
        raise CheckpointError(f"{encoder}: {bad}") from None
