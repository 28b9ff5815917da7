"""What hangs on a run's steps: metrics and progress, evaluation, samples, checkpoints."""

import dataclasses
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol, Self

from scratchlm.base import device as devices
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress
from scratchlm.checkpoint.behind import Behind
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.samples import sample_text
from scratchlm.training.metrics import Metrics, NoMetrics
from scratchlm.training.parallel import Processes
from scratchlm.training.trainer import Hook, Trainer

IDLE_STEPS = 20  # with a loss that does not move, after which the user is warned
IDLE_NATS = 1e-5  # less than this is no move


class Score(Protocol):
    """How good a model is on held-out rows: sums, a dataclass; `evaluation.loss.HeldOut` is one."""

    @property
    def loss_nats(self) -> float:
        """What is the less the better the model."""

    def metrics(self) -> dict[str, float | None]:
        """What metrics.jsonl says of it, by name."""

    def summed(self, add: Callable[..., tuple[Any, ...]]) -> Self:
        """The score of all processes; `add` sums numbers over them."""


class Run(Protocol):
    """What the hooks need of a run (`training_run.TrainingRun`)."""

    job: Any  # a `training_run.Job`
    model: Transformer
    metrics: Metrics | NoMetrics
    processes: Processes
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
        self.job = run.job
        self.best: Score | None = None
        self.seconds = 0.0
        self._best_step = 0
        self._without_gain = 0
        self._idle = 0  # steps in a row

    def pairs(self) -> list[Hook]:
        """(every, function): a checkpoint comes last, so that it holds what the others decided."""
        train = self.job.config.train
        hooks: list[Hook] = [(1, self._log)]
        if self.job.validation is not None:
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
            **{k: v for k, v in dataclasses.asdict(last).items() if k != "measured"},
            **last.measured,
        )
        self.progress.update(
            trainer.step,
            total=trainer.n_steps,
            note=f"loss {last.loss_nats:.4f}, lr {last.lr:.2e}, grad norm {last.grad_norm:.2f}, "
            f"{last.tokens_per_s:,.0f} tokens/s, MFU {last.mfu:.0%}, {memory >> 20:,} MB",
        )
        self._warn_if_idle(trainer)

    def _warn_if_idle(self, trainer: Trainer) -> None:
        """Say once that the loss stays that of a model that tells nothing apart."""
        idle, last = trainer.goal.idle, trainer.last
        assert last is not None
        stays = idle is not None and abs(last.loss_nats - idle) < IDLE_NATS
        self._idle = self._idle + 1 if stays else 0
        if self._idle == IDLE_STEPS:
            warn(
                f"step {trainer.step}: for {IDLE_STEPS} steps the loss has been {idle:.4f} nats, "
                "that of a model that tells nothing apart, so nothing is learned. Raise the "
                f"learning rate (it is {last.lr:.1e} now), and look at what is learned with "
                '"scratchlm preview".'
            )

    def _evaluate(self, trainer: Trainer) -> None:
        train = self.job.config.train
        batches = islice(self.job.validation.batches(), train.eval_batches or None)
        result: Score = self.job.score(self.run.model, batches)
        result = result.summed(self.run.processes.sum)
        self._without_gain += 1
        if self.best is None or result.loss_nats < self.best.loss_nats:
            self.best, self._best_step, self._without_gain = result, trainer.step, 0
        self.run.metrics.log(trainer.step, **result.metrics())
        say(f"step {trainer.step}: {result}")
        if train.patience and self._without_gain >= train.patience:
            trainer.stop_reason = f"no gain in {train.patience} evaluations"

    def _sample(self, trainer: Trainer) -> None:
        train = self.job.config.train
        text = sample_text(
            self.run.model,
            self.job.tokenizer,
            train.sample_prompt,
            train.sample_tokens,
            seed=train.seed,
        )
        self.run.metrics.log(trainer.step, sample=text)
        say(f"step {trainer.step}, a sample:\n{text}\n")

    def _save_if_due(self, trainer: Trainer) -> None:
        every = self.job.config.train.save_every
        gained = self._best_step == trainer.step
        due = bool(every) and trainer.step % every == 0
        if gained or due or trainer.is_last or trainer.decided:
            state = {"trainer": trainer.state_dict(), "hooks": self.state_dict()}
            best = gained or self.job.validation is None  # nothing to compare: the last is it
            # Before the next step where that step rests on it, or where there is none.
            now = trainer.decided or trainer.is_last
            self.run.save(trainer.step, state, best=best, now=now)
            trainer.reserve_s = max(trainer.reserve_s, self.run.behind.seconds)

    def state_dict(self) -> dict[str, Any]:
        """What early stopping and the choice of the best depend on."""
        best = dataclasses.asdict(self.best) if self.best else None  # type: ignore[call-overload]
        return {
            "best": best,
            "best_step": self._best_step,
            "without_gain": self._without_gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best = self.job.score_type(**state["best"]) if state["best"] else None
        self._without_gain = state["without_gain"]
        self._best_step = state["best_step"]
