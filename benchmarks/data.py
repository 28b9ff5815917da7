"""MB/s from text to token files: `prepare` beside nanoGPT's way and transformers' tokenizers.

    python benchmarks/data.py --english A.txt B.txt --chinese C.txt --ranks r50k_base.tiktoken

Files are UTF-8 text; give 50 MB or more of each language. Every side reads them, encodes them,
keeps a tenth for validation and writes ids of two bytes. The vocabularies are GPT-2's, and 4,096
pieces of SentencePiece that are learned from the files' first 10 MB before the clock starts.
"""

import tempfile
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class DataSettings(Settings):
    """What to encode."""

    english: tuple[Path, ...] = ()  # files of text; none: the bundled shakespeare, far too small
    chinese: tuple[Path, ...] = ()  # files of text; none: the bundled poems, far too small
    ranks: Path | None = None  # r50k_base.tiktoken; without it, nanoGPT's way is left out
    workers: tuple[int, ...] = (1, 2)  # processes or threads that encode


def main(settings: DataSettings) -> None:
    """Measure everything and write the results."""
    ranks = () if settings.ranks is None else (settings.ranks,)
    must_exist(*settings.english, *settings.chinese, *ranks)
    texts = {
        "english": settings.english or (bundled.resolve("bundled:shakespeare"),),
        "chinese": settings.chinese or (bundled.resolve("bundled:tang"),),
    }
    with tempfile.TemporaryDirectory() as folder:
        entries: list[Entry] = []
        facts: dict[str, Any] = {}
        for language, files in texts.items():
            paths = [str(path.resolve()) for path in files]
            places = {kind: str(Path(folder) / language / kind) for kind in ("gpt2", "sp4096")}
            arguments = {"paths": paths, "gpt2": places["gpt2"], "sentencepiece": places["sp4096"]}
            call("data_ours:make_tokenizers", arguments, settings.how())
            facts[language] = {"mb": sum(path.stat().st_size for path in files) / 1e6}
            for kind, place in places.items():
                entries += _entries(settings, f"{language}, {kind}", paths, place)
        comparison = Comparison("mb_per_s", "ours", "faster")
        Results("data", settings, COLUMNS, comparison, facts=facts).measure(entries)


def _entries(
    settings: DataSettings, text: str, paths: Sequence[str], tokenizer: str
) -> Iterator[Entry]:
    """One case for each number of workers."""
    sides = {"ours": "data_ours:encode", "transformers": "data_peers:encode_by_transformers"}
    for workers in settings.workers:
        case = f"{text}, {workers} worker{'s' * (workers > 1)}"
        for side, function in sides.items():
            arguments = {"paths": paths, "tokenizer": tokenizer, "workers": workers}
            yield Entry(case, side, partial(_measure, settings, side, function, arguments))
        if settings.ranks is not None and text.endswith("gpt2"):
            ranks = {"paths": paths, "ranks": str(settings.ranks.resolve()), "workers": workers}
            function = "data_peers:encode_by_tiktoken"
            yield Entry(case, "nanogpt", partial(_measure, settings, "nanogpt", function, ranks))


def _measure(
    settings: DataSettings, side: str, function: str, arguments: dict[str, Any], _round: int
) -> dict[str, Any]:
    threads = str(arguments["workers"])
    how = settings.how(peer=side != "ours", RAYON_NUM_THREADS=threads)
    with tempfile.TemporaryDirectory() as folder:
        made = call(function, {**arguments, "out": str(Path(folder) / "out")}, how)
    speed = {"mb_per_s": made["n_bytes"] / made["seconds"] / 1e6}
    return made | speed | {"bytes_per_token": made["n_bytes"] / made["n_tokens"]}


if __name__ == "__main__":
    start(main, DataSettings, __doc__)
