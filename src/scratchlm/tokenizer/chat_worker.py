"""The process that runs chat templates, within limits that the system holds.

A template is a stranger's program, and no look at it tells how long it runs: comparing two lists
that hold each other thirty times takes minutes inside one operation of Python's, where no trace
function and no deadline in a loop is asked. So it runs in a process that is killed by its limit of
processor time (of time on the clock, on Windows) and cannot have more memory than its limit (Linux;
elsewhere the sizes that `chat_sandbox.py` checks, and time, are what bounds it). It can open no
file either, should it ever leave Jinja's sandbox.

One process serves all templates of a program, and one question has all renderings of a
conversation. On two Zen 5 cores the way there and back takes .06 ms, and a short conversation in
ChatML .03 ms (measured): 11,000 in a second.
"""

import atexit
import faulthandler
import functools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from jinja2.exceptions import TemplateError, TemplateSyntaxError

from scratchlm.base import piped
from scratchlm.base.confine import limit_memory, limit_time, own_stream
from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.tokenizer.chat_sandbox import Program

SECONDS = 0.5  # of processor time for one rendering; long conversations take some milliseconds
MEMORY = 192 << 20  # bytes, beside the 20 MB that Python and Jinja take
_SIZE = struct.Struct("<Q")  # bytes of a message in JSON, in front of it
_MOST_ANSWER = 1 << 28  # bytes
_MOST_TEMPLATES = 100  # that one process keeps
_DETAIL = 500  # characters
_DYING = 5.0  # seconds
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from scratchlm.tokenizer.chat_worker import serve
serve()
"""
_READY = {"ready": True}
# Makes Jinja import what it imports late, while files can still be opened.
_EARLY = "{{ lipsum(1) }}{{ '<b>&amp;' | striptags }}{{ strftime_now('%d %B') }}{{ [1] | pprint }}"
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """What is to be rendered with one template.

    messages    a conversation
    prompt      the beginning of the next answer follows
    marked      the same conversation with marks in it, rendered without the prompt
    prompts     for each number n, the first n messages with the beginning of the next answer
    variables   further ones that the template may ask for
    """

    messages: Messages
    prompt: bool
    variables: dict[str, Any]
    marked: Messages | None = None
    prompts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """What became of a task.

    text      of the messages
    blocks    (start, end) of what `{% generation %}` wrote; None where that cannot be told
    marked    the text of the marked messages; None where the template refuses them
    prompts   how many characters of each `text` begins with, and how many it has; None for one
              that the template refuses, or in which messages are written otherwise than in `text`
    """

    text: str
    blocks: list[tuple[int, int]] | None
    marked: str | None
    prompts: list[tuple[int, int] | None]


def run_task(program: Program, task: Task, before: Callable[[], None] = lambda: None) -> Rendered:
    """Run a template here, in this process.

    before   is called before each rendering
    raises   whatever a stranger's program raises
    """

    def run(messages: Messages, prompt: bool) -> tuple[str, list[tuple[int, int]] | None]:
        before()
        fixed = {"tools": None, "documents": None}
        asked = {"messages": messages, "add_generation_prompt": prompt}
        return program.run({**fixed, **asked, **task.variables})

    def attempt(messages: Messages, prompt: bool) -> str | None:
        try:
            return run(messages, prompt)[0]
        except MemoryError:
            raise
        except Exception:  # it refuses half a conversation, or one with marks
            return None

    def shared(n: int) -> tuple[int, int] | None:
        prompt = attempt(task.messages[:n], True)
        if prompt is None or text.startswith(prompt):
            return None if prompt is None else (len(prompt), len(prompt))
        before = attempt(task.messages[:n], False)
        if before is None or not text.startswith(before):
            return None
        differs = (k for k, (a, b) in enumerate(zip(prompt, text)) if a != b)
        return next(differs, min(len(prompt), len(text))), len(prompt)

    text, blocks = run(task.messages, task.prompt)
    marked = attempt(task.marked, task.prompt) if task.marked else None
    return Rendered(text, blocks, marked, [shared(n) for n in task.prompts])


def refusal(reason: str | Exception) -> DataError:
    """What a template's failure is to a user."""
    said = (str(reason) or type(reason).__name__)[:_DETAIL]
    return DataError(f"the chat template refuses this conversation: {said}")


