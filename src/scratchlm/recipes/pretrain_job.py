"""Pretraining as a job: rows of shards, the next token, a model folder."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from scratchlm.base.files import replace_folder, sha256_of, write_manifest
from scratchlm.checkpoint.behind import copied_model
from scratchlm.checkpoint.folder import FORMAT, VERSION, load_model, write_model_files
from scratchlm.data.loader import DataConfig, Loader, open_splits
from scratchlm.evaluation.loss import HeldOut, held_out_loss
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.run_config import RunConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.objectives import NEXT_TOKEN, TokenBatch
from scratchlm.training.parallel import Processes, share_of_step


class PretrainJob:
    """What pretraining passes into the one run (`training_run.Job`).

    data    the sources of the rows, with shards that exist
    init    a model folder to begin from, instead of random weights
    """

    goal = NEXT_TOKEN
    score_type = HeldOut

    def __init__(
        self,
        config: RunConfig,
        data: DataConfig,
        out: Path,
        tokenizer: Tokenizer,
        processes: Processes,
        init: Path | None,
    ) -> None:
        self.config, self.data, self.out, self.tokenizer = config, data, out, tokenizer
        self.init = init
        self.seq_len = data.seq_len
        train = config.train
        rank, n = processes.rank, processes.count
        splits = open_splits(data, "train", tokenizer_hash=tokenizer.hash)
        share = self.share = share_of_step(train.micro_batch, train.accumulate, rank, n)
        self.loader = Loader(splits, data, train.micro_batch, rank=share.rank, world_size=share.of)
        self.validation: Loader | None = None
        if train.eval_every and all((s.path / "val").is_dir() for s in data.sources):
            held_out = open_splits(data, "val", tokenizer_hash=tokenizer.hash)
            self.validation = Loader(
                held_out, data, train.micro_batch, train=False, rank=rank, world_size=n
            )
        self._byte_lengths = tokenizer.byte_lengths()

    def make_model(self, newest: Path | None, device: torch.device) -> Transformer:
        """Random weights, those of `init`, or those of a checkpoint."""
        config = self.config
        if origin := newest or self.init:
            whole = newest is not None  # `newest` has just held it against its checksums
            model = load_model(origin, device=device, dtype="float32", verify=not whole)
            model.set_dropout(config.model.dropout)
        else:
            model = Transformer(config.model)
            model.initialise()
            model.to(device)
        return model

    def describe(self, model: Transformer) -> str:
        """Family and size."""
        return f"{self.config.model.family}, {model.n_parameters():,} parameters"

    def facts(self) -> dict[str, Any]:
        """Where data and first weights come from."""
        return {
            "data": {str(s.path): sha256_of(s.path / "manifest.json") for s in self.data.sources},
            "init": str(self.init) if self.init else None,
        }

    def score(self, model: Transformer, batches: Iterator[TokenBatch]) -> HeldOut:
        """Loss of held-out text."""
        return held_out_loss(model, batches, self._byte_lengths)

    def writer(self, model: Transformer, *, copy: bool) -> Callable[[Path], None]:
        """A checkpoint is a model folder."""
        kept = copied_model(model) if copy else model
        return lambda folder: write_model_files(folder, kept, self.tokenizer)

    def write_result(self, checkpoint: Path, step: int) -> None:
        """OUT/model: the checkpoint without its training state."""
        write_model_folder(self.out, checkpoint, step)


def write_model_folder(run: Path, checkpoint: Path, step: int) -> None:
    """Make RUN/model of a checkpoint."""

    def fill(folder: Path) -> None:
        copy_files(checkpoint, folder)
        write_manifest(folder, FORMAT, VERSION, step=step, run=run.name)

    replace_folder(run / "model", fill)


def copy_files(checkpoint: Path, folder: Path) -> None:
    """Copy the files of a checkpoint that are no training state."""
    for path in checkpoint.iterdir():
        if path.is_file() and not path.name.startswith(("state.", "manifest.")):
            shutil.copyfile(path, folder / path.name)
