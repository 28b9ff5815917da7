"""How far a long job is: a bar in a terminal, a line that renews itself in a notebook, or a log.

All of it goes to standard error: standard output is for results.
"""

import sys
import time
from typing import Self, TextIO

from scratchlm.base.duration import duration
from scratchlm.base.runtime import launch

DRAW_SECONDS = 0.1  # between two drawings of a bar: quicker is not seen
LINE_SECONDS = 5.0  # between two lines of a log


class Progress:
    """Show what is done of one job, its speed and the time left.

        with Progress("encoding", total=45_600_000, unit="B") as progress:
            progress.advance(len(chunk), note="3 of 7 files")

    what      the word in front
    total     how much there is to do, in `unit`; None where nobody knows
    unit      "B" is shown as kB, MB, GB or TB; another word ("documents") follows its number
    start     how much was done before, by a job that now goes on: it does not count as speed
    stream    where to write; None is standard error
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        unit: str = "B",
        *,
        start: int = 0,
        stream: TextIO | None = None,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.start = self.done = start
        self.note = ""
        self._stream = stream

    def __enter__(self) -> Self:
        self._display = _choose_display(self._stream or sys.stderr)
        self._began = self._drawn = time.monotonic()
        return self

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more as done; `note` ends the line until the next note."""
        self.update(self.done + amount, note=note)

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Set how much is done by now, and the total once it is known."""
        self.done, self.total, self.note = done, total or self.total, note or self.note
        now = time.monotonic()
        if now - self._drawn >= self._display.seconds:
            self._drawn = now
            fraction = min(done / self.total, 1.0) if self.total else None
            self._display.draw(self.what, fraction, self._facts(now - self._began))

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        seconds = time.monotonic() - self._began
        if error and self.done == self.start:
            self._display.close("")  # the error says all there is to say
            return
        ending = "stopped after" if error else "done:"
        amount, speed = _amount(self.done, self.unit), _speed(self._rate(seconds), self.unit)
        self._display.close(f"{self.what} {ending} {amount} in {duration(seconds)}, {speed}")

    def _rate(self, seconds: float) -> float:
        return (self.done - self.start) / max(seconds, 1e-9)

    def _facts(self, seconds: float) -> str:
        rate = self._rate(seconds)
        done, speed = _amount(self.done, self.unit), _speed(rate, self.unit)
        facts = [done, speed]
        if self.total:
            facts = [f"{done} of {_amount(self.total, self.unit)}", speed]
            if rate:
                facts.append(f"{duration(max(self.total - self.done, 0) / rate)} left")
        return ", ".join([*facts, self.note] if self.note else facts)


def counted(n: int, noun: str, nouns: str = "") -> str:
    """A number with its noun: 1 shard, 1,000 shards; 2 classes, where `nouns` says so."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {nouns or noun + 's'}"


def _speed(rate: float, unit: str) -> str:
    slow = unit != "B" and rate < 10
    return f"{rate:.1f} {unit}/s" if slow else f"{_amount(rate, unit)}/s"


def _amount(amount: float, unit: str) -> str:
    return in_bytes(amount) if unit == "B" else f"{amount:,.0f} {unit}"


def in_bytes(amount: float) -> str:
    """A number of bytes as people read it: 24.1 MB."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if amount >= size:
            return f"{amount / size:.1f} {prefix}B"
    return f"{amount:.0f} B"


class _Bar:
    """A terminal's: rich keeps it below whatever else is printed meanwhile."""

    seconds = DRAW_SECONDS

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}", markup=False),
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, facts="")
        self._bar.start()

    def draw(self, what: str, fraction: float | None, facts: str) -> None:
        total = None if fraction is None else 1.0
        self._bar.update(
            self._task, description=what, total=total, completed=fraction, facts=facts, refresh=True
        )

    def close(self, line: str) -> None:
        self._bar.stop()
        if line:
            self._bar.console.print(line, markup=False, highlight=False)


class _Lines:
    """A log file's, or with `renew` a notebook's: no terminal, but it obeys the carriage return."""

    def __init__(self, stream: TextIO, renew: bool) -> None:
        self._stream = stream
        self._renew = renew
        self._width = 0  # of the line that the next one must cover
        self.seconds = DRAW_SECONDS if renew else LINE_SECONDS

    def draw(self, what: str, fraction: float | None, facts: str) -> None:
        line = f"{what}: {facts}" if fraction is None else f"{what}: {fraction:.0%}, {facts}"
        self._write(line, end="\r" if self._renew else "\n")

    def close(self, line: str) -> None:
        if line:
            self._write(line, end="\n")

    def _write(self, line: str, end: str) -> None:
        print(line.ljust(self._width), end=end, file=self._stream, flush=True)
        self._width = len(line) if end == "\r" else 0


class _Nothing:
    """A process's that shares a run whose first one shows how far it is."""

    seconds = float("inf")

    def draw(self, what: str, fraction: float | None, facts: str) -> None: ...

    def close(self, line: str) -> None: ...


def _choose_display(stream: TextIO) -> _Bar | _Lines | _Nothing:
    if launch().rank > 0:
        return _Nothing()
    if stream.isatty():
        return _Bar(stream)
    return _Lines(stream, renew="ipykernel" in sys.modules)
