"""One process's part of a pretraining run: from the first weights or a checkpoint to RUN/model."""

import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scratchlm import __version__
from scratchlm.base.config import to_dict, write_toml
from scratchlm.base.files import replace_folder, sha256_of, write_json, write_manifest, write_text
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.base.runtime import describe_machine
from scratchlm.checkpoint.behind import Behind, copied, copied_model
from scratchlm.checkpoint.folder import FORMAT, VERSION, load_model, write_model_files
from scratchlm.checkpoint.sharded import (
    SHARDS,
    fill_shards,
    part_with_shards,
    whole_model,
    write_shards,
)
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.data.loader import DataConfig, Loader, open_splits
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.run_config import CONFIG, RunConfig
from scratchlm.recipes.run_hooks import RunHooks
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.clock import Clock
from scratchlm.training.curve import draw_loss_curve
from scratchlm.training.metrics import Metrics, NoMetrics, cut_metrics, read_metrics
from scratchlm.training.parallel import Processes, share_of_step
from scratchlm.training.stop import NonFiniteError
from scratchlm.training.trainer import Trainer


@dataclass(frozen=True)
class PretrainResult:
    """What a run came to.

    model          the model folder
    reason         why it ended: "all steps done", "Ctrl-C", ...
    interrupted    a signal ended it: the same call goes on
    loss_nats      held-out loss of that model, nats per token; None without evaluations
    bits_per_byte  the same in bits per byte of text
    seconds        spent in training steps, by this process
    """

    model: Path
    reason: str
    interrupted: bool
    step: int
    loss_nats: float | None
    bits_per_byte: float | None
    seconds: float


