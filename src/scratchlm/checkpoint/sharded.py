"""Tensors of which each process has a part (DTensors): saved by all, read by any number.

    state.shards/shard-00001-model-00001-of-00001.safetensors    the parts of the first process
                 shard-00002-...                                 of the second

PyTorch's distributed checkpoint writes and reads them. Its own format is a pickle, so the
safetensors one is used, each process writing its own parts (`save_distributed`): without that, and
with consolidation, PyTorch silently wrote half of each tensor.
"""

import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scratchlm.base.errors import CheckpointError
from scratchlm.model.transformer import Transformer

SHARDS = "state.shards"
_SHARD = "shard"  # {"shard": name} stands in the training state where a sharded tensor was


class HasGroups(Protocol):
    """An optimizer, as far as it is asked here: groups of weights."""

    param_groups: list[dict[str, Any]]


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its parts, on every process; any other as it is.

    All processes must call it alike. It asks by name: importing DTensor takes long.
    """
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def cut_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, equal on every process, cut into parts as `like` is; nothing is sent."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    own = tensor.to(like.device)
    return distribute_tensor(own, like.device_mesh, like.placements, src_data_rank=None)


def whole_model(model: Transformer, *, keep: bool) -> Transformer:
    """The model with its weights put together on the CPU; the model itself if they are whole.

    keep     False: this process only helps, and gets a model without numbers
    """
    if not any(hasattr(weight, "full_tensor") for weight in model.parameters()):
        return model
    model.reshard()  # type: ignore[operator]  # an evaluation leaves some weights put together

    def gathered() -> Iterator[tuple[str, Tensor]]:
        for name, weight in model.named_parameters():
            together = whole(weight.detach())  # one at a time: not the whole model on every device
            if keep:
                yield name, together.cpu()

    return model_of(model, gathered())


def model_of(like: Transformer, weights: Iterable[tuple[str, Tensor]]) -> Transformer:
    """A model like this one of these tensors, by the names of its parameters; others stay bare."""
    result = like.bare()
    for name, weight in weights:
        owner, _, own_name = name.rpartition(".")
        setattr(result.get_submodule(owner), own_name, nn.Parameter(weight))
    if like.config.tie_embeddings:
        result.head.weight = result.embedding.weight
    return result


def part_with_shards(state: Any, at: str = "") -> tuple[Any, dict[str, Tensor]]:
    """A training state without its sharded tensors, and these by the names that took their place.

    state    nested dicts, lists and tuples
    """
    if hasattr(state, "full_tensor"):
        return {_SHARD: at}, {at: state}
    if not isinstance(state, (dict, list)):
        return state, {}
    shards: dict[str, Tensor] = {}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    kept = {}
    for key, value in items:
        kept[key], inner = part_with_shards(value, f"{at}.{key}" if at else str(key))
        shards |= inner
    return kept if isinstance(state, dict) else list(kept.values()), shards


def write_shards(shards: dict[str, Tensor], folder: Path, group: Any) -> None:
    """Write sharded tensors into a new folder, which all processes see; called on all of them.

    group    the processes, which talk about it through their CPUs
    raises   CheckpointError when the disk is full or fails, on all of them
    """
    import torch.distributed.checkpoint as dcp

    if dist.get_rank(group) == 0:
        shutil.rmtree(folder, ignore_errors=True)
    dist.barrier(group)
    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(shards, storage_writer=writer, process_group=group)
    except dcp.api.CheckpointException as bad:
        raise CheckpointError(
            f"the shards of a checkpoint could not be written to {folder}: {_first(bad)}. Earlier "
            "checkpoints are untouched: make room, and the same command goes on."
        ) from None


def fill_shards(
    states: list[dict[str, Any]],
    optimizers: Sequence[HasGroups],
    folder: Path,
    group: Any,
) -> None:
    """Give saved states of optimizers their tensors back, cut as the weights now are, in place.

    states   `state_dict` of each optimizer, as they were saved: with whole tensors, or with the
             names that `part_with_shards` left of others
    folder   where `write_shards` wrote, if it did
    group    the processes; None alone
    raises   CheckpointError for files that do not hold what the states name
    """
    wanted: dict[str, Tensor] = {}
    for state, optimizer in zip(states, optimizers, strict=True):
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for i, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, dict):
                    entries[key] = wanted[value[_SHARD]] = torch.empty_like(weights[i])
                elif value.shape == weights[i].shape:
                    entries[key] = cut_like(value, weights[i])
    if wanted:
        _read(wanted, folder, group)


def _read(wanted: dict[str, Tensor], folder: Path, group: Any) -> None:
    import torch.distributed.checkpoint as dcp

    reader = dcp.HuggingFaceStorageReader(str(folder))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # yes: one process
            dcp.load(wanted, storage_reader=reader, process_group=group, no_dist=group is None)
    except dcp.api.CheckpointException as bad:
        raise CheckpointError(
            f"{folder} does not hold the training state: {_first(bad)}."
        ) from None


def _first(bad: Any) -> str:
    """What went wrong on the first process that failed."""
    error, _ = next(iter(bad.failures.values()))
    return f"{type(error).__name__}: {error}"
