"""Our side of the cleaning benchmark."""

import tempfile
import time
from pathlib import Path
from typing import Any

from scratchlm.corpus.executors import Scale
from scratchlm.recipes.clean_documents import CleanConfig, clean_documents


def clean(source: str, workers: int) -> dict[str, Any]:
    """Clean by the recipe `web`."""
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        config = CleanConfig(recipe="web")
        counts = clean_documents(
            source, Path(folder) / "clean", config=config, scale=Scale(workers)
        )
        seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "documents_per_s": counts.n_in / seconds,
        "n_in": counts.n_in,
        "n_kept": counts.n_kept,
        "dropped": dict(counts.dropped),
    }
