"""Weights in safetensors files, one or several, each read only when it is asked for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.base.files import read_json
from scratchlm.checkpoint.names import Row

WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLE = "pytorch_model.bin"
_FLOATS = ("F64", "F32", "BF16", "F16")
_MAX_JSON_BYTES = 64 << 20  # the largest index on the hub has under 20 MB


class Weights:
    """The tensors of an open model folder by their names there; nothing is in memory yet."""

    def __init__(self, where: str, files: dict[str, Any]) -> None:
        self.where = where
        self._files = files  # the name of each weight -> the open file that holds it

    @property
    def names(self) -> set[str]:
        """What the files hold."""
        return set(self._files)

    def shape(self, row: Row) -> tuple[int, ...]:
        """The shape that `read` will give, from the file's header alone."""
        shape = self._files[row.theirs].get_slice(row.theirs).get_shape()
        if row.transpose:
            shape = shape[::-1]
        if row.parts > 1 and shape:
            whole, rest = divmod(shape[0], row.parts)
            shape = [-1 if rest else whole, *shape[1:]]  # -1 matches no shape of ours
        return tuple(shape)

    def read(self, row: Row, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Our parameter as the row cuts it from theirs: a copy that does not need the file."""
        stored = self._files[row.theirs].get_slice(row.theirs)
        if stored.get_dtype() not in _FLOATS:
            raise CheckpointError(
                f"{self.where}: {row.theirs} is stored as {stored.get_dtype()}, not as one of "
                f"{', '.join(_FLOATS)}: quantised models are not read."
            )
        shape = self.shape(row)
        if row.parts > 1:
            outputs = slice(row.part * shape[0], (row.part + 1) * shape[0])
            theirs = stored[:, outputs] if row.transpose else stored[outputs]
        else:
            theirs = self._files[row.theirs].get_tensor(row.theirs)
        return torch.empty(shape, dtype=dtype, device=device).copy_(
            theirs.T if row.transpose else theirs
        )

    def dtype_of(self, name: str) -> torch.dtype:
        """What a weight is stored in."""
        return self._files[name].get_tensor(name).dtype


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """Open the weights of a model folder: one file, or those that its index names.

    raises   CheckpointError for files that are missing, cut short or not safetensors
    """
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for path in _weight_files(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as bad:
                raise CheckpointError(
                    f"{path} is not a whole safetensors file ({bad}). Copy it again."
                ) from None
            for name in file.keys():  # noqa: SIM118 (a safe_open is not a dict)
                if name in files:
                    raise CheckpointError(f"{path}: {name} stands in another file as well.")
                files[name] = file
        yield Weights(str(folder), files)


def read_table(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object, read without trusting its size or depth."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist: {path.parent} is not a model folder. Give the folder that "
            "holds config.json and model.safetensors."
        )
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise CheckpointError(f"{path} has over {_MAX_JSON_BYTES >> 20} MB: it was damaged.")
    try:
        values = read_json(path, CheckpointError)
    except ValueError as bad:  # a number of more than 4,300 digits
        raise CheckpointError(f"{path} cannot be read as JSON: {bad}.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} does not hold a JSON object: it was damaged.")
    return values


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / _INDEX).is_file():
        return _indexed_files(folder / _INDEX)
    if (folder / _PICKLE).is_file():
        raise CheckpointError(
            f"{folder / _PICKLE} is a pickle, which can run any code when it is loaded. Save the "
            f"model with transformers' save_pretrained, which writes {WEIGHTS}, and load that."
        )
    raise CheckpointError(f"{folder} has no {WEIGHTS}: it is not a model folder, or only a part.")


def _indexed_files(index: Path) -> list[Path]:
    """The files that an index names, each a plain name in its own folder."""
    weight_map = read_table(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map: it was damaged.")
    for weight, name in weight_map.items():
        if not isinstance(name, str) or name != Path(name).name or "\\" in name:
            raise CheckpointError(
                f"{index}: {weight} is said to be in {name!r}, which is no file name."
            )
    return [index.with_name(name) for name in sorted(set(weight_map.values()))]
