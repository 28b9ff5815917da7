"""Documents to words that one space separates: the verb `corpus segment`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import beside, locked
from scratchlm.base.log import say
from scratchlm.base.progress import counted, in_bytes
from scratchlm.corpus.encodings import Errors
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.read import find_files
from scratchlm.corpus.segment import WORDS_ENDING, SegmenterName, SegmentSettings, segment
from scratchlm.corpus.stages import (
    Counts,
    begun,
    discard,
    in_order,
    keep_apart,
    run_stage,
    stage_facts,
)
from scratchlm.corpus.store import ENDING
from scratchlm.tokenizer.words import SEGMENTERS


@dataclass(frozen=True)
class SegmentConfig:
    """How text is read, and who does the work."""

    limit: int = 0  # take the first so many documents of each file only; 0 takes all
    errors: Errors = "strict"  # "replace" puts U+FFFD where bytes cannot be decoded
    text_key: str = "text"  # JSON key or Parquet column that holds the text
    document_separator: str | None = None  # between documents of a text file: "<|endoftext|>"
    overwrite: bool = False  # replace a folder that this made before

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ConfigError(f"limit = {self.limit} must be at least 0.")
        for name in ("document_separator", "text_key"):
            if getattr(self, name) == "":
                raise ConfigError(f"{name} is empty: leave it out, or name one.")


def segment_documents(
    paths: Sequence[Path | str] | Path | str,
    out: Path | str,
    segmenter: SegmenterName,
    *,
    config: SegmentConfig | None = None,
    scale: Scale | None = None,
) -> Counts:
    """Cut the words of documents apart: one line of words for each line of text.

    paths      folders of .jsonl.zst files, or text files, JSON lines, Parquet and folders of these
    out        gets 00000.tokenized.txt ..., one for each file, in the order of their names; a run
               that was interrupted goes on. An empty line stands behind each document
    segmenter  "spacy" for English, "rjieba" for Chinese
    returns    what became of the documents; those without words are dropped
    raises     ConfigError, DataError, MissingExtraError
    """
    config, scale, out = config or SegmentConfig(), scale or Scale(), Path(out)
    if segmenter not in ("spacy", "rjieba"):
        raise ConfigError(f"segmenter = {segmenter!r} is not one of spacy (English), rjieba.")
    SEGMENTERS[segmenter].split("")  # here a missing library is told before any work is done
    given = [paths] if isinstance(paths, Path | str) else paths
    keep_apart(out, map(Path, given))
    shards, executor = _shards(given), scale.executor()
    settings = SegmentSettings(
        segmenter, config.limit, config.errors, config.text_key, config.document_separator
    )
    with locked(out, beside(out, "lock")):
        if config.overwrite:
            discard(out)
        with begun(out, stage_facts("segment", settings), out):
            counts = run_stage(
                "segment", segment, shards, out, settings, executor, ending=WORDS_ENDING
            )
    said = f"{counted(counts.n_kept, 'document')}, {in_bytes(counts.kept_bytes)}"
    say(f"{out}: {said} in {counted(len(shards), 'file')}.")
    return counts


def _shards(paths: Sequence[Path | str]) -> list[Path]:
    """The files of documents in folders that have some; else whatever can be read as text."""
    shards: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        stored = in_order(path.iterdir() if path.is_dir() else [path])
        shards += stored or [file.path for file in find_files([path])]
    if not shards:
        raise DataError(f"there is nothing to read. Name folders of {ENDING} files, or texts.")
    return shards
