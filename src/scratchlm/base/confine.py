"""What a process does before it runs what it does not trust: the system is to hold its limits."""

import os
import signal
from contextlib import suppress
from typing import Any


def own_stream(number: int, mode: str) -> Any:
    """Standard stream 0 or 1 for ourselves; under its number there is nothing from now on.

    mode   "rb" or "wb"
    """
    kept = os.dup(number)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, number)
    os.close(nothing)
    return os.fdopen(kept, mode)


def limit_time(seconds: float) -> None:
    """End the process by SIGPROF after so much processor time from now on; 0: do not.

    Windows has no such limit: nothing is done there.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def limit_memory(n_bytes: int) -> None:
    """Let the process map so many bytes at most, and leave no core file.

    Windows and macOS have no such limit: nothing is done there.
    """
    try:
        import resource  # absent on Windows
    except ModuleNotFoundError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # macOS
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
