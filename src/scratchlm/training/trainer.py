"""The one training loop: batches -> gradients -> weights, for every job.

Pretraining, fine-tuning and the rest differ in what is passed in: the batches, the model, the
objective, and hooks, which are `(every, function)` pairs.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import torch
from torch import Tensor

from scratchlm.base import device as devices
from scratchlm.base.duration import parse_duration
from scratchlm.base.errors import ConfigError
from scratchlm.base.log import warn
from scratchlm.base.runtime import keep_freed_memory
from scratchlm.model.transformer import Transformer
from scratchlm.training.clock import Clock
from scratchlm.training.objectives import NEXT_TOKEN, Compiled, Goal, TokenBatch, in_pieces
from scratchlm.training.optimizers import OptimConfig, Optimizers, ScheduleConfig, lr_factor
from scratchlm.training.parallel import Processes, share_of_step
from scratchlm.training.stop import (
    NonFiniteError,
    explain_out_of_memory,
    is_out_of_memory,
    stop_signals,
)
from scratchlm.training.zero import Zero


@dataclass(frozen=True)
class TrainConfig:
    """How long and in what steps to train."""

    steps: int = 1000  # optimizer steps
    budget: str = ""  # time of the whole run, in the place of steps: 20m, 2h; needs schedule wsd
    until: str = ""  # likewise, when it shall have ended: 2026-11-21 18:00
    micro_batch: int = 16  # rows in one forward pass
    accumulate: int = 1  # micro-batches in one step
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the computation
    compile: bool = False  # compile with torch.compile: slower start, faster steps
    recompute: bool = False  # keep less for the backward pass and compute it again: a third slower
    seed: int = 1337  # of the first weights and of dropout
    eval_every: int = 250  # steps between evaluations of the validation split; 0 = never
    eval_batches: int = 0  # batches of an evaluation; 0 = the whole split
    sample_every: int = 0  # steps between printed samples; 0 = never
    sample_prompt: str = ""  # what samples start with
    sample_tokens: int = 100  # length of a sample
    save_every: int = 250  # steps between checkpoints; 0 = only the last
    keep_last: int = 2  # checkpoints kept beside the best one
    patience: int = 0  # stop after this many evaluations without improvement; 0 = never
    track: tuple[str, ...] = ()  # copies of the metrics: tensorboard, wandb, swanlab

    def __post_init__(self) -> None:
        self.check_time()
        for name in ("steps", "micro_batch", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} = {getattr(self, name)} must be at least 1.")
        if self.keep_last < 2:
            raise ConfigError(
                f"train.keep_last = {self.keep_last} must be at least 2: if the newest checkpoint "
                "is damaged, the one before it must still be there."
            )
        for name in ("eval_every", "eval_batches", "sample_every", "save_every", "patience"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} = {getattr(self, name)} must not be negative.")

    def check_time(self) -> None:
        """Refuse a budget and an end together, and what is no time.

        raises   ConfigError
        """
        if self.budget and self.until:
            raise ConfigError("train.budget and train.until exclude each other: set one of them.")
        try:
            if self.budget:
                parse_duration(self.budget)
            if self.until:
                datetime.fromisoformat(self.until)
        except (ConfigError, ValueError) as bad:
            name = "budget" if self.budget else "until"
            raise ConfigError(f"train.{name}: {bad}") from None


@dataclass(frozen=True)
class StepMetrics:
    """What one step measured.

    loss_nats  mean over the step's targets, nats
    lr         of the first group
    grad_norm  before clipping
    step_ms    from fetching the batch to the end of the optimizer's step
    data_ms    of these, the wait for the batch
    mfu        model flops per second / the fastest matrix product measured here, 0 to 1
    measured   what else the goal measures, means over the step's count
    """

    loss_nats: float
    lr: float
    grad_norm: float
    tokens: int
    step_ms: float
    data_ms: float
    tokens_per_s: float
    mfu: float
    measured: dict[str, float] = field(default_factory=dict)


Hook = tuple[int, Callable[["Trainer"], None]]


class Trainer:
    """Takes a model through its steps.

    model        in float32, already on `device`; changed in place
    batches      `batches(n)` yields micro-batch n, n + 1, ...: order comes from numbers alone
    goal         what is minimised: a sum of nats over a batch, and its count
    hooks        (every, function): called with the trainer after each `every`-th step, and
                 after the last unless the run was interrupted
    processes    those that share the run; `batches` yields this one's share (`share_of_step`), and
                 all else is that of the whole: settings, loss, gradient, metrics
    clock        ends the run by time, and sets the learning rate; None: by steps

    Set `stop_reason` from a hook to end the run after the present step. `decided` tells hooks that
    clock or memory decided something in this step, which a checkpoint must hold before the next.
    """

    def __init__(
        self,
        model: Transformer,
        batches: Callable[[int], Iterator[TokenBatch]],
        config: TrainConfig,
        optim: OptimConfig,
        schedule: ScheduleConfig,
        *,
        seq_len: int,
        goal: Goal = NEXT_TOKEN,
        hooks: Sequence[Hook] = (),
        processes: Processes | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock
        self.processes = processes or Processes.alone()
        self.model = model
        self.batches = batches
        self.config = config
        self.schedule = schedule
        self.seq_len = seq_len
        self.hooks = hooks
        self.goal = goal
        # Before the optimizers: sharing the weights puts others in their place.
        self._objective = self.processes.spread(
            model, Compiled(goal.total) if config.compile else goal.total
        )
        self.device = next(model.parameters()).device
        self.dtype, self.dtype_reason = devices.resolve_precision(config.precision, self.device)
        model.compute_dtype = self.dtype
        model.recompute = config.recompute
        scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.dtype == torch.float16, init_scale=2.0**14
        )
        self.optimizers: Optimizers
        if stage := self.processes.zero:
            self.optimizers = zero = Zero(model, optim, scaler, self._objective, stage)
            self._objective, self._summing = zero.objective, zero.summing
        else:
            self.optimizers = Optimizers(model, optim, scaler)
            self._summing = self.processes.summing
        rank, n = self.processes.rank, self.processes.count
        self._share = share_of_step(config.micro_batch, config.accumulate, rank, n)
        self.step = 0
        self.tokens_seen = 0
        self.pieces = 1  # that each micro-batch is computed in
        self.decided = False
        self.reserve_s = 0.0  # that the last step's hooks will take, as far as hooks took it so far
        self.stop_reason: str | None = None
        self.interrupted = False
        self.last: StepMetrics | None = None
        peak = self.processes.count * devices.matmul_flops(self.device, self.dtype)
        self._flops_share = model.flops_per_token(seq_len) / peak  # MFU of one token per second

    def run(self) -> str:
        """Train to the last step, a stop from a hook, or a signal; returns the reason in words."""
        self.model.train()
        keep_freed_memory()
        config = self.config
        explained = explain_out_of_memory(config.micro_batch, config.accumulate, self.seq_len)
        with stop_signals() as signal, ExitStack() as closing, explained:
            batches = self.batches(self.step * self.config.accumulate)
            if hasattr(batches, "close"):
                closing.callback(batches.close)
            if self.clock:
                self.clock.start()
            while not self.is_last:
                self.last = self._train_step(batches)
                self.step += 1
                self._look_at_clock()
                if name := self.processes.any_of(signal.name):
                    self.stop_reason, self.interrupted = name, True
                self._call_hooks()
        return self.stop_reason or ("the time is over" if self.clock else "all steps done")

    @property
    def scaler(self) -> Any:
        """Of the loss, in float16; elsewhere it does nothing."""
        return self.optimizers.scaler

    @property
    def n_steps(self) -> int | None:
        """Steps of the whole run; None while the clock has not decided."""
        if self.clock is None:
            return self.config.steps
        return self.clock.cooling.end if self.clock.cooling else None

    @property
    def is_last(self) -> bool:
        """Whether no step follows."""
        over = self.n_steps is not None and self.step >= self.n_steps
        return over or self.stop_reason is not None

    def _look_at_clock(self) -> None:
        if self.clock is None:
            return
        new = self.clock.look(self.step, reserve=self.reserve_s)
        if new := self.processes.agree(new):
            self.clock.cooling = new
            self.decided = True

    def _call_hooks(self) -> None:
        start = time.perf_counter()
        ended = self.is_last and not self.interrupted  # whoever interrupts waits for the save only
        for every, hook in self.hooks:
            if ended or (every and self.step % every == 0):
                hook(self)
        self.reserve_s = max(self.reserve_s, time.perf_counter() - start)

    def _train_step(self, batches: Iterator[TokenBatch]) -> StepMetrics:
        start = time.perf_counter()
        config = self.config
        self.decided = False
        self.optimizers.set_step(self.step, self._lr_factor())
        micro_batches = [next(batches) for _ in range(config.accumulate // self._share.every)]
        fetched = time.perf_counter()
        count, tokens = self.processes.sum(
            sum(self.goal.count(batch) for batch in micro_batches),
            sum(batch.tokens.numel() for batch in micro_batches),
        )
        total = self._gradient_that_fits(micro_batches, count)
        grad_norm = self._update(total, micro_batches)
        devices.synchronise(self.device)
        seconds = time.perf_counter() - start
        self.tokens_seen += tokens
        return StepMetrics(
            loss_nats=total / (count or 1),
            lr=self.optimizers.parts[0].param_groups[0]["lr"],
            grad_norm=grad_norm,
            tokens=tokens,
            step_ms=seconds * 1e3,
            data_ms=(fetched - start) * 1e3,
            tokens_per_s=tokens / seconds,
            mfu=tokens / seconds * self._flops_share,
            measured=self._measured(count),
        )

    def _measured(self, count: float) -> dict[str, float]:
        if self.goal.measured is None:
            return {}
        sums = self.goal.measured()
        totals = self.processes.sum(*sums.values())
        return {name: total / (count or 1) for name, total in zip(sums, totals, strict=True)}

    def _lr_factor(self) -> float:
        if self.clock:
            return self.clock.factor(self.step)
        return lr_factor(self.schedule, self.step, self.config.steps)

    def _gradient_that_fits(self, micro_batches: list[TokenBatch], count: float) -> float:
        """`_gradient`; where memory is short, from now on in twice as many pieces of half the rows.

        The sum over the pieces is the same gradient, so the loss curve stays. Only alone: several
        processes would have to fail together.
        """
        rows = self.config.micro_batch
        while True:
            rng = self._rng()
            try:
                return self._gradient(micro_batches, count)
            except (MemoryError, RuntimeError) as bad:
                last = self.processes.count > 1 or self.pieces >= rows
                if last or not is_out_of_memory(bad):
                    raise
            self.pieces *= 2
            self.decided = True
            self._set_rng(rng)  # dropout draws as if it had been so from the step's beginning
            self.optimizers.zero_grad()
            devices.free_memory(self.device)
            half = -(-rows // self.pieces)
            warn(
                f"out of memory in step {self.step + 1}: from now on {half} rows at a time instead "
                f"of {rows}, summed to the same batch. The loss curve stays the same; to start so, "
                f"set train.micro_batch = {half} and train.accumulate = "
                f"{self.config.accumulate * -(-rows // half)}."
            )

    def _gradient(self, micro_batches: list[TokenBatch], count: float) -> float:
        """Leave the gradient of total / count in the weights; returns the total, nats."""
        total = 0.0
        # PyTorch averages gradients over the processes; dividing by less makes sums of them.
        divisor = (count or 1) / self.processes.count
        pieces = [piece for batch in micro_batches for piece in in_pieces(batch, self.pieces)]
        for i, (tokens, targets, segments) in enumerate(pieces, 1):
            with self._summing(last=i == len(pieces)):
                loss = self._objective(
                    self.model,
                    tokens.to(self.device),
                    targets.to(self.device),
                    None if segments is None else segments.to(self.device),
                )
                self.optimizers.backward(loss / divisor)
            total += loss.item()
        return self.processes.sum(total)[0]

    def _update(self, total: float, micro_batches: list[TokenBatch]) -> float:
        """One optimizer step, unless something is not finite; returns the gradient's norm."""
        norm_tensor = self.optimizers.grad_norm()
        norm = norm_tensor.item()
        overflow = self.scaler.is_enabled() and not math.isfinite(norm)
        if not math.isfinite(total) or (not math.isfinite(norm) and not overflow):
            raise NonFiniteError(self.step, total, norm, micro_batches)
        if not overflow:
            self.optimizers.step(norm_tensor)
        self.scaler.update()  # after an overflow: half the scale, and the step is left out
        self.optimizers.zero_grad()
        if overflow and self.scaler.get_scale() < 1:
            raise NonFiniteError(self.step, total, norm, micro_batches)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights that the next step depends on; called on all processes."""
        rngs = self.processes.gather(self._rng())
        return {
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "pieces": self.pieces,
            "clock": self.clock.state_dict() if self.clock else None,
            "optimizers": self.optimizers.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": rngs[0],
            "rng_of_others": rngs[1:],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly after the step at which `state_dict` was taken, on an equal device."""
        self.step = state["step"]
        self.tokens_seen = state["tokens_seen"]
        # Together, each process has less to do; and they must all take the same number of pieces.
        self.pieces = state.get("pieces", 1) if self.processes.count == 1 else 1
        if self.clock and state.get("clock"):
            self.clock.load_state_dict(state["clock"])
        self.optimizers.load_state_dict(state["optimizers"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        rngs = [state["rng"], *state.get("rng_of_others", [])]
        if self.processes.rank < len(rngs):  # a process more than there were keeps a fresh one
            self._set_rng(rngs[self.processes.rank])

    def _rng(self) -> dict[str, Tensor]:
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            rng["mps"] = torch.mps.get_rng_state()
        return rng

    def _set_rng(self, rng: dict[str, Tensor]) -> None:
        torch.set_rng_state(rng["cpu"])
        if "cuda" in rng and self.device.type == "cuda":
            torch.cuda.set_rng_state(rng["cuda"], self.device)
        elif "mps" in rng and self.device.type == "mps":
            torch.mps.set_rng_state(rng["mps"])
