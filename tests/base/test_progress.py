"""The progress display: what it says, and that it never disturbs a pipe or a log."""

import contextlib
import io
import subprocess
import sys

import pytest

from scratchlm.base import progress
from scratchlm.base.progress import Progress, in_bytes


class Clock:
    """A clock that goes on by one second at each look."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_log_gets_a_line_every_few_seconds():
    log = io.StringIO()
    with Progress("encoding", total=20_000_000, stream=log) as shown:
        for _ in range(10):
            shown.advance(1_000_000, note="2 of 3 files")
    assert log.getvalue().splitlines() == [
        "encoding: 25%, 5.0 MB of 20.0 MB, 1.0 MB/s, 15 s left, 2 of 3 files",
        "encoding: 50%, 10.0 MB of 20.0 MB, 1.0 MB/s, 10 s left, 2 of 3 files",
        "encoding done: 10.0 MB in 11 s, 909.1 kB/s",
    ]


def test_an_unknown_total_shows_amount_and_speed():
    log = io.StringIO()
    with Progress("reading", unit="documents", stream=log) as shown:
        shown.update(1200)
        for done in range(1300, 1700, 100):
            shown.update(done)
    assert log.getvalue().splitlines()[0] == "reading: 1,600 documents, 320 documents/s"


def test_a_total_may_become_known_later_and_be_surpassed():
    log = io.StringIO()
    with Progress("reading", unit="lines", stream=log) as shown:
        for done in range(1, 6):
            shown.update(done, total=4)
    assert (
        log.getvalue().splitlines()[0].startswith("reading: 100%, 5 lines of 4 lines, 1.0 lines/s")
    )


def test_an_error_before_anything_was_done_is_left_to_speak_for_itself():
    log = io.StringIO()
    with pytest.raises(ValueError, match="nothing there"), Progress("reading", stream=log):
        raise ValueError("nothing there")
    assert not log.getvalue()


def test_what_was_done_before_is_not_speed():
    log = io.StringIO()
    with Progress("training", 1000, unit="steps", start=500, stream=log) as shown:
        for step in range(501, 506):
            shown.update(step)
    line = "training: 50%, 505 steps of 1,000 steps, 1.0 steps/s, 8:15 left"
    assert log.getvalue().splitlines()[0] == line


def test_a_short_job_is_one_line():
    log = io.StringIO()
    with Progress("encoding", stream=log) as shown:
        shown.advance(900)
    assert log.getvalue() == "encoding done: 900 B in 2.0 s, 450 B/s\n"


def test_a_job_that_fails_says_where():
    log = io.StringIO()
    with contextlib.suppress(KeyboardInterrupt), Progress("encoding", stream=log) as shown:
        shown.advance(5_000)
        raise KeyboardInterrupt
    assert log.getvalue() == "encoding stopped after 5.0 kB in 2.0 s, 2.5 kB/s\n"


def test_a_notebook_renews_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    cell = io.StringIO()
    with Progress("encoding", total=2000, stream=cell) as shown:
        shown.advance(1000, note="a long note")
        shown.advance(1000, note="b")
    first, second, last = cell.getvalue().split("\r")
    assert "50%" in first
    assert "100%" in second
    assert len(second) == len(first)  # blanks cover what was longer
    assert last.rstrip(" ").startswith("encoding done: 2.0 kB")
    assert last.endswith("\n")


def test_a_terminal_gets_a_bar_and_one_last_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with Progress("encoding [x]", total=2000, stream=terminal) as shown:
        shown.advance(1000, note="[bold]not markup[/bold]")
    text = terminal.getvalue()
    assert "encoding [x]" in text
    assert "1.0 kB of 2.0 kB" in text
    assert "[bold]not markup[/bold]" in text
    assert "encoding [x] done: 1.0 kB" in text.splitlines()[-1]


def test_rich_is_not_loaded_for_a_log():
    code = (
        "import sys; from scratchlm.base.progress import Progress\n"
        "with Progress('x') as p: p.advance(1)\n"
        "print('rich' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert answer.stdout == "False\n"
    assert answer.stderr.startswith("x done: 1 B")


@pytest.mark.parametrize(
    ("n", "told"),
    [(0, "0 B"), (999, "999 B"), (24_100_000, "24.1 MB"), (1.5e9, "1.5 GB"), (45e12, "45.0 TB")],
)
def test_bytes_as_people_read_them(n, told):
    assert in_bytes(n) == told
