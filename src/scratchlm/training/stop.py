"""Why a run ends early: a signal, a loss that is no number, memory that is not there."""

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from scratchlm.base.errors import UserError
from scratchlm.base.log import warn
from scratchlm.training.objectives import TokenBatch


class NonFiniteError(UserError):
    """The loss or the gradient is NaN or infinite; the weights are still those before the step.

    micro_batches  what was fed to the step that was not taken
    """

    def __init__(
        self, step: int, total: float, grad_norm: float, micro_batches: Sequence[TokenBatch]
    ) -> None:
        what = "the gradient" if math.isfinite(total) else "the loss"
        super().__init__(
            f"step {step + 1} was not taken: {what} is not a finite number (loss sum {total}, "
            f"gradient norm {grad_norm}). The weights are those of step {step}. Most often the "
            "learning rate is too high (halve optim.lr), warm-up too short (schedule.warmup), or "
            'float16 overflows (train.precision = "bfloat16").'
        )
        self.step = step
        self.micro_batches = micro_batches


class OutOfMemoryError(UserError):
    """The device has too little memory for this step; says which three settings to change."""


class StopSignal:
    """Notes Ctrl-C and SIGTERM, so that the loop can save and leave; a second leaves at once."""

    def __init__(self) -> None:
        self.name: str | None = None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.name is not None:
            raise KeyboardInterrupt
        self.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        warn(f"{self.name}: saving after this step. Once more leaves at once, without saving.")


@contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Catch SIGINT and SIGTERM inside the block (in the main thread only, as Python demands)."""
    noted = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    before: dict[int, Any] = {n: signal.signal(n, noted._note) for n in numbers}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# What CUDA, PyTorch on a CPU, and oneDNN say; the last where it has no room to compile a product.
_NO_MEMORY = ("out of memory", "can't allocate memory", "could not create a primitive")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine, has no memory left."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)
    )


@contextmanager
def explain_out_of_memory(micro_batch: int, accumulate: int, seq_len: int) -> Iterator[None]:
    """Turn an allocation that failed into an OutOfMemoryError that says what to change to what."""
    try:
        yield
    except (MemoryError, RuntimeError) as bad:
        if not is_out_of_memory(bad):
            raise
        half = max(1, micro_batch // 2)
        times = accumulate * -(-micro_batch // half)
        raise OutOfMemoryError(
            f"out of memory at micro-batches of {micro_batch} rows of {seq_len} tokens. Change, in "
            f"this order: (1) train.micro_batch = {half} with train.accumulate = {times}, which "
            "keeps the global batch and the loss curve; (2) data.seq_len = "
            f"{max(1, seq_len // 2)}; (3) model.n_layers or model.d_model, to a smaller model."
        ) from bad
