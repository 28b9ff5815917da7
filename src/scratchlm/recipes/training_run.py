"""One process's part of a run, whatever it trains: from the first weights or a checkpoint to its
result."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from scratchlm import __version__
from scratchlm.base.config import to_dict, write_toml
from scratchlm.base.files import write_json, write_text
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.base.runtime import describe_machine
from scratchlm.checkpoint.behind import Behind, copied
from scratchlm.checkpoint.sharded import (
    SHARDS,
    fill_shards,
    part_with_shards,
    whole_model,
    write_shards,
)
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.run_config import CONFIG
from scratchlm.recipes.run_hooks import RunHooks, Score
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.clock import Clock
from scratchlm.training.curve import draw_loss_curve
from scratchlm.training.metrics import Metrics, NoMetrics, cut_metrics, read_metrics
from scratchlm.training.objectives import Goal, TokenBatch
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.parallel import Processes, Share
from scratchlm.training.stop import NonFiniteError, explain_out_of_memory
from scratchlm.training.trainer import TrainConfig, Trainer


class Settings(Protocol):
    """What a run needs of the settings that are written to its config.toml."""

    @property
    def train(self) -> TrainConfig: ...
    @property
    def optim(self) -> OptimConfig: ...
    @property
    def schedule(self) -> ScheduleConfig: ...


class Batches(Protocol):
    """Rows for the trainer: batch n follows from n (`scratchlm.data.loader.Loader` is one)."""

    def batches(
        self, start: int = 0, stop: int | None = None, every: int = 1
    ) -> Iterator[TokenBatch]: ...


class Job(Protocol):
    """What one kind of training passes into the one run.

    seq_len      tokens of a row, at most
    share        this process's part of each step
    validation   held-out rows; None: nothing is evaluated
    goal         what is minimised
    score_type   what `score` returns
    """

    seq_len: int
    share: Share

    @property
    def config(self) -> Settings: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def loader(self) -> Batches: ...
    @property
    def validation(self) -> Batches | None: ...
    @property
    def goal(self) -> Goal: ...
    @property
    def score_type(self) -> type[Score]: ...

    def make_model(self, newest: Path | None, device: torch.device) -> Transformer:
        """The first weights, or those of a checkpoint that is known to be whole."""

    def describe(self, model: Transformer) -> str:
        """The model in a few words."""

    def facts(self) -> dict[str, Any]:
        """What run.json says of this kind of training."""

    def score(self, model: Transformer, batches: Iterator[TokenBatch]) -> Score:
        """How good the model is on held-out batches, those of this process."""

    def writer(self, model: Transformer, *, copy: bool) -> Callable[[Path], None]:
        """What writes the model's files into a checkpoint, which has a manifest of its own.

        copy     further steps must not change what it writes
        """

    def write_result(self, checkpoint: Path, step: int) -> None:
        """The run's result, from its best checkpoint."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    model          the model folder
    reason         why it ended: "all steps done", "Ctrl-C", ...
    interrupted    a signal ended it: the same call goes on
    held_out       how good that model is on held-out rows; None without evaluations
    seconds        spent in training steps, by this process
    """

    model: Path
    reason: str
    interrupted: bool
    step: int
    held_out: Score | None
    seconds: float

    @property
    def loss_nats(self) -> float | None:
        """Held-out loss."""
        return self.held_out.loss_nats if self.held_out else None

    @property
    def bits_per_byte(self) -> float | None:
        """The same in bits per byte of text, where it is a loss of text."""
        return getattr(self.held_out, "bits_per_byte", None)


def run_job(job: Job, out: Path, processes: Processes, began: float, *, goes_on: bool) -> RunResult:
    """Begin a run in OUT or go on with it, to its end or a signal."""
    run = TrainingRun(job, out, processes, began)
    config = job.config.train
    with explain_out_of_memory(config.micro_batch, config.accumulate, job.seq_len):
        run.start(goes_on)
    return run.finish()


class TrainingRun:
    """One process's part of a run: the trainer and what hangs on it.

    job      what is trained, on what
    began    `time.monotonic()` from which train.budget counts
    """

    def __init__(self, job: Job, out: Path, processes: Processes, began: float) -> None:
        self.job, self.out, self.processes, self.began = job, out, processes, began
        self.store = CheckpointStore(out, keep_last=job.config.train.keep_last)
        self.behind = Behind()

    def start(self, goes_on: bool) -> None:
        """Make the model, or take it from the newest checkpoint; say what the run is."""
        job, config, processes = self.job, self.job.config, self.processes
        newest = self.store.newest() if goes_on and processes.is_first else None
        newest = processes.agree(newest)
        torch.manual_seed(config.train.seed)
        model = self.model = job.make_model(newest, processes.model_device)
        state = self.store.load(newest, verify=False) if newest else None
        self.metrics: Metrics | NoMetrics = NoMetrics()
        if processes.is_first:
            write_toml(self.out / CONFIG, config)
            cut_metrics(self.out, state["trainer"]["step"] if state else 0)
            write_json(self.out / "run.json", self._facts())
            self.metrics = Metrics(self.out, config.train.track, to_dict(config))
        self.hooks = RunHooks(self)
        processes.draw_apart(config.train.seed)
        self.trainer = Trainer(
            model,
            lambda n: job.loader.batches(n + job.share.first, every=job.share.every),
            config.train,
            config.optim,
            config.schedule,
            seq_len=job.seq_len,
            goal=job.goal,
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
            say(f"model: {job.describe(model)}")

    def finish(self) -> RunResult:
        """Train, then put what the best checkpoint holds into the run's result."""
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
        return RunResult(
            self.out / "model",
            reason,
            self.trainer.interrupted,
            self.trainer.step,
            self.hooks.best,
            seconds,
        )

    def _write_result(self) -> None:
        source = self.store.best() or self.store.newest()
        assert source is not None, "the last step's hooks save a checkpoint"
        self.job.write_result(source, self.trainer.step)
        title = f"{self.out.name}: {self.job.describe(self.model)}"
        write_text(self.out / "loss.svg", draw_loss_curve(read_metrics(self.out), title))

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

        copy = self.processes.count == 1 and not now
        write = self.job.writer(model, copy=copy)
        state = copied(state) if copy else state

        def fill(folder: Path) -> None:
            write(folder)
            if shards:
                os.replace(written, folder / SHARDS)

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
        decode: Callable[[list[int]], str] = self.job.tokenizer.decode
        if self.processes.is_first:
            write_json(path, [{"tokens": row, "text": decode(row)} for row in rows])
        bad.args = (f"{bad.args[0]} The batch is kept in {path}.",)
        return bad

    def _facts(self) -> dict[str, Any]:
        tokenizer = self.job.tokenizer
        return {
            "scratchlm": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": describe_machine(),
            "device": str(self.processes.device),
            "processes": {"data": self.processes.data, "shard": self.processes.shard},
            "parameters": self.model.n_parameters(),
            "tokenizer": {"kind": tokenizer.kind, "sha256": tokenizer.hash},
            **self.job.facts(),
        }
