"""A process of ours that answers over its pipes, seen from outside."""

import subprocess
from contextlib import suppress
from typing import IO


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """What it reads, and what it writes: it was started with both as pipes."""
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, wait until it is gone, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in pipes(process):
        with suppress(BrokenPipeError):  # what it had not read yet
            pipe.close()
