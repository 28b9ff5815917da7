"""Writing checkpoints while training goes on: a copy is taken at once, and written by a thread."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from scratchlm.checkpoint.sharded import model_of
from scratchlm.model.transformer import Transformer


class Behind:
    """Does one piece of work at a time, behind the back of whoever asks for it.

    seconds   that the longest piece took so far
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._going: Future[None] | None = None
        self.seconds = 0.0

    def do(self, work: Callable[[], Any]) -> None:
        """Begin some work, once what was asked for before is done.

        raises   what went wrong in the work before
        """
        self.wait()
        self._going = self._pool.submit(self._timed, work)

    def _timed(self, work: Callable[[], Any]) -> None:
        start = time.perf_counter()
        work()
        self.seconds = max(self.seconds, time.perf_counter() - start)

    def wait(self) -> None:
        """Return when nothing is left to do.

        raises   what went wrong in the last work
        """
        going, self._going = self._going, None
        if going is not None:
            going.result()

    def close(self) -> None:
        """End the thread when its work is done; an error in it is not told any more."""
        self._pool.shutdown(wait=True)


def copied_model(model: Transformer) -> Transformer:
    """A copy on the CPU that further steps do not change; its weights are whole already."""
    return model_of(model, ((name, copied(w)) for name, w in model.named_parameters()))


def copied(value: Any) -> Any:
    """Nested dicts, lists and tuples with a copy of each tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(inner) for inner in value)
    return value
