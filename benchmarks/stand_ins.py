"""What is measured on when nothing real is at hand: shards of a bundled text, a random model."""

from pathlib import Path
from typing import Any

import torch

from scratchlm.checkpoint.folder import save_model
from scratchlm.corpus import bundled
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.tokenizer import train as train_tokenizer
from scratchlm.tokenizer.config import TokenizerConfig

TEXT = "bundled:shakespeare"


def shards(folder: str, tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Write tiny shakespeare as shards, its last tenth for validation.

    tokenizer   fields of `TokenizerConfig`: what to train on the text first
    """
    words = train_tokenizer([TEXT], TokenizerConfig(**tokenizer))
    config = PrepareConfig(split="tail", val_fraction=0.1)
    made = prepare([bundled.resolve(TEXT)], folder, words, config=config)
    return {split: facts.n_tokens for split, facts in made.splits.items()}


def random_model(folder: str, model: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Write a model folder with random weights and a tokenizer of tiny shakespeare."""
    words = train_tokenizer([TEXT], TokenizerConfig(**tokenizer))
    torch.manual_seed(0)
    module = Transformer(ModelConfig(**{**model, "vocab_size": words.vocab_size}))
    module.initialise()
    save_model(Path(folder), module, words)
    return {"parameters": module.n_parameters()}
