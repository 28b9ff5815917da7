"""How many tokens a run's text makes, before it is prepared: from its bytes and a sample."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from scratchlm.base.errors import DataError
from scratchlm.base.files import read_manifest
from scratchlm.corpus import bundled
from scratchlm.corpus.read import Document, SourceFile, find_files, read_documents
from scratchlm.data.loader import DataConfig, SourceConfig, open_splits
from scratchlm.data.shards import FORMAT, VERSION, is_shards_folder
from scratchlm.recipes.run_config import RunConfig
from scratchlm.recipes.sample_tokenizer import SAMPLE_BYTES, learn_on_sample
from scratchlm.recipes.scaling import Difficulty, difficulty
from scratchlm.tokenizer.config import LEARNED
from scratchlm.tokenizer.tokenizer import Tokenizer

SAMPLE_TOKENS = 300_000
COMPRESSED = (".gz", ".parquet")


@dataclass(frozen=True)
class TokenCount:
    """What the text of a run comes to.

    train, validation   tokens of each split; None where that cannot be told
    vocab_size          of the tokenizer; 0 where that cannot be told
    source              where the numbers are from, in words
    bytes_per_token     of the text; 0 where that cannot be told
    difficulty          of the text (`scaling.difficulty`); None where that cannot be told
    """

    train: int | None
    validation: int | None
    vocab_size: int
    source: str
    bytes_per_token: float = 0.0
    difficulty: Difficulty | None = None


def count_tokens(config: RunConfig) -> TokenCount:
    """Look into the manifests of shards, or encode a sample of the text; nothing is written.

    Text or shards that are not there leave the numbers open.

    raises   DataError for text that is there but cannot be read, ConfigError for a vocabulary that
             is larger than the text allows
    """
    return _of_shards(config) if config.data.sources else _of_text(config)


def _of_shards(config: RunConfig) -> TokenCount:
    train = validation = vocab_size = 0
    for source in config.data.sources:
        if not is_shards_folder(source.path):
            return TokenCount(None, None, 0, f"{source.path} is not there yet")
        manifest = read_manifest(source.path, FORMAT, VERSION, verify=False, error=DataError)
        splits = manifest["splits"]
        train += splits["train"]["n_tokens"]
        validation += splits.get("val", {"n_tokens": 0})["n_tokens"]
        vocab_size = max(vocab_size, manifest["vocab_size"])
    text, n_tokens = _decoded(config.data.sources[0].path)
    return TokenCount(
        train,
        validation,
        vocab_size,
        "counted when it was prepared",
        len(text.encode()) / n_tokens,
        difficulty(text),
    )


def _decoded(folder: Path) -> tuple[str, int]:
    """The beginning of a folder of shards as text, and of how many tokens it is."""
    (split,) = open_splits(DataConfig(sources=(SourceConfig(folder),)), "train", verify=False)
    n = min(split.n_tokens, SAMPLE_TOKENS)
    return Tokenizer.load(folder).decode(split.read(0, n).tolist()), n


def _of_text(config: RunConfig) -> TokenCount:
    chosen = config.tokenizer
    known = chosen.vocab_size if chosen.kind in LEARNED else 50_257 if chosen.kind == "gpt2" else 0
    paths = bundled.resolve_all(config.text.paths)
    if missing := [path for path in paths if not path.exists()]:
        return TokenCount(None, None, known, f"{missing[0]} is not there")
    files = find_files(paths)
    sample = [document.text for document in beginning(config, files)]
    sample_bytes = sum(len(text.encode()) for text in sample)
    if not sample_bytes:
        raise DataError(f"there is no text in {', '.join(map(str, paths))}: all of it is empty.")
    whole = sample_bytes < SAMPLE_BYTES  # then its own vocabulary is the run's
    tokenizer = learn_on_sample(sample, chosen, whole=whole)
    n_tokens = sum(len(tokenizer.encode(text)) for text in sample)
    total = max(sample_bytes, int(config.prepare.share * sum(file.n_bytes for file in files)))
    vocab_size = tokenizer.vocab_size if whole or not known else known
    if any(file.path.suffix.lower() in COMPRESSED for file in files):
        return TokenCount(None, None, vocab_size, "it is compressed, so its length is not known")
    train_share = 1 - config.prepare.val_fraction
    scaled = n_tokens * total / sample_bytes
    source = f"estimated: {sample_bytes / n_tokens:.2f} bytes each in the first "
    return TokenCount(
        int(scaled * train_share),
        int(scaled * (1 - train_share)),
        vocab_size,
        f"{source}{sample_bytes / 1e6:.1f} MB of {total / 1e6:,.1f}",
        sample_bytes / n_tokens,
        difficulty("".join(sample)),
    )


def beginning(config: RunConfig, files: list[SourceFile]) -> Iterator[Document]:
    """The first documents of a run's text, about SAMPLE_BYTES of them; the last may be cut there.

    raises   DataError for text that cannot be read
    """
    prepare = config.prepare
    documents = read_documents(
        files,
        errors=prepare.errors,
        text_key=prepare.text_key,
        document_separator=prepare.document_separator,
    )
    left = SAMPLE_BYTES
    for document in islice(documents, SAMPLE_BYTES):
        text = document.text[:left]
        left -= len(text.encode())
        yield replace(document, text=text)
        if left <= 0:
            return
