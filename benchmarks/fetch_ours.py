"""`corpus fetch` as `fetch.py` measures it: the whole of it, from the list to the manifest."""

import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp  # noqa: F401  # before the clock starts, as the other side has it
import protego  # noqa: F401

from scratchlm.recipes.fetch_pages import fetch_pages
from scratchlm.web.fetch_config import FetchConfig


def fetch(urls: str, n_pages: int, workers: int) -> dict[str, Any]:
    """Fetch urls0, urls1, ...; returns pages a second."""
    config = FetchConfig(
        workers=workers, per_host="0", host_connections=workers, allow_loopback=True
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_text("".join(f"{urls}{n}\n" for n in range(n_pages)), encoding="ascii")
        began, cpu = time.perf_counter(), time.process_time()
        counts = fetch_pages(path, Path(folder) / "pages", config=config)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    assert counts.n_kept == n_pages, counts
    return {"pages_per_s": n_pages / seconds, "cpu_s_per_1000": 1000 * cpu_seconds / n_pages}
