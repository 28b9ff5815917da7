"""Nested values with tensors in them, kept exactly and without pickle.

state.json           None, bool, int, float, str and lists as they are; the rest as one-key objects:
                     {"tuple": [...]}, {"dict": [[key, value], ...]}, {"tensor": name},
                     {"float": "nan"}
state.safetensors    the tensors by name
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.base.files import write_json
from scratchlm.checkpoint.weights import read_table

TREE = "state.json"
TENSORS = "state.safetensors"


@dataclass(frozen=True)
class Packed:
    """Values ready to be written: what JSON holds, and the tensors on the CPU."""

    tree: Any
    tensors: dict[str, Tensor]

    @property
    def n_bytes(self) -> int:
        """What the tensors take on disk."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def write(self, folder: Path) -> None:
        """Write both files into a folder that exists."""
        write_json(folder / TREE, {"values": self.tree})
        save_file(self.tensors, folder / TENSORS)


def pack(values: Any) -> Packed:
    """Take apart None, bool, int, float, str, tensors, and lists, tuples and dicts of them.

    raises   TypeError naming the place of anything else: it would come back as something different
    """
    packer = _Packer()
    tree = packer.pack(values, "state")
    return Packed(tree, packer.tensors)


def read_values(folder: Path) -> Any:
    """What `pack` took apart and `write` wrote, equal in every bit; tensors on the CPU.

    raises   CheckpointError naming the file that is missing or damaged
    """
    try:
        with safe_open(folder / TENSORS, framework="pt") as file:
            # Cloned: the file is mapped, and a tensor must outlive it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as bad:
        raise CheckpointError(f"{folder / TENSORS} is not whole ({bad}).") from None
    try:
        return _unpack(read_table(folder / TREE)["values"], tensors)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{folder / TREE} does not hold what scratchlm writes.") from None


class _Packer:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}  # id of each tensor met -> its name
        self._storages: set[int] = set()

    def pack(self, value: Any, place: str) -> Any:
        kind = type(
            value
        )  # exact: numpy's float64 is a float to isinstance, but not when it returns
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Tensor):
            return {"tensor": self._keep(value, place)}
        if kind in (list, tuple):
            items = [self.pack(item, f"{place}/{i}") for i, item in enumerate(value)]
            return items if kind is list else {"tuple": items}
        if isinstance(value, dict):
            return {
                "dict": [
                    [self._key(k, place), self.pack(v, f"{place}/{k}")] for k, v in value.items()
                ]
            }
        raise TypeError(f"{place} is of type {kind.__name__}, which a training state cannot hold")

    def _key(self, key: Any, place: str) -> Any:
        if key is not None and type(key) not in (bool, int, str):
            raise TypeError(f"{place} has the key {key!r}: keys are numbers or text")
        return key

    def _keep(self, tensor: Tensor, place: str) -> str:
        """The name under which a tensor is written; the same one for the same tensor."""
        if id(tensor) not in self._names:
            kept = tensor.detach().cpu().contiguous()
            storage = kept.untyped_storage().data_ptr()
            if storage in self._storages:  # a view of another one: safetensors wants each alone
                kept = kept.clone()
            self._storages.add(storage)
            name = f"{len(self.tensors)}/{place}"
            self._names[id(tensor)] = name
            self.tensors[name] = kept
        return self._names[id(tensor)]


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, inner)] = value.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "tuple":
        return tuple(_unpack(item, tensors) for item in inner)
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in inner}
    if kind == "float":
        return float(inner)
    raise ValueError(kind)
