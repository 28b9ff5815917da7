"""Pages a second that `corpus fetch` stores, beside a loop of aiohttp that stores nothing.

    python benchmarks/fetch.py --rounds 5 --priority

Both ask one server on loopback, a process of its own, for the same pages with as many requests at a
time. The server packs its pages by gzip, as nearly all of the web does, but for the plain ones. The
loop unpacks each body and forgets it: the most that this library can do. Ours reads the list, asks
robots.txt, keeps turns (without a rate), and writes WARC records and the journal.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, start
from process import call

COLUMNS = (
    Column("pages/s", "pages_per_s", ",.0f", spread=True),
    Column("CPU seconds for 1,000 pages", "cpu_s_per_1000", ".2f"),
    Column("MB at most", "peak_memory_mb"),
)


@dataclass(frozen=True)
class FetchSettings(Settings):
    """What to fetch."""

    rounds: int = 5
    pages: int = 20_000
    kinds: tuple[str, ...] = ("10", "50", "plain10")  # kB of each page, in turn
    workers: int = 100  # requests at a time


def main(settings: FetchSettings) -> None:
    """Measure everything and write the results."""
    n_pages = 500 if settings.quick else settings.pages
    with _server(settings) as port:
        entries = []
        for kind in settings.kinds:
            urls = f"http://127.0.0.1:{port}/{kind}/"
            case = f"pages of {kind.removeprefix('plain')} kB{', plain' * (not kind.isdigit())}"
            asked = {"urls": urls, "n_pages": n_pages, "workers": settings.workers}
            for side, function in (("ours", "fetch_ours:fetch"), ("aiohttp", "fetch_peers:loop")):
                measure = partial(_measure, settings, function, asked)
                entries.append(Entry(case, side, measure))
        comparison = Comparison("pages_per_s", "ours", "faster")
        facts = {"pages": n_pages, "requests at a time": settings.workers}
        Results("fetch", settings, COLUMNS, comparison, facts=facts).measure(entries)


def _measure(
    settings: FetchSettings, function: str, asked: dict[str, Any], _round: int
) -> dict[str, Any]:
    return call(function, asked, settings.how())


@contextmanager
def _server(settings: FetchSettings) -> Iterator[int]:
    """The port of a server that runs as long as the block."""
    command = [sys.executable, str(Path(__file__).with_name("fetch_server.py"))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, encoding="ascii", start_new_session=True
    ) as process:
        if settings.priority:  # as the measured processes have it
            Path(f"/proc/{process.pid}/autogroup").write_text("-20", encoding="ascii")
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


if __name__ == "__main__":
    start(main, FetchSettings, __doc__)
