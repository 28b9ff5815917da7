"""`import`: a model in someone else's format becomes a model folder, one tensor at a time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import (
    MANIFEST,
    check_new_folder,
    check_room,
    read_json,
    replace_folder,
    write_manifest,
    write_text,
)
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress, in_bytes
from scratchlm.checkpoint.families import Row
from scratchlm.checkpoint.folder import (
    CONFIG,
    DTYPES,
    FORMAT,
    VERSION,
    check_vocabulary,
    write_description,
)
from scratchlm.checkpoint.names import listed, weight_rows
from scratchlm.checkpoint.weights import WEIGHTS, write_weights
from scratchlm.formats import gguf_read, hf_folder, llama2c, openai_gpt2, tutorials
from scratchlm.formats.download import download, is_remote
from scratchlm.formats.gguf_file import MAGIC
from scratchlm.formats.given_tokenizer import read_given
from scratchlm.formats.source import Source, shapes_of
from scratchlm.recipes.load import find_model
from scratchlm.tokenizer.chat_file import TEMPLATE
from scratchlm.tokenizer.tokenizer import Tokenizer

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ImportResult:
    """What was written.

    model     the folder
    n_bytes   of weights
    dtype     that they were written in
    """

    model: Path
    format: str
    parameters: int
    n_bytes: int
    dtype: str
    has_tokenizer: bool


def import_model(
    source: Path | str,
    out: Path | str,
    *,
    tokenizer: Path | str | None = None,
    dtype: Dtype = "auto",
    overwrite: bool = False,
) -> ImportResult:
    """Turn a model of another program into a model folder.

    source      a file or folder; "hf:OWNER/NAME" or "gpt2" to "gpt2-xl", which are downloaded
    tokenizer   taken instead of the source's own: a folder or tokenizer.json, llama2.c's
                tokenizer.bin, a SentencePiece .model, nanoGPT's meta.pkl, or "gpt2"
    dtype       of the weights; "auto" keeps what is stored, and makes blocks of few bits float32
    raises      CheckpointError for what is damaged, foreign, or does not fit together; ConfigError
                for a folder that is there already
    """
    out, path = Path(out), find_source(source)
    if out.exists() and path.exists() and out.samefile(path):
        raise ConfigError(f"{out} is the model itself. Name another folder to write.")
    check_new_folder(out, MANIFEST, overwrite=overwrite)
    _check_all_ours(out)
    with open_any(path, tokenizer) as opened:
        words = _tokenizer(opened)
        if words is not None:
            check_vocabulary(words, opened.config)
        result = _write(opened, words, out, dtype)
    said = f"{result.parameters:,} parameters, stored as {opened.stored}"
    say(f"imported {result.format}: {said}; written as {result.dtype}, {in_bytes(result.n_bytes)}")
    return result


def _check_all_ours(out: Path) -> None:
    """Refuse to replace a model folder in which somebody has put files of their own."""
    if not (out / MANIFEST).is_file():
        return
    manifest = read_json(out / MANIFEST, CheckpointError)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    ours = {MANIFEST, *(files if isinstance(files, dict) else ())}
    if others := sorted(path.name for path in out.iterdir() if path.name not in ours):
        raise ConfigError(
            f"{out} holds {listed(others)}, which would go with the old model. Name another folder."
        )


def find_source(source: Path | str) -> Path:
    """The file or folder that is meant: downloaded, where it is a name of the internet.

    Of a run it is its model; of what was exported for ollama or llama2.c, the file of weights.
    """
    if is_remote(str(source)):
        return download(str(source))
    if not str(source):
        raise ConfigError("the source is empty: give the path of a model.")
    path = Path(source)
    if path.is_dir() and not (path / openai_gpt2.HPARAMS).is_file():
        for name in ("model.gguf", "model.bin"):
            if (path / name).is_file() and not (path / CONFIG).is_file():
                return path / name
        return find_model(path)
    return path


@contextmanager
def open_any(path: Path, tokenizer: Path | str | None = None) -> Iterator[Source]:
    """Open whatever it is.

    tokenizer   taken instead of its own
    raises      CheckpointError for what is missing, damaged, or of no known format
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    with _opener(path) as source:
        if tokenizer:
            source = replace(source, tokenizer=partial(read_given, tokenizer, source.config))
        yield source


