"""Our side of the benchmark of main texts: with title, date and language, in the sandbox."""

from typing import Any

from extract_score import measure
from scratchlm.extraction.result import Hints
from scratchlm.extraction.sandbox import Limits, Sandbox


def extract(folder: str, n_pages: int, mode: str) -> dict[str, Any]:
    """Time and score our `mode`."""
    with Sandbox(Limits()) as sandbox:
        return measure(
            folder, n_pages, lambda body: sandbox.extract("html", body, Hints(), mode).text
        )
