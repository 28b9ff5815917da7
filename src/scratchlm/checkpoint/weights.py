"""Weights in safetensors files, one or several, each read only when it is asked for."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
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
_FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
_STORED = {dtype: name for name, dtype in _FLOATS.items()}
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

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight, from the file's header alone."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """A weight as it is stored: a copy that does not need the file.

        raises   CheckpointError where it is not made of floats
        """
        stored = self._files[name].get_slice(name).get_dtype()
        if stored not in _FLOATS:
            raise CheckpointError(
                f"{self.where}: {name} is stored as {stored}, not as one of {', '.join(_FLOATS)}: "
                "quantised models are not read."
            )
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor

    def shape_of(self, row: Row) -> tuple[int, ...]:
        """The shape that `read_row` will give."""
        return row.shape_of(self.shape(row.theirs))

    def read_row(self, row: Row, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Our parameter as the row cuts it from theirs: a copy that does not need the file."""
        shape = self.shape_of(row)
        if row.parts > 1 and self._files[row.theirs].get_slice(row.theirs).get_dtype() in _FLOATS:
            stored = self._files[row.theirs].get_slice(row.theirs)
            outputs = slice(row.part * shape[0], (row.part + 1) * shape[0])
            theirs = stored[:, outputs] if row.transpose else stored[outputs]
        else:
            theirs = self.read(row.theirs)
        return torch.empty(shape, dtype=dtype, device=device).copy_(
            theirs.T if row.transpose else theirs
        )

    def dtype_of(self, name: str) -> torch.dtype:
        """What a weight is stored in; float32 for what `read` will refuse."""
        return _FLOATS.get(self._files[name].get_slice(name).get_dtype(), torch.float32)


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


def write_weights(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, torch.dtype],
    read: Callable[[str], Tensor],
) -> None:
    """Write a safetensors file of tensors of which only one is in memory at a time.

    read     makes a tensor of that name, of the shape and dtype that were announced
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * dtypes[name].itemsize
        place = {"shape": list(shape), "data_offsets": [at, end]}
        header[name] = {"dtype": _STORED[dtypes[name]], **place}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, shape in shapes.items():
            tensor = read(name).to("cpu", dtypes[name]).contiguous()
            assert tuple(tensor.shape) == shape, name
            file.write(tensor.flatten().view(torch.uint8).numpy().data)


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
        return indexed_files(folder / _INDEX)
    if (folder / _PICKLE).is_file():
        raise CheckpointError(
            f"{folder / _PICKLE} is a pickle, which can run any code when it is loaded. Save the "
            f"model with transformers' save_pretrained, which writes {WEIGHTS}, and load that."
        )
    raise CheckpointError(f"{folder} has no {WEIGHTS}: it is not a model folder, or only a part.")


def indexed_files(index: Path) -> list[Path]:
    """The files that an index names, each a plain name in its own folder."""
    weight_map = read_table(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map: it was damaged.")
    for weight, name in weight_map.items():
        if not _is_file_name(name):
            raise CheckpointError(
                f"{index}: {weight} is said to be in {name!r}, which is no file name."
            )
    return [index.with_name(name) for name in sorted(set(weight_map.values()))]


def _is_file_name(name: Any) -> bool:
    if not isinstance(name, str) or not name.isprintable() or name != Path(name).name:
        return False
    return "\\" not in name and 0 < len(name.encode()) < 256
