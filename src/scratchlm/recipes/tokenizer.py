"""Tokenizers over files: train one on folders of text, encode and decode, compare (stage 4)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.corpus import bundled
from scratchlm.corpus.encodings import Errors
from scratchlm.corpus.read import Document, SourceFile, Tally, find_files, read_documents
from scratchlm.tokenizer import compare as comparing
from scratchlm.tokenizer import sentencepiece
from scratchlm.tokenizer import train as training
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import GPT2, gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer

FILES = {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tokenizer.vocab"}


def open_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer in a folder, of a tokenizer.json, or of a SentencePiece .model file.

    name     a path, or "gpt2" for OpenAI's vocabulary, which ships with the program (a folder
             of that name is ./gpt2)
    raises   CheckpointError for a path that holds no tokenizer
    """
    if str(name) == GPT2:
        return gpt2_tokenizer()
    path = Path(name)
    return sentencepiece.from_model_file(path) if path.suffix == ".model" else Tokenizer.load(path)


def train(
    paths: Path | str | Sequence[Path | str],
    config: TokenizerConfig | None = None,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    errors: Errors = "strict",
    text_key: str = "text",
    document_separator: str | None = None,
    keep: Callable[[Iterable[Document]], Iterator[Document]] | None = None,
) -> Tokenizer:
    """Learn a tokenizer from files and folders of text, read as a stream.

    out        the folder to save it in; None keeps it in memory only
    overwrite  replace a tokenizer that is there already
    errors, text_key, document_separator    see `corpus.read.read_documents`
    keep       picks the documents and parts to learn from (`prepare.training_part`); None: all

    raises   DataError for text that cannot be read; ConfigError for an `out` that holds other
             things than a tokenizer, and for a vocabulary larger than the text allows
    """
    config = config or TokenizerConfig()
    if out is not None:
        _check_free(Path(out), overwrite)
    files = [] if config.kind == GPT2 else find_files(bundled.resolve_all(paths))
    tally = Tally()
    documents = read_documents(
        files,
        errors=errors,
        text_key=text_key,
        document_separator=document_separator,
        tally=tally,
    )
    with Progress("learning the vocabulary", _total(files)) as progress:
        kept = keep(documents) if keep else documents
        texts = (document.text for document in kept)
        tokenizer = training.train_tokenizer(texts, config, progress.update)
    tally.report()
    if out is not None:
        _save(tokenizer, Path(out))
    return tokenizer


def encode(
    path: Path | str,
    tokenizer: Tokenizer,
    *,
    bos: bool = False,
    eos: bool = False,
    allowed_special: bool = False,
    strict: bool = False,
) -> Iterator[list[int]]:
    """The ids of each document of a file, in turn; the options are those of `Tokenizer.encode`."""
    tokens: list[int] = []
    begun = False
    for document in read_documents(find_files(bundled.resolve_all(path))):
        tokens += tokenizer.encode(
            document.text,
            bos=bos and not begun,
            eos=eos and document.ends,
            allowed_special=allowed_special,
            continues=begun,
            strict=strict,
        )
        begun = not document.ends
        if document.ends:
            yield tokens
            tokens = []


def decode(ids: str, tokenizer: Tokenizer, *, skip_special: bool = False) -> str:
    """The text of ids that are written as numbers with white space or commas between them.

    raises   DataError naming the word that is not a number, or the id outside the vocabulary
    """
    tokens = []
    for position, word in enumerate(ids.replace(",", " ").split(), start=1):
        if not word.isdecimal():
            raise DataError(
                f"word {position} of the ids is {word!r}, not a whole number from 0 to "
                f"{tokenizer.vocab_size - 1}."
            )
        tokens.append(int(word))
    return tokenizer.decode(tokens, skip_special=skip_special)


def compare(
    names: Sequence[str | Path], path: Path | str, *, max_bytes: int = 10_000_000
) -> list[comparing.Comparison]:
    """How several tokenizers do on the text of one file or folder.

    names      as `open_tokenizer` takes them
    max_bytes  of text to read at most; says so when there is more
    raises     ConfigError without names; CheckpointError and DataError for what cannot be read
    """
    if not names:
        raise ConfigError("there is nothing to compare. Name tokenizers, such as gpt2 or a folder.")
    text = _head(read_documents(find_files(bundled.resolve_all(path))), max_bytes)
    return comparing.compare({str(name): open_tokenizer(name) for name in names}, text)


def _head(documents: Iterator[Document], max_bytes: int) -> str:
    texts: list[str] = []
    n_bytes = 0
    for document in documents:
        texts.append(document.text)
        n_bytes += len(document.text.encode())
        if n_bytes >= max_bytes:
            say(f"compared on the first {n_bytes / 1e6:.1f} MB of the text")
            break
    return "".join(texts)


def _total(files: list[SourceFile]) -> int | None:
    """Bytes to read; None where compressed files hide how much text there is."""
    if any(file.kind == "parquet" or file.path.suffix == ".gz" for file in files):
        return None
    return sum(file.n_bytes for file in files)


def _check_free(folder: Path, overwrite: bool) -> None:
    """Refuse a folder with a tokenizer, or whose other contents belong to another one."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file. Name a folder for the tokenizer.")
    if (folder / "tokenizer.json").exists() and not overwrite:
        raise ConfigError(
            f"{folder} holds a tokenizer already, and shards or models made with it need it. "
            "Replace it with --overwrite (overwrite = True), or name another folder."
        )
    others = sorted(path.name for path in folder.glob("*") if path.name not in FILES)
    if others:
        raise ConfigError(
            f"{folder} holds other things than a tokenizer ({', '.join(others[:3])}), which may "
            "depend on the one they were made with. Name a new or empty folder."
        )


def _save(tokenizer: Tokenizer, folder: Path) -> None:
    for name in FILES:
        (folder / name).unlink(missing_ok=True)  # a .model of before would travel along
    tokenizer.save(folder)
    say(f"{folder}: {tokenizer.kind} tokenizer with {tokenizer.vocab_size:,} ids")
