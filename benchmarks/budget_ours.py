"""One run of the budget benchmark: `build`, or a fixed config that is given as much time."""

import tempfile
import time
from pathlib import Path
from typing import Any

from scratchlm.base.config import read_toml
from scratchlm.checkpoint.folder import load_model
from scratchlm.data.loader import DataConfig, Loader, SourceConfig, open_splits
from scratchlm.evaluation.loss import held_out_loss
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.build import choose_for
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.run_config import RunConfig
from scratchlm.recipes.tokenizer import train as train_tokenizer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer

ROWS = 16  # of the tail at a time
EVALUATED = 1600  # rows that a fixed config trains on between two evaluations of a tenth as many
VOCABULARY = 2048  # of a config that reads shards: what its header suggests


def learn(
    text: str, tail: str, budget: str, config: str, seed: int, started: float
) -> dict[str, Any]:
    """Train for so long, then read the tail once.

    config    the TOML file; "" is `build`
    started   `time.time()` when this process was started
    """
    began = time.monotonic() - (time.time() - started)
    expected: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        if config:
            settings = _fixed(read_toml(RunConfig, Path(config)), text, tail, budget, seed, folder)
        else:
            choice = choose_for(text, run, budget=budget, seed=seed, device="cpu", began=began)
            settings, expected = choice.config, choice.bits
        result = pretrain(settings, run, device="cpu", began=began)
        wall = time.time() - started
        model, tokenizer = load_model(result.model), Tokenizer.load(result.model)
        bits = _bits_per_byte(model, tokenizer, tail, Path(folder) / "tail")
    return {
        "seed": seed,
        "wall_s": wall,
        "bits_per_byte": bits,
        "expected": expected,
        "parameters": model.n_parameters(),
        "layers": model.config.n_layers,
        "width": model.config.d_model,
        "vocabulary": model.config.vocab_size,
        "steps": result.step,
    }


def _fixed(
    config: RunConfig, text: str, tail: str, budget: str, seed: int, folder: str
) -> RunConfig:
    """The config on this text, for so long; prepared beforehand where it is by characters."""
    kind = "char" if config.tokenizer.kind == "char" else "bpe"
    vocabulary = {"vocab_size": VOCABULARY} if kind == "bpe" else {}
    paths = [text, tail] if kind == "char" else [text]
    words = train_tokenizer(paths, TokenizerConfig(kind=kind, **vocabulary))
    data = Path(folder) / "data"
    prepare(text, data, words, config=PrepareConfig(split="tail", val_fraction=0.1))
    config = config.replace("data", sources=(SourceConfig(data),), seed=seed)
    rows = config.train.micro_batch * config.train.accumulate
    return config.replace(
        "train",
        budget=budget,
        seed=seed,
        eval_every=max(1, EVALUATED // rows),
        eval_batches=max(1, EVALUATED // 10 // config.train.micro_batch),
        sample_every=0,
    )


def _bits_per_byte(model: Transformer, tokenizer: Tokenizer, tail: str, folder: Path) -> float:
    """Over the whole tail, in windows of the training context."""
    prepare(tail, folder, tokenizer, config=PrepareConfig(val_fraction=0.0))
    data = DataConfig(sources=(SourceConfig(folder),), seq_len=model.config.max_seq_len)
    rows = Loader(open_splits(data, "train"), data, ROWS, train=False)
    bits = held_out_loss(model, rows.batches(), tokenizer.byte_lengths()).bits_per_byte
    assert bits is not None
    return bits
