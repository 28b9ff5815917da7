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
from scratchlm.base.files import MANIFEST, replace_folder, write_manifest, write_text
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress
from scratchlm.checkpoint.families import Row
from scratchlm.checkpoint.folder import (
    CONFIG,
    DTYPES,
    FORMAT,
    VERSION,
    check_vocabulary,
    write_description,
)
from scratchlm.checkpoint.names import weight_rows
from scratchlm.checkpoint.weights import WEIGHTS, write_weights
from scratchlm.formats import gguf_read, hf_folder, llama2c, openai_gpt2, tutorials
from scratchlm.formats.download import download, is_remote
from scratchlm.formats.gguf_file import MAGIC
from scratchlm.formats.source import Source
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.chat_template import TEMPLATE
from scratchlm.tokenizer.tokenizer import Tokenizer

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ImportResult:
    """What was written.

    model     the folder
    n_bytes   of weights
    """

    model: Path
    format: str
    parameters: int
    n_bytes: int
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
    tokenizer   a tokenizer.json, tokenizer.bin or SentencePiece .model, where the source holds none
    dtype       of the weights; "auto" keeps what is stored, and makes blocks of few bits float32
    raises      CheckpointError for what is damaged, foreign, or does not fit together; ConfigError
                for a folder that is there already
    """
    out = Path(out)
    if out.exists() and not overwrite and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} exists. Name another folder, or give --overwrite.")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ConfigError(f"{out} is no model folder, so it is not replaced. Name another.")
    with open_any(find_source(source), Path(tokenizer) if tokenizer else None) as opened:
        words = _tokenizer(opened)
        if words is not None:
            check_vocabulary(words, opened.config)
        result = _write(opened, words, out, dtype)
    size = f"{result.parameters:,} parameters, {result.n_bytes / 1e6:,.1f} MB"
    say(f"imported {result.format}: {size}")
    return result


def find_source(source: Path | str) -> Path:
    """The file or folder that is meant; what has a name of the internet is downloaded."""
    return download(str(source)) if is_remote(str(source)) else Path(source)


@contextmanager
def open_any(path: Path, tokenizer: Path | None = None) -> Iterator[Source]:
    """Open whatever it is.

    raises   CheckpointError for what is missing, damaged, or of no known format
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    with _opener(path, tokenizer) as source:
        if tokenizer and source.tokenizer is None:
            source = replace(source, tokenizer=partial(Tokenizer.load, tokenizer))
        yield source


def _opener(path: Path, tokenizer: Path | None) -> AbstractContextManager[Source]:
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
    if start == MAGIC:
        return gguf_read.open_source(path)
    if start[:2] in (b"PK", b"\x80\x02"):  # a zip archive, a pickle
        return tutorials.open_source(path, tokenizer)
    if path.suffix == ".bin":
        return llama2c.open_source(path, tokenizer)
    raise CheckpointError(
        f"{path} is of no format that this program reads: a GGUF file, a .pt of nanoGPT or "
        "llama2.c, llama2.c's model.bin, or a folder of OpenAI's GPT-2 or of the Hugging Face hub."
    )


def _tokenizer(source: Source) -> Tokenizer | None:
    if source.tokenizer is None:
        warn(
            "there is no tokenizer: the model can be trained on, but not written with. Give "
            "--tokenizer."
        )
        return None
    return source.tokenizer()


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
        pieces = [source.weights[row.ours]().to(chosen) for row in rows]
        whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        done += whole.numel()
        shown.update(done * source.n_bytes // n_parameters)
        return whole.T if rows[0].transpose else whole

    def fill(folder: Path) -> None:
        write_description(folder, source.config, tokenizer, chosen)
        if source.template:
            write_text(folder / TEMPLATE, source.template)
        write_weights(folder / WEIGHTS, shapes, dict.fromkeys(shapes, chosen), read)
        facts = {"format": source.format, "stored": source.stored, **source.facts}
        write_manifest(folder, FORMAT, VERSION, imported=facts)

    with Progress("importing", source.n_bytes, unit="B") as shown:
        replace_folder(out, fill)
    return ImportResult(
        out, source.format, n_parameters, n_parameters * chosen.itemsize, tokenizer is not None
    )


def _their_shapes(source: Source, groups: dict[str, list[Row]]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        ours = dict(Transformer(source.config).named_parameters(remove_duplicate=False))
    shapes = {}
    for name, rows in groups.items():
        whole = torch.cat([ours[row.ours] for row in rows]) if len(rows) > 1 else ours[rows[0].ours]
        shapes[name] = tuple(whole.T.shape if rows[0].transpose else whole.shape)
    return shapes
