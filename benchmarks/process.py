"""Each measurement runs in a process of its own, so that none warms up or disturbs another.

    here     call("throughput_ours:train", {...}, how)  ->  what the function returned
    there    python process.py throughput_ours:train ARGUMENTS ANSWER_FILE

The process that calls must stay small (no torch): Linux counts what it holds when it starts another
into that one's peak memory.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scratchlm.base.errors import UserError
from scratchlm.base.files import read_json, write_json
from scratchlm.base.runtime import peak_memory

ROOT = Path(__file__).resolve().parents[1]
PINNED = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
ERROR_CHARACTERS = 2000  # kept of what a process that failed wrote last


class MeasurementError(UserError):
    """A measured process failed or took too long; the message ends with the last of its output."""


@dataclass(frozen=True)
class How:
    """How a process is run.

    priority     give its scheduler group the highest priority: groups share the cores evenly
                 otherwise, whatever the niceness of their processes (Linux, as root)
    pin          bind OpenMP's threads to cores
    timeout      seconds after which it is killed
    environment  variables beside those of this process
    """

    python: str = sys.executable
    priority: bool = False
    pin: bool = False
    timeout: float = 1800.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """What a process took.

    seconds          from its start to its end
    first_output_s   from its start to the first byte on its standard output; None if it wrote none
    cpu_seconds      of all processors, its children included; None where the system does not tell
    peak_memory_mb   the most memory that it held, MB of 10^6 bytes; None likewise
    """

    output: str
    seconds: float
    first_output_s: float | None
    cpu_seconds: float | None
    peak_memory_mb: float | None

    def numbers(self) -> dict[str, Any]:
        """All but the output, for the results."""
        return {name: value for name, value in vars(self).items() if name != "output"}


def call(function: str, arguments: Mapping[str, Any], how: How) -> dict[str, Any]:
    """What a function of a module of this folder returns in a new process, and its peak memory.

    function   "module:name"; it takes and returns what JSON can hold
    raises     MeasurementError
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [how.python, __file__, function, json.dumps(arguments), str(answer)]
        run(command, how)
        result: dict[str, Any] = read_json(answer, MeasurementError)
        return result


def run(command: Sequence[str], how: How, folder: Path | None = None) -> Ended:
    """Run a command to its end in a session of its own, and say what it took.

    folder   where it runs; None: here
    raises   MeasurementError
    """
    source = {"PYTHONPATH": str(ROOT / "src")}
    environment = {**os.environ, **source, **(PINNED if how.pin else {}), **how.environment}
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            start_new_session=True,
        )
        watchdog = threading.Timer(how.timeout, _kill, [process])
        watchdog.start()
        try:
            if how.priority:
                Path(f"/proc/{process.pid}/autogroup").write_text("-20", encoding="ascii")
            first, output = _read(process, start)
            cpu_seconds, peak = _wait(process)
            seconds = time.perf_counter() - start
        finally:
            watchdog.cancel()
            if process.returncode is None:
                _kill(process)
        if process.returncode:
            raise MeasurementError(_complaint(process, output, errors))
    return Ended(output.decode(errors="replace"), seconds, first, cpu_seconds, peak)


def _read(process: subprocess.Popen[bytes], start: float) -> tuple[float | None, bytes]:
    """The seconds up to the first byte of the output, and all of it."""
    assert process.stdout is not None
    with process.stdout as stream:
        first = stream.read(1)
        seconds = time.perf_counter() - start
        return (seconds if first else None), first + stream.read()


def _wait(process: subprocess.Popen[bytes]) -> tuple[float | None, float | None]:
    """Wait for the end: processor seconds and peak memory in MB, where the system tells."""
    if not hasattr(os, "wait4"):  # Windows
        process.wait()
        return None, None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process together with the helpers that it started."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _complaint(process: subprocess.Popen[bytes], output: bytes, errors: Any) -> str:
    errors.seek(0)
    last = (output + errors.read()).decode(errors="replace").strip()[-ERROR_CHARACTERS:]
    last = last.replace(str(ROOT), ".")  # results are published, folders are nobody's
    how = "was killed (too slow, or out of memory)" if process.returncode == -9 else "failed"
    return f"the measured process {how}, exit status {process.returncode}:\n{last}"


def _answer(function: str, arguments: str, place: str) -> None:
    """The other end of `call`."""
    module, name = function.split(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    if peak := peak_memory():
        result.setdefault("peak_memory_mb", peak / 1e6)
    write_json(Path(place), result)


if __name__ == "__main__":
    _answer(*sys.argv[1:])
