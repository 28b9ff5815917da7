"""The main text of web pages: F1 and pages/s, beside newspaper4k, readability and trafilatura.

    python benchmarks/extract.py --folder article-extraction-benchmark --peer-python PYTHON

FOLDER is a copy of github.com/scrapinghub/article-extraction-benchmark. Every side gets the bytes
of one page after the other, on one core; ours also finds title, date and language, and works in
the sandbox that holds the limits of time and memory. Peers that are not installed fail as such.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, must_exist, start
from process import call

COLUMNS = (
    Column("pages/s", "pages_per_s", ".0f", spread=True),
    Column("MB/s", "mb_per_s", ".1f"),
    Column("F1", "f1", ".3f"),
    Column("precision", "precision", ".3f"),
    Column("recall", "recall", ".3f"),
    Column("pages that failed", "n_failed"),
)
MODES = ("main", "quick")
PEERS = ("newspaper4k", "readability-lxml", "trafilatura")
QUICK = 12  # pages with --quick


@dataclass(frozen=True)
class ExtractSettings(Settings):
    """Which pages, beside whom."""

    folder: Path = field(kw_only=True)  # with ground-truth.json and html/*.html.gz
    peers: tuple[str, ...] = PEERS


def main(settings: ExtractSettings) -> None:
    """Measure everything and write the results."""
    must_exist(settings.folder / "ground-truth.json")
    arguments = {"folder": str(settings.folder.resolve()), "n_pages": QUICK * settings.quick}
    entries = []
    for mode in MODES:
        ours = partial(_measure, settings, "extract_ours:extract", {**arguments, "mode": mode})
        entries.append(Entry("main text", f"ours, {mode}", ours))
    for peer in settings.peers:
        theirs = {**arguments, "library": peer}
        measure = partial(_measure, settings, "extract_peers:extract", theirs)
        entries.append(Entry("main text", peer, measure))
    comparison = Comparison("pages_per_s", "ours, main", "faster")
    Results("extract", settings, COLUMNS, comparison).measure(entries)


def _measure(
    settings: ExtractSettings, function: str, arguments: dict[str, Any], _round: int
) -> dict[str, Any]:
    return call(function, arguments, settings.how(peer=function.startswith("extract_peers")))


if __name__ == "__main__":
    start(main, ExtractSettings, __doc__)