class PretrainRun:
    """One process's part of a run: the loaders, the trainer and what hangs on it."""

    def __init__(
        self,
        config: RunConfig,
        data: DataConfig,
        out: Path,
        tokenizer: Tokenizer,
        processes: Processes,
        began: float,
    ) -> None:
        self.config, self.out, self.tokenizer, self.began = config, out, tokenizer, began
        self.data = data
        self.processes = processes
        train = config.train
        rank, n = processes.rank, processes.count
        splits = open_splits(data, "train", tokenizer_hash=tokenizer.hash)
        share = self.share = share_of_step(train.micro_batch, train.accumulate, rank, n)
        self.loader = Loader(splits, data, train.micro_batch, rank=share.rank, world_size=share.of)
        self.validation = None
        if train.eval_every and all((s.path / "val").is_dir() for s in data.sources):
            held_out = open_splits(data, "val", tokenizer_hash=tokenizer.hash)
            self.validation = Loader(
                held_out, data, train.micro_batch, train=False, rank=rank, world_size=n
            )
        self.store = CheckpointStore(out, keep_last=train.keep_last)
        self.behind = Behind()

    def start(self, goes_on: bool, init: Path | None) -> None:
        """Make the model, or take it from `init` or the newest checkpoint; say what the run is."""
        config, processes = self.config, self.processes
        newest = self.store.newest() if goes_on and processes.is_first else None
        newest = processes.agree(newest)
        model = self.model = self._make_model(newest, init)
        state = self.store.load(newest, verify=False) if newest else None
        self.metrics: Metrics | NoMetrics = NoMetrics()
        if processes.is_first:
            write_toml(self.out / CONFIG, config)
            cut_metrics(self.out, state["trainer"]["step"] if state else 0)
            write_json(self.out / "run.json", self._facts(init))
            self.metrics = Metrics(self.out, config.train.track, to_dict(config))
        self.hooks = RunHooks(self)
        processes.draw_apart(config.train.seed)
        self.trainer = Trainer(
            model,
            lambda n: self.loader.batches(n + self.share.first, every=self.share.every),
            config.train,
            config.optim,
            config.schedule,
            seq_len=config.data.seq_len,
            hooks=self.hooks.pairs(),
            processes=processes,
            clock=Clock.of(config.schedule, self.began, config.train.budget, config.train.until),
        )
        if state:
            assert newest is not None
            optimizers = state["trainer"]["optimizers"], self.trainer.optimizers.parts
            fill_shards(*optimizers, newest / SHARDS, processes.group)
            self.trainer.load_state_dict(state["trainer"])
            self.hooks.load_state_dict(state["hooks"])
            say(f"resuming from {newest} after step {self.trainer.step}")
        else:
            say(f"model: {config.model.family}, {model.n_parameters():,} parameters")

    def _make_model(self, newest: Path | None, init: Path | None) -> Transformer:
        config, device = self.config, self.processes.model_device
        torch.manual_seed(config.train.seed)
        if origin := newest or init:
            whole = newest is not None  # `newest` has just held it against its checksums
            model = load_model(origin, device=device, dtype="float32", verify=not whole)
            model.set_dropout(config.model.dropout)
        else:
            model = Transformer(config.model)
            model.initialise()
            model.to(device)
        return model

    def finish(self) -> PretrainResult:
        """Train, then put the best checkpoint's model into RUN/model."""
        begin = time.perf_counter()
        try:
            steps = self.trainer.n_steps
            shown = Progress("training", steps, unit="steps", start=self.trainer.step)
            with shown as self.hooks.progress:
                reason = self.trainer.run()
                self.behind.wait()
        except NonFiniteError as bad:
            raise self._with_saved_batch(bad) from None
        finally:
            self.behind.close()
            self.metrics.close()
        seconds = time.perf_counter() - begin - self.hooks.seconds
        if self.processes.is_first:
            self._write_result()
        if self.trainer.interrupted:
            of = f" of {steps}" if steps else ""
            say(
                f"{reason}: stopped after step {self.trainer.step}{of}. The run is saved in "
                f"{self.out}, and the same command goes on with it."
            )
        best = self.hooks.best
        return PretrainResult(
            self.out / "model",
            reason,
            self.trainer.interrupted,
            self.trainer.step,
            best.loss_nats if best else None,
            best.bits_per_byte if best else None,
            seconds,
        )

    def _write_result(self) -> None:
        source = self.store.best() or self.store.newest()
        assert source is not None, "the last step's hooks save a checkpoint"
        replace_folder(self.out / "model", lambda partial: self._copy_model(source, partial))
        title = (
            f"{self.out.name}: {self.config.model.family}, {self.model.n_parameters():,} weights"
        )
        write_text(self.out / "loss.svg", draw_loss_curve(read_metrics(self.out), title))

    def _copy_model(self, source: Path, folder: Path) -> None:
        for path in source.iterdir():
            if path.is_file() and not path.name.startswith(("state.", "manifest.")):
                shutil.copyfile(path, folder / path.name)
        write_manifest(folder, FORMAT, VERSION, step=self.trainer.step, run=self.out.name)

    def save(self, step: int, state: dict[str, Any], *, best: bool, now: bool) -> None:
        """Write a checkpoint: the first process what is whole, each its shards of the rest.

        now    return only when it is there; else, where one process is alone, it is written while
               training goes on, and this waits for the one before
        """
        model = whole_model(self.model, keep=self.processes.is_first)
        state, shards = part_with_shards(state)
        written = self.store.folder / f".{SHARDS}"
        if shards:
            write_shards(shards, written, self.processes.group)

        def fill(folder: Path) -> None:
            write_model_files(folder, model, self.tokenizer)
            if shards:
                os.replace(written, folder / SHARDS)

        if self.processes.count == 1 and not now:
            model, state = copied_model(model), copied(state)
        if self.processes.is_first:
            self.behind.do(lambda: self.store.save(step, fill, state, best=best))
            if now or self.processes.count > 1:
                self.behind.wait()

    def _with_saved_batch(self, bad: NonFiniteError) -> NonFiniteError:
        """Keep the batch of the step that was not taken, as ids and as text."""
        folder = self.out / "nonfinite"
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{bad.step + 1:08}.json"
        own = [row.tolist() for batch in bad.micro_batches for row in batch.tokens]
        rows = [row for rows in self.processes.gather(own) for row in rows]
        if self.processes.is_first:
            write_json(path, [{"tokens": row, "text": self.tokenizer.decode(row)} for row in rows])
        bad.args = (f"{bad.args[0]} The batch is kept in {path}.",)
        return bad

    def _facts(self, init: Path | None) -> dict[str, Any]:
        return {
            "scratchlm": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": describe_machine(),
            "device": str(self.processes.device),
            "processes": {"data": self.processes.data, "shard": self.processes.shard},
            "parameters": self.model.n_parameters(),
            "tokenizer": {"kind": self.tokenizer.kind, "sha256": self.tokenizer.hash},
            "data": {str(s.path): sha256_of(s.path / "manifest.json") for s in self.data.sources},
            "init": str(init) if init else None,
        }
