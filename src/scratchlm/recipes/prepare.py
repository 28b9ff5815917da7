"""Documents to token shards, in parallel (stages 2, 4 and 5): the verb `prepare`.

One process reads and writes, in order; others encode. So the bytes that come out do not depend
on the number of workers, and memory holds a few megabytes of text for each of them, however
large the input is.
"""

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import beside, locked, replace_folder, restore_folder, write_manifest
from scratchlm.base.log import say, warn
from scratchlm.base.progress import counted
from scratchlm.base.runtime import cpu_count
from scratchlm.corpus import bundled
from scratchlm.corpus.divide import Piece, divide_by_document, divide_by_tail
from scratchlm.corpus.encodings import Errors
from scratchlm.corpus.read import Document, SourceFile, Tally, find_files, read_documents
from scratchlm.data.shards import FORMAT, VERSION, ShardWriter, is_shards_folder
from scratchlm.recipes.encode import Encoded, encode_pieces
from scratchlm.recipes.tokenizer import open_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer

_SMALL = 8 << 20  # bytes of input below which starting workers takes longer than it saves
_ENOUGH = 10  # documents to expect in the validation split before they are drawn by chance

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class PrepareConfig:
    """How text becomes shards."""

    split: Literal["auto", "document", "tail"] = "auto"  # validate on drawn documents or the end
    val_fraction: float = 0.1  # share of the documents or of the text; 0 makes no validation split
    seed: int = 0  # of the drawing of validation documents
    errors: Errors = "strict"  # "replace" puts U+FFFD where bytes cannot be decoded
    text_key: str = "text"  # JSON key or Parquet column that holds the text
    document_separator: str | None = None  # between documents of a text file: "<|endoftext|>"
    share: float = 1.0  # of each file that is read, from its beginning
    bos: bool = False  # put the tokenizer's beginning token before each document
    shard_tokens: int = 100_000_000  # a shard ends with the document that brings it to this
    workers: int = 0  # threads or processes that encode; 0 takes all cores
    overwrite: bool = False  # replace a folder that `prepare` made before

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(
                f"prepare.val_fraction = {self.val_fraction} must be in [0, 1): 0.1 keeps a tenth "
                "of the text for validation."
            )
        if not 0 < self.share <= 1:
            raise ConfigError(f"prepare.share = {self.share} must be above 0, and at most 1.")
        for name, least in (("shard_tokens", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"prepare.{name} = {getattr(self, name)} must be at least {least}."
                )


@dataclass(frozen=True)
class SplitFacts:
    """What one split holds; `n_bytes` of UTF-8 text, joints between documents not counted."""

    n_tokens: int
    n_documents: int
    n_bytes: int
    n_shards: int


@dataclass(frozen=True)
class PreparedData:
    """The folder that was written, its splits by name, and how many ids are the unknown token."""

    folder: Path
    splits: dict[str, SplitFacts]
    n_unknown: int


def prepare(
    paths: Path | str | Sequence[Path | str],
    out: Path | str,
    tokenizer: Tokenizer | Path | str,
    *,
    config: PrepareConfig | None = None,
    progress: Progress | None = None,
) -> PreparedData:
    """Encode files and folders into a folder of shards that `open_shards` reads.

    tokenizer  one at hand, or what `open_tokenizer` takes: a folder, a file, or "gpt2"
    out        gets train/, val/, the tokenizer's files and manifest.json, all at once at the end:
               an interrupted run leaves nothing under this name and starts anew
    progress   called with the bytes of text done, and with those of all files (an estimate; None
               where compression hides it)
    raises     DataError for text that cannot be read or encoded, ConfigError when `out` is in use

    A script must call it under `if __name__ == "__main__":`, since worker processes, which
    tokenizers without compiled code need, import the script.
    """
    config, out = config or PrepareConfig(), Path(out)
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = open_tokenizer(tokenizer)
    if config.bos and tokenizer.bos_id is None:
        raise ConfigError(
            f"prepare.bos = true, but this {tokenizer.kind} tokenizer has no beginning token. "
            "Train one with tokenizer.bos = true, or set prepare.bos = false."
        )
    with locked(out, beside(out, "lock")):
        restore_folder(out)
        _refuse_used(out, config.overwrite)
        files = find_files(bundled.resolve_all(paths))
        return _prepare(files, out, tokenizer, config, progress)


def _prepare(
    files: Sequence[SourceFile],
    out: Path,
    tokenizer: Tokenizer,
    config: PrepareConfig,
    progress: Progress | None,
) -> PreparedData:
    """Write the folder, and say what was met and what came out."""
    divide = _choose_split(files, config)
    tally = Tally()
    prepared: list[PreparedData] = []

    def fill(folder: Path) -> None:
        tokenizer.save(folder)
        pieces = divide(_read(files, config, tally))
        n_workers = _n_workers(config, files)
        with closing(encode_pieces(pieces, tokenizer, folder, n_workers)) as encoded:
            shown = _reporting(encoded, files, config.share, progress)
            prepared.append(_write(shown, folder, out, tokenizer, config))
        _write_manifest(folder, tokenizer, prepared[0], config)

    try:
        replace_folder(out, fill)
    except OSError as full:
        if full.errno != errno.ENOSPC:
            raise
        raise DataError(
            f"the disk is full: {out} could not be written. Free some space (each token takes 2 "
            "or 4 bytes) or choose another folder; nothing was left behind."
        ) from None
    tally.report()
    _say_result(prepared[0], tokenizer)
    return prepared[0]


def prepare_sources(
    sources: Mapping[str, Sequence[Path | str]],
    out: Path | str,
    tokenizer: Tokenizer,
    *,
    config: PrepareConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, PreparedData]:
    """`prepare` each named group of files into out/NAME, so that training can weight them."""
    for name in sources:
        if not name or Path(name).name != name:
            raise ConfigError(f"source name {name!r} cannot be the name of a folder.")
    return {
        name: prepare(paths, Path(out) / name, tokenizer, config=config, progress=progress)
        for name, paths in sources.items()
    }


def _refuse_used(out: Path, overwrite: bool) -> None:
    if out.resolve() == Path.cwd():
        raise ConfigError(
            f"{out} is the folder that you are in, which cannot be put in place as a whole. Name "
            "one below it, such as data."
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not is_shards_folder(out):
        raise ConfigError(
            f"{out} is there already and was not made by prepare, so it is left alone. Choose "
            "another folder, or remove it yourself."
        )
    if not overwrite:
        raise ConfigError(
            f"{out} holds prepared data already. Replace it with --overwrite "
            "(overwrite = True), or choose another folder."
        )


def _read(files: Sequence[SourceFile], config: PrepareConfig, tally: Tally) -> Iterator[Document]:
    return read_documents(
        files,
        errors=config.errors,
        text_key=config.text_key,
        document_separator=config.document_separator,
        share=config.share,
        tally=tally,
    )


def training_part(
    paths: Path | str | Sequence[Path | str], config: PrepareConfig
) -> Callable[[Iterable[Document]], Iterator[Document]]:
    """What picks, of these paths' documents, those and the parts that `prepare` gives to training.

    A vocabulary that has seen the validation split has words for names that only that split has.
    """
    divide = _choose_split(find_files(bundled.resolve_all(paths)), config, quiet=True)

    def keep(documents: Iterable[Document]) -> Iterator[Document]:
        return (piece.document for piece in divide(documents) if piece.split == "train")

    return keep


def _choose_split(
    files: Sequence[SourceFile], config: PrepareConfig, *, quiet: bool = False
) -> Callable[[Iterable[Document]], Iterator[Piece]]:
    """Draw documents where there are enough of them, else count the text and take its tail."""
    fraction = config.val_fraction
    drawn = partial(divide_by_document, fraction=fraction, seed=config.seed)
    if not fraction or config.split == "document":
        return drawn
    enough = math.ceil(_ENOUGH / fraction)
    n_chars = n_documents = 0
    for document in _read(files, config, Tally()):
        n_chars += len(document.text)
        n_documents += document.ends
        if config.split == "auto" and n_documents == enough:
            if not quiet:
                say(f"Validation takes {fraction:.3g} of the documents, drawn by their ids.")
            return drawn
    n_train = int(n_chars * (1 - fraction))
    why = "" if config.split == "tail" else f" (documents: {n_documents}, too few to draw from)"
    if not quiet:
        say(f"Validation takes the last {n_chars - n_train} of {n_chars} characters{why}.")
    return partial(divide_by_tail, n_train_chars=n_train)


def _n_workers(config: PrepareConfig, files: Sequence[SourceFile]) -> int:
    if sum(file.n_bytes for file in files) < _SMALL:
        return 1
    return config.workers or cpu_count()


def _reporting(
    encoded: Iterable[Encoded],
    files: Sequence[SourceFile],
    share: float,
    progress: Progress | None,
) -> Iterator[Encoded]:
    hidden = any(file.path.suffix.lower() in (".gz", ".parquet") for file in files)
    total = None if hidden else int(share * sum(file.n_bytes for file in files))
    done = 0
    for one in encoded:
        yield one
        done += one.n_bytes
        if progress:
            progress(done, total)


class _SplitWriter:
    """The shards of one split, with joints.

    An end token closes every document. Where there is none, the joint (an empty line) stands only
    between two documents, so that a single text is encoded exactly as it is.
    """

    def __init__(self, shards: ShardWriter, tokenizer: Tokenizer, bos: bool) -> None:
        self.shards = shards
        self._beginning = [tokenizer.bos_id] if bos and tokenizer.bos_id is not None else []
        self._joint = tokenizer.joint()
        self._closes = tokenizer.eos_id is not None
        self._begun = False  # whether there is a document at hand
        self._complete = False  # whether it waits for its joint

    def add(self, encoded: Encoded) -> None:
        if self._complete:
            self._end_document()
        if not self._begun and self._beginning:
            self.shards.add(self._beginning)
        self._begun = True
        self.shards.add(encoded.ids, encoded.n_bytes)
        self._complete = encoded.piece.document.ends
        if self._complete and self._closes:
            self._end_document()

    def _end_document(self) -> None:
        self.shards.add(self._joint)
        self.shards.end_document()
        self._begun = self._complete = False


def _write(
    encoded: Iterable[Encoded], folder: Path, out: Path, tokenizer: Tokenizer, config: PrepareConfig
) -> PreparedData:
    n_unknown = 0
    with ExitStack() as stack:
        writers = {}
        for split in ("train", "val") if config.val_fraction else ("train",):
            shards = ShardWriter(
                folder / split, tokenizer.vocab_size, tokenizer.hash, config.shard_tokens
            )
            writers[split] = _SplitWriter(stack.enter_context(shards), tokenizer, config.bos)
        for one in encoded:
            writers[one.piece.split].add(one)
            if tokenizer.unk_id is not None:
                n_unknown += int(np.count_nonzero(one.ids == tokenizer.unk_id))
    splits = {split: _facts(writer.shards) for split, writer in writers.items()}
    for split, facts in splits.items():
        if not facts.n_tokens:
            raise DataError(
                f"nothing is left for the {split} split: there is too little text, or too few "
                f"documents for prepare.val_fraction = {config.val_fraction}. Add text, change "
                'prepare.val_fraction, or set prepare.split = "tail".'
            )
    return PreparedData(out, splits, n_unknown)


def _facts(shards: ShardWriter) -> SplitFacts:
    return SplitFacts(shards.n_tokens, shards.n_documents, shards.n_bytes, shards.n_shards)


def _write_manifest(
    folder: Path, tokenizer: Tokenizer, prepared: PreparedData, config: PrepareConfig
) -> None:
    settings = asdict(config)
    for name in ("workers", "overwrite"):  # they do not change what is written
        del settings[name]
    write_manifest(
        folder,
        FORMAT,
        VERSION,
        tokenizer_hash=tokenizer.hash,
        vocab_size=tokenizer.vocab_size,
        splits={split: asdict(facts) for split, facts in prepared.splits.items()},
        settings=settings,
    )


def _say_result(prepared: PreparedData, tokenizer: Tokenizer) -> None:
    for split, facts in prepared.splits.items():
        say(
            f"{prepared.folder / split}: {counted(facts.n_tokens, 'token')} of "
            f"{counted(facts.n_documents, 'document')} ({facts.n_bytes / 1e6:.1f} MB) in "
            f"{counted(facts.n_shards, 'shard')}."
        )
    n_tokens = sum(facts.n_tokens for facts in prepared.splits.values())
    if prepared.n_unknown:
        warn(
            f"{prepared.n_unknown} of {n_tokens} tokens are unknown to this {tokenizer.kind} "
            "tokenizer and their text is lost. A byte-level kind (bpe) loses none."
        )