class Renderer:
    """The process, from outside: begun when it is first needed, replaced when it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers: dict[str, int] = {}  # of the templates that this process has
        self._lock = threading.Lock()
        atexit.register(self.close)

    def check(self, source: str) -> None:
        """Let a template be parsed.

        raises   CheckpointError for one that does not parse, or not within the limits
        """
        answer = self._ask(source, None)
        if "failed" in answer:
            raise CheckpointError(f"the chat template does not parse: {answer['failed']}.")

    def render(self, source: str, task: Task) -> Rendered:
        """Run a template.

        raises   DataError for messages that it refuses, and for a template that breaks a limit
        """
        answer = self._ask(source, task)
        if "failed" in answer:
            raise refusal(answer["failed"])
        return Rendered(**answer)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._numbers = {}
        if process:
            piped.end(process)

    def _ask(self, source: str, task: Task | None) -> dict[str, Any]:
        with self._lock:
            if len(self._numbers) >= _MOST_TEMPLATES and source not in self._numbers:
                self.close()
            process = self._process = self._process or _started()
            begun = time.monotonic()
            try:
                answer = self._talk(process, source, task)
            except BaseException:  # Ctrl-C: its answer would be taken for that to another question
                self.close()
                raise
            if answer is None:
                answer = {"failed": self._cause_of_death(process, time.monotonic() - begun)}
                self.close()
            elif answer.pop("spent", False):
                self.close()
            return answer

    def _talk(
        self, process: subprocess.Popen[bytes], source: str, task: Task | None
    ) -> dict[str, Any] | None:
        requests, answers = piped.pipes(process)
        question: dict[str, Any] = {"task": task and vars(task)}
        if source not in self._numbers:
            self._numbers[source] = len(self._numbers)
            question["source"] = source
        question["number"] = self._numbers[source]
        with suppress(BrokenPipeError):
            _send(requests, question)
        return _receive(answers)

    @staticmethod
    def _cause_of_death(process: subprocess.Popen[bytes], seconds: float) -> str:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DYING)
        by_clock = not hasattr(signal, "setitimer") and seconds >= SECONDS
        if by_clock or process.returncode == -getattr(signal, "SIGPROF", 0):
            return f"it ran for {SECONDS} s and was stopped"
        return "it brought its process down and was stopped"


@functools.cache
def renderer(process: int) -> Renderer:
    """The one of this program.

    process   os.getpid(): a forked process gets another
    """
    assert process == os.getpid()
    return Renderer()


def _started() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _START, json.dumps(sys.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if _receive(piped.pipes(process)[1]) != _READY:
        raise AssertionError("the process for chat templates did not start; see its message above")
    return process


def _send(stream: IO[bytes] | BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    stream.write(_SIZE.pack(len(body)) + body)
    stream.flush()


def _receive(stream: IO[bytes] | BinaryIO) -> dict[str, Any] | None:
    """One message; None where the other side died before or within it."""
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    body = stream.read(size) if size <= _MOST_ANSWER else b""
    message: dict[str, Any] | None = json.loads(body) if len(body) == size else None
    return message


# Inside of the process.


def serve() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes our input
    sources: dict[int, str] = {}
    programs: dict[int, Program] = {}
    with own_stream(0, "rb") as requests, own_stream(1, "wb") as answers:
        os.dup2(1, 2)
        Program(_EARLY).run({})
        with suppress(TemplateError):
            Program("{% for")  # imports what a wrong template needs, while files can be opened
        _limit_rights()
        _send(answers, _READY)
        while question := _receive(requests):
            number = question["number"]
            sources.setdefault(number, question.get("source", ""))
            _begin()
            try:
                if number not in programs:
                    programs[number] = Program(sources[number])
                task = question["task"]
                answer = {}
                if task:
                    answer = vars(run_task(programs[number], Task(**task), _begin))
            except MemoryError:
                answer = {"failed": f"it takes over {MEMORY >> 20} MB of memory", "spent": True}
            except Exception as bad:  # a stranger's program fails in any way
                line = f", line {bad.lineno}" if isinstance(bad, TemplateSyntaxError) else ""
                answer = {"failed": (str(bad) or type(bad).__name__)[:_DETAIL] + line}
            _limit(0)
            _send(answers, answer)


def _begin() -> None:
    _limit(SECONDS)


def _limit(seconds: float) -> None:
    """End this process after so much time from now on; 0: do not."""
    if hasattr(signal, "setitimer"):
        limit_time(seconds)
    elif seconds:
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    else:
        faulthandler.cancel_dump_traceback_later()


def _limit_rights() -> None:
    """From now on: no more memory than the limit, and no file, pipe or socket is opened."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        limit_memory(MEMORY)
        return
    import resource  # absent on Windows

    used = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    limit_memory(used + MEMORY)
    opened = os.dup(0)
    os.close(opened)  # the lowest number that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened, opened))
