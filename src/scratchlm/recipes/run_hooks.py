"""What hangs on a run's steps: metrics and progress, evaluation, samples, checkpoints."""

import dataclasses
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

from scratchlm.base import device as devices
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.checkpoint.behind import Behind
from scratchlm.data.loader import Loader
from scratchlm.evaluation.loss import HeldOut, held_out_loss
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.run_config import RunConfig
from scratchlm.recipes.samples import sample_text
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.metrics import Metrics, NoMetrics
from scratchlm.training.parallel import Processes
from scratchlm.training.trainer import Hook, Trainer


class Run(Protocol):
    """What the hooks need of a run."""

    config: RunConfig
    model: Transformer
    tokenizer: Tokenizer
    metrics: Metrics | NoMetrics
    processes: Processes
    validation: Loader | None

    behind: Behind

    def save(self, step: int, state: dict[str, Any], *, best: bool, now: bool) -> None: ...


class RunHooks:
    """The hooks of one run, in the order in which a step calls them.

    best      the lowest held-out loss so far
    seconds   spent in hooks, which is no training
    progress  the display, which the caller opens and closes around the run
    """

    progress: Progress

    def __init__(self, run: Run) -> None:
        self.run = run
        self.best: HeldOut | None = None
        self.seconds = 0.0
        self._best_step = 0
        self._without_gain = 0
        self._byte_lengths = run.tokenizer.byte_lengths()

    def pairs(self) -> list[Hook]:
        """(every, function): a checkpoint comes last, so that it holds what the others decided."""
        train = self.run.config.train
        hooks: list[Hook] = [(1, self._log)]
        if self.run.validation is not None:
            hooks.append((train.eval_every, self._timed(self._evaluate)))
        if train.sample_every:
            hooks.append((train.sample_every, self._timed(self._sample)))
        return [*hooks, (1, self._timed(self._save_if_due))]

    def _timed(self, hook: Callable[[Trainer], None]) -> Callable[[Trainer], None]:
        def run(trainer: Trainer) -> None:
            start = time.perf_counter()
            hook(trainer)
            self.seconds += time.perf_counter() - start

        return run

    def _log(self, trainer: Trainer) -> None:
        last = trainer.last
        assert last is not None
        memory = devices.memory_in_use(trainer.device) or 0
        self.run.metrics.log(
            trainer.step,
            tokens_seen=trainer.tokens_seen,
            memory_mb=memory >> 20,
            **dataclasses.asdict(last),
        )
        self.progress.update(
            trainer.step,
            total=trainer.n_steps,
            note=f"loss {last.loss_nats:.4f}, lr {last.lr:.2e}, grad norm {last.grad_norm:.2f}, "
            f"{last.tokens_per_s:,.0f} tokens/s, MFU {last.mfu:.0%}, {memory >> 20:,} MB",
        )

    def _evaluate(self, trainer: Trainer) -> None:
        assert self.run.validation is not None
        train = self.run.config.train
        batches = self.run.validation.batches()
        own = held_out_loss(
            self.run.model, islice(batches, train.eval_batches or None), self._byte_lengths
        )
        result = HeldOut(*self.run.processes.sum(own.nats, own.n_targets, own.n_bytes))
        self._without_gain += 1
        if self.best is None or result.loss_nats < self.best.loss_nats:
            self.best, self._best_step, self._without_gain = result, trainer.step, 0
        bits = result.bits_per_byte
        self.run.metrics.log(trainer.step, val_loss_nats=result.loss_nats, val_bits_per_byte=bits)
        tail = f", {bits:.4f} bits per byte" if bits else ""
        say(f"step {trainer.step}: held-out loss {result.loss_nats:.4f} nats per token{tail}")
        if train.patience and self._without_gain >= train.patience:
            trainer.stop_reason = f"no gain in {train.patience} evaluations"

    def _sample(self, trainer: Trainer) -> None:
        train = self.run.config.train
        text = sample_text(
            self.run.model,
            self.run.tokenizer,
            train.sample_prompt,
            train.sample_tokens,
            seed=train.seed,
        )
        self.run.metrics.log(trainer.step, sample=text)
        say(f"step {trainer.step}, a sample:\n{text}\n")

    def _save_if_due(self, trainer: Trainer) -> None:
        every = self.run.config.train.save_every
        gained = self._best_step == trainer.step
        due = bool(every) and trainer.step % every == 0
        if gained or due or trainer.is_last or trainer.decided:
            state = {"trainer": trainer.state_dict(), "hooks": self.state_dict()}
            best = gained or self.run.validation is None  # nothing to compare: the last is it
            # Before the next step where that step rests on it, or where there is none.
            now = trainer.decided or trainer.is_last
            self.run.save(trainer.step, state, best=best, now=now)
            trainer.reserve_s = max(trainer.reserve_s, self.run.behind.seconds)

    def state_dict(self) -> dict[str, Any]:
        """What early stopping and the choice of the best depend on."""
        best = dataclasses.asdict(self.best) if self.best else None
        return {
            "best": best,
            "best_step": self._best_step,
            "without_gain": self._without_gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best = HeldOut(**state["best"]) if state["best"] else None
        self._without_gain = state["without_gain"]
        self._best_step = state["best_step"]
