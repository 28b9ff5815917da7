"""The first of a text as shards, to be looked at before a run: in a folder that goes away."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from scratchlm.base.errors import DataError
from scratchlm.corpus import bundled
from scratchlm.corpus.read import Document, find_files
from scratchlm.data.loader import DataConfig, SourceConfig
from scratchlm.recipes.estimate import beginning
from scratchlm.recipes.prepare import prepare
from scratchlm.recipes.run_config import RunConfig
from scratchlm.recipes.sample_tokenizer import SAMPLE_BYTES, learn_on_sample
from scratchlm.tokenizer.config import LEARNED
from scratchlm.tokenizer.tokenizer import Tokenizer


@contextmanager
def prepared_sample(config: RunConfig) -> Iterator[tuple[DataConfig, Tokenizer, str]]:
    """Data settings and tokenizer of a text that is not prepared yet, and in words what it is.

    A text of less than SAMPLE_BYTES is prepared as the run will prepare it; of a longer one its
    beginning, with a vocabulary learned from that.

    raises   ConfigError and DataError as the run itself will
    """
    paths = bundled.resolve_all(config.text.paths)
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(
            f"{missing[0]}, of text.paths, does not exist. Paths are taken from the folder that "
            f"you are in, {Path.cwd()}."
        )
    sample = list(beginning(config, find_files(paths)))
    n_bytes = sum(len(document.text.encode()) for document in sample)
    if not n_bytes:
        raise DataError(f"there is no text in {', '.join(map(str, paths))}: all of it is empty.")
    whole = n_bytes < SAMPLE_BYTES
    tokenizer = learn_on_sample([one.text for one in sample], config.tokenizer, whole=whole)
    settings = replace(config.prepare, workers=1, overwrite=False)
    with TemporaryDirectory(prefix="scratchlm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if not whole:
            paths = [folder / "sample.jsonl"]
            _write(paths[0], sample)
            settings = replace(settings, share=1.0, text_key="text", errors="strict")
        prepare(paths, folder / "data", tokenizer, config=settings)
        data = replace(config.data, sources=(SourceConfig(folder / "data"),))
        yield data, tokenizer, _in_words(n_bytes, tokenizer, config, whole)


def _write(path: Path, documents: list[Document]) -> None:
    """Documents as JSON lines, the pieces of a long one together."""
    pieces: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for i, document in enumerate(documents):
            pieces.append(document.text)
            if document.ends or i == len(documents) - 1:
                file.write(json.dumps({"text": "".join(pieces)}) + "\n")
                pieces = []


def _in_words(n_bytes: int, tokenizer: Tokenizer, config: RunConfig, whole: bool) -> str:
    what = "all" if whole else "the first"
    said = (
        f"The text is not prepared yet: {what} {n_bytes / 1e6:.1f} MB of it were, into a folder "
        f"that is gone again, by a {tokenizer.kind} tokenizer of {tokenizer.vocab_size:,} ids"
    )
    if tokenizer.kind == "gpt2" or (whole and tokenizer.kind not in LEARNED):
        return f"{said}."
    wanted = config.tokenizer.vocab_size
    small = "" if whole or tokenizer.vocab_size >= wanted else f", not {wanted:,},"
    return f"{said}{small} that learned from them; the run's own learns from its training part."
