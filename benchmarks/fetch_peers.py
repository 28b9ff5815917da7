"""The least that fetching takes: a loop of aiohttp that forgets what it reads."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import aiohttp


def loop(urls: str, n_pages: int, workers: int) -> dict[str, Any]:
    """Fetch urls0, urls1, ...; returns pages a second."""
    return asyncio.run(_loop(iter([f"{urls}{n}" for n in range(n_pages)]), n_pages, workers))


async def _loop(urls: Iterator[str], n_pages: int, workers: int) -> dict[str, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    connector = aiohttp.TCPConnector(limit=workers)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for url in urls:
                async with session.get(url) as response:
                    assert response.status == 200
                    await response.read()

        await asyncio.gather(*(work() for _ in range(workers)))
    seconds = time.perf_counter() - began
    cpu_seconds = time.process_time() - cpu
    return {"pages_per_s": n_pages / seconds, "cpu_s_per_1000": 1000 * cpu_seconds / n_pages}
