"""The score of the article-extraction benchmark: runs of four words, page by page."""

import gzip
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WARM = 3  # pages in front of the clock: libraries compile their patterns at the first one


def measure(folder: str, n_pages: int, text_of: Callable[[bytes], str]) -> dict[str, Any]:
    """Time a function over the pages of the benchmark, and score what it finds.

    folder    with ground-truth.json and html/*.html.gz
    n_pages   at most; 0 takes all
    text_of   the main text of a page; one that raises an error finds nothing
    """
    truth = json.loads((Path(folder) / "ground-truth.json").read_text(encoding="utf-8"))
    paths = sorted((Path(folder) / "html").glob("*.html.gz"))[: n_pages or None]
    pages = {path.name.partition(".")[0]: gzip.decompress(path.read_bytes()) for path in paths}
    found, n_failed = {}, 0
    for body in list(pages.values())[:_WARM]:
        _tried(text_of, body)
    start = time.perf_counter()
    for name, body in pages.items():
        found[name] = _tried(text_of, body)
    seconds = time.perf_counter() - start
    n_failed = sum(text is None for text in found.values())
    scores = [_score(truth[name]["articleBody"], text or "") for name, text in found.items()]
    precision = statistics.mean(tp / (tp + fp) for tp, fp, _ in scores if tp + fp)
    recall = statistics.mean(tp / (tp + fn) for tp, _, fn in scores if tp + fn)
    return {
        "pages_per_s": len(pages) / seconds,
        "mb_per_s": sum(map(len, pages.values())) / seconds / 1e6,
        "f1": 2 * precision * recall / (precision + recall),
        "precision": precision,
        "recall": recall,
        "n_failed": n_failed,
    }


def _tried(text_of: Callable[[bytes], str], body: bytes) -> str | None:
    try:
        return text_of(body)
    except Exception:
        return None


def _score(true: str, found: str) -> tuple[int, int, int]:
    """Runs in both, in the found text only, in the true one only."""
    ours, theirs = _runs(found), _runs(true)
    return (ours & theirs).total(), (ours - theirs).total(), (theirs - ours).total()


def _runs(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3)) if words)
