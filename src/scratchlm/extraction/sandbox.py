"""A process that takes documents apart and may be killed: by its limits, by a bug, by us.

The limit of time is one of processor time: with the clock on the wall, how loaded the machine is
would decide what is in a corpus. A document that breaks a limit of memory, or the process, is tried
once more in a new one, so that what came before it does not decide either.
"""

import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any, Self

from scratchlm.base import piped
from scratchlm.base.errors import MissingExtraError
from scratchlm.extraction.html import Mode
from scratchlm.extraction.result import Extracted, Hints, Unreadable
from scratchlm.extraction.worker import ANSWER, OUT_OF_MEMORY, READY, REQUEST

VERDICTS = ("time limit", "memory limit", "crashed")  # reasons that the machine has a part in

_PATIENCE = 60  # on the clock, times the limit of processor time: then something else is wrong
_DYING = 5.0  # seconds
_MOST_TEXT = 1 << 28  # bytes of an answer
_START = """
import json, sys
sys.path[:], limits = json.loads(sys.argv[1])
from scratchlm.extraction.worker import serve
serve(*limits)
"""


@dataclass(frozen=True)
class Limits:
    """What one document may cost.

    time_limit   seconds of processor time (Windows, which has no such limit: 60 times as many on
                 the clock)
    memory_mb    for the process, libraries included (not on Windows and macOS)
    """

    time_limit: float = 10.0
    memory_mb: int = 800


class Sandbox:
    """One process that extracts one document at a time, replaced when it dies.

    with Sandbox(Limits()) as sandbox:
        sandbox.extract("html", b"<p>Hello, world", Hints(), "main").text
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._n_served = 0  # by this process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._end()

    def extract(self, kind: str, body: bytes, hints: Hints, mode: Mode) -> Extracted:
        """The text of a document, and what it says of itself.

        kind     one of EXTRACTED
        mode     of web pages
        raises   Unreadable, also with one of VERDICTS; MissingExtraError
        """
        question = json.dumps({"kind": kind, "hints": asdict(hints), "mode": mode}).encode()
        is_used = self._n_served > 0
        answer = self._ask(question, body)
        if is_used and answer.get("reason") in ("memory limit", "crashed"):
            answer = self._ask(question, body)
        if "missing" in answer:
            raise MissingExtraError(*answer["missing"])
        if "reason" in answer:
            raise Unreadable(answer["reason"], answer["detail"])
        return Extracted(answer["text"], answer["meta"])

    def _ask(self, question: bytes, body: bytes) -> dict[str, Any]:
        """The process's answer, or how it died."""
        process = self._process = self._process or self._started()
        requests, answers = piped.pipes(process)
        patience = self._limits.time_limit * _PATIENCE
        watch = threading.Timer(patience, process.kill)
        watch.daemon = True
        watch.start()
        try:
            with suppress(BrokenPipeError):
                requests.write(REQUEST.pack(len(question), len(body)) + question)
                requests.write(body)
                requests.flush()
            answer = _message(answers)
        finally:
            watch.cancel()
        if answer is None:
            return {"reason": self._cause_of_death(process), "detail": ""}
        self._n_served += 1
        found: dict[str, Any] = json.loads(answer)
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        limits = [self._limits.memory_mb, self._limits.time_limit, _MOST_TEXT]
        command = [sys.executable, "-c", _START, json.dumps([sys.path, limits])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if _message(piped.pipes(process)[1]) != READY:
            raise AssertionError("the process that extracts did not start; see its message above")
        return process

    def _cause_of_death(self, process: subprocess.Popen[bytes]) -> str:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DYING)  # it may live, and have written what is no answer
        self._end()
        status = process.returncode
        if status == -getattr(signal, "SIGPROF", 0):
            return "time limit"
        return "memory limit" if status == OUT_OF_MEMORY else "crashed"

    def _end(self) -> None:
        process, self._process, self._n_served = self._process, None, 0
        if process:
            piped.end(process)


def _message(answers: IO[bytes]) -> bytes | None:
    """One message; None where the process died before or within it."""
    head = answers.read(ANSWER.size)
    if len(head) < ANSWER.size:
        return None
    (size,) = ANSWER.unpack(head)
    if size > _MOST_TEXT:  # no message of ours
        return None
    body = answers.read(size)
    return body if len(body) == size else None
