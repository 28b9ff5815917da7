"""MB/s from a folder of text to token files: `prepare` beside other people's ways.

    python benchmarks/data.py --english A.txt B.txt --chinese C.json --ranks r50k_base.tiktoken

Files are text in UTF-8, or JSON whose strings are; of each language `mb` MB are encoded, files
anew where they are too few (with --no-repeat, as many as there are). Every side reads, encodes and
writes ids of two bytes. The vocabularies are GPT-2's, and 16,000 ids of byte-level BPE and 4,096
of SentencePiece that are learned from the first 10 MB before the clock starts.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, must_exist, start
from process import call
from scratchlm.corpus import bundled

COLUMNS = (
    Column("MB/s", "mb_per_s", ".2f", spread=True),
    Column("bytes per token", "bytes_per_token", ".2f"),
    Column("MB of memory at most", "peak_memory_mb"),
)
PEERS = {  # side: function
    "nanogpt": "data_peers:encode_by_tiktoken",
    "datatrove": "data_peers:encode_by_datatrove",
    "transformers": "data_peers:encode_by_transformers",
}


@dataclass(frozen=True)
class DataSettings(Settings):
    """What to encode."""

    english: tuple[Path, ...] = ()  # files; none: the bundled shakespeare, again and again
    chinese: tuple[Path, ...] = ()  # files; none: the bundled poems, again and again
    mb: float = 50.0  # of text in each language
    repeat: bool = True  # take files anew where they are too few, which is a gain for caches
    ranks: Path | None = None  # r50k_base.tiktoken; without it, nanoGPT's way is left out
    workers: tuple[int, ...] = (1, 2)  # threads or processes that encode
    vocabularies: tuple[str, ...] = ("gpt2", "bpe16k", "sp4096")
    sides: tuple[str, ...] = tuple(PEERS)  # beside ours


def main(settings: DataSettings) -> None:
    """Measure everything and write the results."""
    ranks = () if settings.ranks is None else (settings.ranks,)
    must_exist(*settings.english, *settings.chinese, *ranks)
    files = {
        "english": settings.english or (bundled.resolve("bundled:shakespeare"),),
        "chinese": settings.chinese or (bundled.resolve("bundled:tang"),),
    }
    with tempfile.TemporaryDirectory() as folder:
        entries: list[Entry] = []
        facts: dict[str, Any] = {}
        for language, paths in files.items():
            place = Path(folder) / language
            facts[language] = _make(settings, [str(path.resolve()) for path in paths], place)
            for vocabulary in settings.vocabularies:
                entries += _entries(settings, language, vocabulary, place)
        comparison = Comparison("mb_per_s", "ours", "faster")
        Results("data", settings, COLUMNS, comparison, facts=facts).measure(entries)


def _make(settings: DataSettings, paths: list[str], place: Path) -> dict[str, Any]:
    """The texts of one language and the tokenizers that are learned from them."""
    mb = min(settings.mb, 3.0) if settings.quick else settings.mb
    texts = {"folder": str(place / "texts"), "lines": str(place / "lines")}
    asked = {"paths": paths, "mb": mb, "repeat": settings.repeat, **texts}
    facts = call("data_texts:gather", asked, settings.how())
    made = {"folder": texts["folder"], "places": {}}
    made["places"] = {name: str(place / name) for name in settings.vocabularies}
    call("data_ours:make_tokenizers", made, settings.how())
    return facts


def _entries(
    settings: DataSettings, language: str, vocabulary: str, place: Path
) -> Iterator[Entry]:
    """One case for each number of workers."""
    arguments = {"folder": str(place / "texts"), "tokenizer": str(place / vocabulary)}
    for workers in settings.workers:
        case = f"{language}, {vocabulary}, {workers} worker{'s' * (workers > 1)}"
        ours = {**arguments, "workers": workers}
        yield Entry(case, "ours", partial(_measure, settings, "ours", "data_ours:encode", ours))
        for side in settings.sides:
            theirs = dict(ours)
            if side == "nanogpt":
                if settings.ranks is None or vocabulary != "gpt2":
                    continue
                theirs["tokenizer"] = str(settings.ranks.resolve())
            if side == "datatrove":
                theirs["folder"] = str(place / "lines")
            yield Entry(case, side, partial(_measure, settings, side, PEERS[side], theirs))


def _measure(
    settings: DataSettings, side: str, function: str, arguments: dict[str, Any], _round: int
) -> dict[str, Any]:
    # datatrove's workers are processes, in each of which the library would start threads
    threads = 1 if side == "datatrove" else arguments["workers"]
    how = settings.how(peer=side != "ours", RAYON_NUM_THREADS=str(threads))
    with tempfile.TemporaryDirectory() as folder:
        made = call(function, {**arguments, "out": str(Path(folder) / "out")}, how)
    speed = {"mb_per_s": made["n_bytes"] / made["seconds"] / 1e6}
    return made | speed | {"bytes_per_token": made["n_bytes"] / made["n_tokens"]}


if __name__ == "__main__":
    start(main, DataSettings, __doc__)
