"""A model in someone else's format, opened: what it is, and its weights one at a time.

Every reader makes a `Source`, and whoever imports, inspects or proves reads nothing but that.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.families import Row
from scratchlm.checkpoint.names import listed
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer


class Stored(Protocol):
    """Tensors that lie in files."""

    @property
    def names(self) -> Collection[str]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def read(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class Source:
    """What an opened file or folder holds.

    format     in words: "GGUF", "llama2.c"
    config     the shape of the model
    weights    our parameter's name -> reads it, in whatever dtype it is stored in; a tied head is
               left out
    stored     how it is stored, in words: "Q4_K and Q6_K", "float32"
    dtype      the one that holds it without loss
    n_bytes    of the weights, as they are stored
    tokenizer  makes it, or says what is wrong with it; None where there is none
    template   of chats (Jinja)
    facts      where it came from, as far as the files tell
    """

    format: str
    config: ModelConfig
    weights: Mapping[str, Callable[[], Tensor]]
    stored: str
    dtype: torch.dtype
    n_bytes: int
    tokenizer: Callable[[], Tokenizer] | None = None
    template: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def by_rows(
    config: ModelConfig,
    rows: Collection[Row],
    stored: Stored,
    where: str,
    *,
    change: Callable[[str, Tensor], Tensor] | None = None,
    unused: Collection[str] = (),
) -> dict[str, Callable[[], Tensor]]:
    """`Source.weights` by a table of names, once names and shapes have been held against the model.

    rows     of the whole family, "{i}" and "{e}" standing for layer and expert
    change   what a format does to a weight, undone: (name of ours, tensor) -> tensor
    unused   names that hold no parameter
    raises   CheckpointError listing what is missing, what nothing takes, and what has another shape
    """
    if config.n_layers > len(stored.names):  # before a model of so many is made
        raise CheckpointError(
            f"{where} holds {len(stored.names)} weights, too few for {config.n_layers} layers."
        )
    shapes = shapes_of(config)
    filled = {row.ours: row for row in _numbered(config, rows) if row.ours in shapes}
    present = set(stored.names)
    missing = sorted(
        f"{name} (their {filled[name].theirs})" if name in filled else name
        for name in shapes
        if name not in filled or filled[name].theirs not in present
    )
    taken = {row.theirs for row in _numbered(config, rows)}  # of a tied head too
    foreign = sorted(present - taken - set(unused))
    if missing or foreign:
        raise CheckpointError(
            f"{where} does not hold a whole {config.family} model. Weights that no parameter "
            f"takes: {listed(foreign)}. Parameters without a weight: {listed(missing)}."
        )
    for name, row in filled.items():
        found = row.shape_of(stored.shape(row.theirs))
        if found != shapes[name]:
            raise CheckpointError(
                f"{where}: {row.theirs} gives {name} the shape {found}, and the model's sizes ask "
                f"for {shapes[name]}: one of the two was damaged."
            )

    def reader(row: Row) -> Callable[[], Tensor]:
        def read() -> Tensor:
            theirs = stored.read(row.theirs)
            ours = theirs.T if row.transpose else theirs
            if row.parts > 1:
                ours = ours.chunk(row.parts)[row.part]
            return change(row.ours, ours) if change else ours

        return read

    return {name: reader(filled[name]) for name in shapes}


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter; a tied head is left out."""
    with torch.device("meta"):
        model = Transformer(config)
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def model_of(source: Source) -> Transformer:
    """The model itself, in float32 and evaluation mode. Memory: the model and one tensor."""
    with torch.device("meta"):
        model = Transformer(source.config)
    state = {name: read().float().contiguous() for name, read in source.weights.items()}
    if source.config.tie_embeddings:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state, assign=True)
    if source.config.tie_embeddings:  # assigning gave each name a parameter of its own
        model.head.weight = model.embedding.weight
    return model.requires_grad_(False).eval()


def _numbered(config: ModelConfig, rows: Collection[Row]) -> Iterator[Row]:
    for row in rows:
        yield from row.numbered(config)
