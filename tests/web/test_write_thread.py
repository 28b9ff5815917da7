"""What is put is written in its order, with what came meanwhile; a failure ends the run."""

import asyncio
import threading

import pytest

from scratchlm.web.journal import KEPT, Done
from scratchlm.web.write_thread import WriteThread

WAIT_SECONDS = 10


class Recorder:
    """Stands for a journal: waits for `go`, and notes what it gets and where."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.numbers, self.threads = [], set()

    def add(self, done: Done, _answer) -> None:
        self.begun.set()
        assert self.go.wait(WAIT_SECONDS)
        if done.number < 0:
            raise OSError("full")
        self.numbers.append(done.number)
        self.threads.add(threading.get_ident())


def page(number: int) -> Done:
    return Done(number, KEPT, 0, f"http://example.org/{number}")


async def begun(journal: Recorder) -> None:
    assert await asyncio.to_thread(journal.begun.wait, WAIT_SECONDS)


def test_the_loop_goes_on_while_pages_are_written():
    journal, shown = Recorder(), []

    async def run() -> None:
        writer = WriteThread(journal, lambda: shown.append(len(journal.numbers)))
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(writer.run())
            writer.put(page(0))
            first = tasks.create_task(writer.written())
            await begun(journal)
            for number in range(1, 4):
                writer.put(page(number))
            rest = tasks.create_task(writer.written())
            await asyncio.sleep(0.01)
            assert not first.done()
            assert not rest.done()
            assert not shown
            journal.go.set()
            await first
            await rest
            assert journal.numbers == [0, 1, 2, 3]
            await writer.written()  # nothing is left to wait for
            writing.cancel()

    asyncio.run(run())
    assert len(shown) == 4
    assert shown[0] >= 1
    assert threading.get_ident() not in journal.threads


def test_a_failure_ends_the_run():
    journal = Recorder()
    journal.go.set()

    async def run() -> None:
        writer = WriteThread(journal, lambda: None)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(writer.run())
            writer.put(page(0))
            await writer.written()
            writer.put(page(-1))
            await writer.written()
            raise AssertionError("a page that is not written is not waited for in vain")

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(run())
    (failure,) = raised.value.exceptions
    assert isinstance(failure, OSError)
    assert journal.numbers == [0]


def test_what_is_being_written_is_waited_for_when_the_run_is_cancelled():
    journal = Recorder()

    async def run() -> None:
        writer = WriteThread(journal, lambda: None)
        writing = asyncio.create_task(writer.run())
        writer.put(page(0))
        writer.put(page(1))
        await begun(journal)
        threading.Timer(0.05, journal.go.set).start()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert journal.numbers == [0, 1]

    asyncio.run(run())