def _opener(path: Path) -> AbstractContextManager[Source]:
    if path.is_dir():
        if (path / openai_gpt2.HPARAMS).is_file():
            return nullcontext(openai_gpt2.open_source(path))
        if (path / CONFIG).is_file():
            return hf_folder.open_source(path)
        raise CheckpointError(
            f"{path} is no model folder: it has neither config.json nor hparams.json."
        )
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise CheckpointError(f"{path} is empty.")
    if start == MAGIC:
        return gguf_read.open_source(path)
    if start[:2] in (b"PK", b"\x80\x02"):  # a zip archive, a pickle
        return tutorials.open_source(path)
    if path.suffix == ".bin":
        return llama2c.open_source(path)
    raise CheckpointError(
        f"{path} is of no format that this program reads: a GGUF file, a .pt of nanoGPT or "
        "llama2.c, llama2.c's model.bin, or a folder of OpenAI's GPT-2 or of the Hugging Face hub."
    )


def _tokenizer(source: Source) -> Tokenizer | None:
    if source.tokenizer is None:
        warn(
            "there is no tokenizer, so no text can be made with this model. Give --tokenizer "
            "(in Python, tokenizer=...)."
        )
        return None
    tokenizer = source.tokenizer()
    return tokenizer.with_chat_template(source.template) if source.template else tokenizer


def _write(source: Source, tokenizer: Tokenizer | None, out: Path, dtype: Dtype) -> ImportResult:
    chosen = source.dtype if dtype == "auto" else DTYPES[dtype]
    groups: dict[str, list[Row]] = {}  # the rows of each of their weights
    for row in weight_rows(source.config):
        groups.setdefault(row.theirs, []).append(row)
    shapes = _their_shapes(source, groups)
    n_parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    done = 0

    def read(name: str) -> Tensor:
        nonlocal done
        rows = groups[name]
        pieces = [_read(source, row.ours, chosen) for row in rows]
        whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        done += whole.numel()
        shown.update(done * source.n_bytes // n_parameters)
        return whole.T if rows[0].transpose else whole

    def fill(folder: Path) -> None:
        write_description(folder, source.config, tokenizer, chosen)
        if source.template and tokenizer is None:  # else it is the tokenizer's
            write_text(folder / TEMPLATE, source.template)
        write_weights(folder / WEIGHTS, shapes, dict.fromkeys(shapes, chosen), read)
        facts = {"format": source.format, "stored": source.stored, **source.facts}
        write_manifest(folder, FORMAT, VERSION, imported=facts)

    n_bytes = n_parameters * chosen.itemsize
    check_room(out, n_bytes)
    with Progress("importing", source.n_bytes, unit="B") as shown:
        replace_folder(out, fill)
    name = str(chosen).removeprefix("torch.")
    return ImportResult(out, source.format, n_parameters, n_bytes, name, tokenizer is not None)


def _read(source: Source, name: str, dtype: torch.dtype) -> Tensor:
    """A weight, once it is known to be made of numbers.

    raises   CheckpointError for NaN and infinity, in the file or by rounding to the dtype
    """
    stored = source.weights[name]()
    weight = stored.to(dtype)
    if torch.isfinite(weight).all():
        return weight
    if torch.isfinite(stored).all():
        raise CheckpointError(f"{name} has numbers too large for {dtype}: give --dtype bfloat16.")
    raise CheckpointError(
        f"{name} is not made of numbers (NaN or infinity): the model is damaged, or its training "
        "has failed."
    )


def _their_shapes(source: Source, groups: dict[str, list[Row]]) -> dict[str, tuple[int, ...]]:
    ours = shapes_of(source.config)
    shapes = {}
    for name, rows in groups.items():
        first, *rest = (ours[row.ours] for row in rows)
        whole = (first[0] + sum(shape[0] for shape in rest), *first[1:])
        shapes[name] = whole[::-1] if rows[0].transpose else whole
    return shapes
