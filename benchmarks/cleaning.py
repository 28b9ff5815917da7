"""Documents a second that `corpus clean` takes in, beside datatrove's equal pipeline.

    python benchmarks/cleaning.py --texts ENGLISH_FOLDER --chinese CHINESE_FOLDER \\
        --peer-python VENV/bin/python --priority

Both read JSON lines (ours packed by zstd, theirs plain, which is theirs to gain), apply Gopher's
rules of quality and repetition, C4's and FineWeb's, find near-duplicates by MinHash, mask mail and
network addresses, and write what is left. Ours also tells languages, drops lines that stand all
over a site, and keeps the samples of the report. The documents are paragraphs of the texts, about
3,000 bytes each, every twentieth twice with a few words changed.
"""

import json
import random
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, must_exist, start
from data_texts import read_text
from process import call
from scratchlm.corpus.read import Document
from scratchlm.corpus.store import ENDING, write_documents

COLUMNS = (
    Column("documents/s", "documents_per_s", ",.0f", spread=True),
    Column("seconds", "seconds", ".1f", spread=True),
    Column("documents in", "n_in"),
    Column("kept", "n_kept"),
)
_CHARS = {"en": 3000, "zh": 1000}  # of a document
_ENDINGS = {"en": (".txt", ".rst"), "zh": (".txt", ".rst", ".json")}
_NAMES = {"en": "English", "zh": "Chinese"}
_SHARDS = 8


@dataclass(frozen=True)
class CleaningSettings(Settings):
    """What to clean."""

    texts: tuple[Path, ...] = ()  # folders of English .txt and .rst files
    chinese: tuple[Path, ...] = ()  # likewise, and of .json files whose strings are text
    documents: int = 8000  # of each language, at most
    workers: tuple[int, ...] = (1, 2)  # processes


def main(settings: CleaningSettings) -> None:
    """Measure everything and write the results."""
    must_exist(*settings.texts, *settings.chinese)
    n = 200 if settings.quick else settings.documents
    entries: list[Entry] = []
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for language, folders in (("en", settings.texts), ("zh", settings.chinese)):
            if folders:
                place = Path(folder) / language
                facts[language] = _write(_documents(folders, language, n), place)
                entries += _entries(settings, language, place)
        comparison = Comparison("documents_per_s", "ours", "faster")
        Results("cleaning", settings, COLUMNS, comparison, facts=facts).measure(entries)


def _entries(settings: CleaningSettings, language: str, place: Path) -> Iterator[Entry]:
    """One case for each number of workers."""
    for workers in settings.workers:
        case = f"{_NAMES[language]}, {workers} process{'es' * (workers > 1)}"
        for side in ("ours", "datatrove"):
            measure = partial(_measure, settings, side, language, place / side, workers)
            yield Entry(case, side, measure)


def _measure(
    settings: CleaningSettings, side: str, language: str, source: Path, workers: int, _round: int
) -> dict[str, Any]:
    function = {"ours": "cleaning_ours:clean", "datatrove": "cleaning_peers:clean"}[side]
    arguments = {"source": str(source), "workers": workers, "language": language}
    return call(function, arguments, settings.how(peer=side != "ours"))


def _documents(folders: tuple[Path, ...], language: str, most: int) -> Iterator[str]:
    """Paragraphs of all files, about so many characters together."""
    n, draw = 0, random.Random(0)
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.suffix not in _ENDINGS[language] or not path.is_file():
            continue
        held = ""
        for part in re.split(r"\n\s*\n", read_text(path)):
            held += part + "\n\n"
            if len(held) < _CHARS[language]:
                continue
            for text in [held, _changed(held, draw)] if n % 20 == 0 else [held]:
                n += 1
                yield text
            held = ""
            if n >= most:
                return


def _changed(text: str, draw: random.Random) -> str:
    """A text with three words of it replaced, of characters that no other character parts."""
    words = re.split(r"(\W+)", text)
    for _ in range(3):
        words[2 * draw.randrange(len(words) // 2 + 1)] = "changed"
    return "".join(words)


def _write(texts: Iterator[str], place: Path) -> dict[str, Any]:
    """The same documents as each side reads them."""
    ours, theirs = place / "ours", place / "datatrove"
    ours.mkdir(parents=True)
    theirs.mkdir()
    documents = [
        Document(str(i), text, f"part-{i}", {"url": f"https://{i % 500}.example.com/{i}"})
        for i, text in enumerate(texts)
    ]
    for n in range(_SHARDS):
        part = documents[n * len(documents) // _SHARDS : (n + 1) * len(documents) // _SHARDS]
        with write_documents(ours / f"{n:05}{ENDING}") as write:
            for document in part:
                write(document)
        with open(theirs / f"{n:05}.jsonl", "w", encoding="utf-8") as file:
            for one in part:
                file.write(
                    json.dumps({"id": one.id, "text": one.text, "metadata": one.meta}) + "\n"
                )
    return {"documents": len(documents), "mb": sum(len(one.text) for one in documents) / 1e6}


if __name__ == "__main__":
    start(main, CleaningSettings, __doc__)
