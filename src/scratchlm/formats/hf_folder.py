"""Hugging Face folders as sources: safetensors, or pytorch_model.bin, one file or several."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.folder import CONFIG
from scratchlm.checkpoint.names import match_weights, read_config
from scratchlm.checkpoint.weights import indexed_files, open_weights, read_table
from scratchlm.formats.source import Source, Stored, by_rows
from scratchlm.formats.torch_file import Lazy, check_weights, open_torch
from scratchlm.tokenizer.chat_file import read_template
from scratchlm.tokenizer.tokenizer import Tokenizer

PICKLE = "pytorch_model.bin"
_INDEX = "pytorch_model.bin.index.json"


class _Pickled:
    """The tensors of pytorch_model.bin, as `by_rows` asks for them."""

    def __init__(self, tensors: dict[str, Lazy], where: str) -> None:
        self._tensors, self._where = tensors, where

    @property
    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def dtype_of(self, name: str) -> torch.dtype:
        """What a weight is stored in; float32 for what `read` will refuse."""
        dtype = self._tensors[name].dtype
        return dtype if dtype.is_floating_point else torch.float32

    def read(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        if not tensor.dtype.is_floating_point:
            raise CheckpointError(f"{self._where}: {name} holds whole numbers: it was damaged.")
        return tensor.read()


@contextmanager
def open_source(folder: Path) -> Iterator[Source]:
    """Open a model folder of the Hugging Face hub.

    raises   CheckpointError for files that are missing, damaged, or of a model that we do not
             compute
    """
    values = read_table(folder / CONFIG)
    if values.get("model_type") == "gemma3" and isinstance(values.get("text_config"), dict):
        raise CheckpointError(
            f"{folder / CONFIG}: this is Gemma 3 with its eyes, and only the text model is "
            "supported (model_type gemma3_text)."
        )
    config = read_config(values, str(folder / CONFIG))
    with ExitStack() as stack:
        stored: Any
        if any((folder / name).is_file() for name in (PICKLE, _INDEX)) and not any(
            folder.glob("*.safetensors")
        ):
            stored = _Pickled(_tensors(folder, stack), str(folder))
        else:
            stored = stack.enter_context(open_weights(folder))
        rows = match_weights(config, stored.names, str(folder))
        kinds = dict.fromkeys(stored.dtype_of(row.theirs) for row in rows)
        yield Source(
            format="Hugging Face folder",
            config=config,
            weights=by_rows(config, rows, stored, str(folder), unused=stored.names),
            stored=" and ".join(str(kind).removeprefix("torch.") for kind in kinds),
            dtype=next(iter(kinds)) if len(kinds) == 1 else torch.float32,
            n_bytes=_n_bytes(stored),
            tokenizer=_tokenizer(folder),
            template=read_template(folder),
        )


def _tensors(folder: Path, stack: ExitStack) -> dict[str, Lazy]:
    whole = folder / PICKLE
    paths = [whole] if whole.is_file() else indexed_files(folder / _INDEX)
    tensors: dict[str, Lazy] = {}
    for path in paths:
        found = check_weights(stack.enter_context(open_torch(path)), str(path))
        if twice := tensors.keys() & found.keys():
            raise CheckpointError(f"{path}: {min(twice)} stands in another file as well.")
        tensors |= found
    return tensors


def _n_bytes(stored: Stored) -> int:
    return sum(
        math.prod(stored.shape(name)) * stored.dtype_of(name).itemsize  # type: ignore[attr-defined]
        for name in stored.names
    )


def _tokenizer(folder: Path) -> Any:
    return partial(Tokenizer.load, folder) if (folder / "tokenizer.json").is_file() else None
