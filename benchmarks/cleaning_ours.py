"""Our side of the cleaning benchmark."""

import tempfile
import time
from pathlib import Path
from typing import Any

from scratchlm.corpus.executors import Scale
from scratchlm.recipes.clean_documents import CleanConfig, clean_documents


def clean(source: str, workers: int, language: str) -> dict[str, Any]:
    """Clean by the recipe `web`, which finds out each document's `language`."""
    del language
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        config = CleanConfig(recipe="web")
        counts = clean_documents(
            source, Path(folder) / "clean", config=config, scale=Scale(workers)
        )
        seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "documents_per_s": counts.n_in / seconds,
        "n_in": counts.n_in,
        "n_kept": counts.n_kept,
        "dropped": dict(counts.dropped),
    }
