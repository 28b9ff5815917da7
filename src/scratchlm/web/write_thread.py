"""A thread that writes pages to the journal, so that packing them does not keep requests waiting.

Pages that are done while others are written go together: one hand-over to the thread for all.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from scratchlm.web.client import Answer
from scratchlm.web.journal import Done, Journal


@dataclass
class _Batch:
    """Pages that are handed over together."""

    pages: list[tuple[Done, Answer | None]] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)


class WriteThread:
    """Writes to a journal, in the order of `put`.

    shown   called for each page that is written
    """

    def __init__(self, journal: Journal, shown: Callable[[], None]) -> None:
        self._journal, self._shown = journal, shown
        self._batch, self._handed_over = _Batch(), _Batch()
        self._handed_over.written.set()
        self._filled = asyncio.Event()

    def put(self, done: Done, answer: Answer | None = None) -> None:
        """Let a page be written soon; `answer` with it, if it was kept."""
        self._batch.pages.append((done, answer))
        self._filled.set()

    async def written(self) -> None:
        """Wait until all that was put so far is written."""
        batch = self._batch if self._batch.pages else self._handed_over
        await batch.written.wait()

    async def run(self) -> None:
        """Write until this is cancelled; what is being written then is waited for.

        raises   OSError for a full disk
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._filled.wait()
                self._filled.clear()
                batch = self._handed_over = self._batch
                self._batch = _Batch()
                await loop.run_in_executor(thread, self._add, batch)
                for _ in batch.pages:
                    self._shown()
                batch.written.set()

    def _add(self, batch: _Batch) -> None:
        for done, answer in batch.pages:
            self._journal.add(done, answer)
