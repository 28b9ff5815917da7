"""One run of the scaling table: `build`'s recipe at a given size and length, on a given text."""

import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scratchlm.checkpoint.folder import load_model
from scratchlm.corpus import bundled
from scratchlm.data.loader import DataConfig, Loader, SourceConfig, open_splits
from scratchlm.evaluation.loss import held_out_loss
from scratchlm.recipes.prepare import PrepareConfig, prepare, training_part
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.recipe import Size, recipe
from scratchlm.recipes.scaling import difficulty
from scratchlm.recipes.tokenizer import train as train_tokenizer
from scratchlm.tokenizer.config import LEARNED, TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.metrics import read_metrics

SAMPLE_TOKENS = 1_000_000  # of the text, that tell how hard it is
VALIDATION_ROWS = 64  # at a time


def shards(text: str, tokenizer: dict[str, Any], folder: str) -> dict[str, Any]:
    """Write a text as shards, its last tenth for validation; nothing where they are there."""
    if not (Path(folder) / "manifest.json").is_file():
        paths = bundled.resolve_all([text])
        config = PrepareConfig(split="tail", val_fraction=0.1)
        keep = training_part(paths, config) if tokenizer["kind"] in LEARNED else None
        words = train_tokenizer(paths, TokenizerConfig(**tokenizer), keep=keep)
        prepare(paths, folder, words, config=config)
    data = DataConfig(sources=(SourceConfig(Path(folder)),))
    (train,) = open_splits(data, "train")
    words = Tokenizer.load(Path(folder))
    ids = train.read(0, min(train.n_tokens, SAMPLE_TOKENS))
    return {
        "train_tokens": train.n_tokens,
        "train_bytes": train.n_bytes,
        **asdict(difficulty(words.decode(ids.tolist()))),
    }


def learn(
    data: str,
    tokenizer: dict[str, Any],
    size: dict[str, int],
    steps: int,
    seed: int,
    weight_decay: float,
    dropout: float,
) -> dict[str, Any]:
    """Train without a look at the validation tail, then read all of it once."""
    settings = recipe(
        Size(**size), TokenizerConfig(**tokenizer), weight_decay=weight_decay, dropout=dropout
    )
    settings = settings.replace("data", sources=(SourceConfig(Path(data)),), seed=seed)
    settings = settings.replace("train", steps=steps, seed=seed, eval_every=0, save_every=0)
    with tempfile.TemporaryDirectory() as folder:
        result = pretrain(settings, Path(folder) / "run", device="cpu")
        if result.interrupted:
            raise KeyboardInterrupt
        metrics = read_metrics(Path(folder) / "run")
        model = load_model(result.model)
    tail = Loader(open_splits(settings.data, "val"), settings.data, VALIDATION_ROWS, train=False)
    held_out = held_out_loss(model, tail.batches(), Tokenizer.load(Path(data)).byte_lengths())
    last = [line["loss_nats"] for line in metrics[-max(1, steps // 20) :]]
    return {
        "loss_nats": held_out.loss_nats,
        "bits_per_byte": held_out.bits_per_byte,
        "train_loss_nats": statistics.mean(last),
        "parameters": model.n_parameters(),
        "blocks": sum(weight.numel() for weight in model.blocks.parameters()),
        "step_ms": statistics.median(line["step_ms"] for line in metrics),
        "train_s": result.seconds,
    }
