"""A model is an ordinary Hugging Face folder: what we save, `transformers` loads, and the reverse.

    config.json              the sizes, in the words of the family (`checkpoint/names.py`)
    model.safetensors        the weights; several files with an index are read too
    tokenizer.json ...       the tokenizer, where there is one
    generation_config.json   which tokens begin and end a text; several that end one, as a list
    manifest.json            ours: sizes and SHA-256 of the others, written last

Nothing here is a pickle, and a file that lies about its size costs an error, not memory.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.base.files import (
    MANIFEST,
    read_manifest,
    replace_folder,
    write_json,
    write_manifest,
)
from scratchlm.base.log import warn
from scratchlm.checkpoint.classes import SCORE, class_fields, read_classes
from scratchlm.checkpoint.names import Row, match_weights, read_config, weight_rows, write_config
from scratchlm.checkpoint.weights import WEIGHTS, Weights, open_weights, read_table
from scratchlm.model.classifier import Classifier, Pooling
from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import holds_whole_weights
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer

FORMAT = "scratchlm model"
VERSION = 1
CONFIG = "config.json"
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def save_model(
    folder: Path,
    model: Transformer,
    tokenizer: Tokenizer | None,
    *,
    dtype: torch.dtype | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write a model folder, whole or not at all; an older one of that name is replaced.

    dtype    what the weights are stored in; None: as they are
    facts    kept in the manifest: anything JSON can hold
    raises   CheckpointError when the tokenizer has more tokens than the model
    """

    def fill(partial: Path) -> None:
        write_model_files(partial, model, tokenizer, dtype=dtype)
        write_manifest(partial, FORMAT, VERSION, **(facts or {}))

    replace_folder(folder, fill)


def write_model_files(
    folder: Path,
    model: Transformer,
    tokenizer: Tokenizer | None,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the files of a model folder, all but the manifest, into a folder that exists."""
    dtype = dtype or model.embedding.weight.dtype
    classes = class_fields(model) if isinstance(model, Classifier) else {}
    if classes and tokenizer and tokenizer.pad_id is None:  # transformers reads the token before it
        classes["pad_token_id"] = tokenizer.eos_id
    write_description(folder, model.config, tokenizer, dtype, classes)
    save_file(_their_weights(model, dtype), folder / WEIGHTS, metadata={"format": "pt"})


def write_description(
    folder: Path,
    config: ModelConfig,
    tokenizer: Tokenizer | None,
    dtype: torch.dtype,
    more: dict[str, Any] | None = None,
) -> None:
    """Write the files of a model folder that are no weights.

    dtype    what the weights are stored in
    more     further fields of config.json
    raises   CheckpointError when the tokenizer has more tokens than the model
    """
    if tokenizer is not None:
        check_vocabulary(tokenizer, config)
        tokenizer.save(folder)
    special = {  # null said aloud: to transformers an absent id means its class's default
        f"{role}_token_id": getattr(tokenizer, f"{role}_id", None) for role in ("bos", "eos", "pad")
    }
    stored = str(dtype).removeprefix("torch.")
    names = {"dtype": stored, "torch_dtype": stored}  # the second for transformers before 4.56
    write_json(folder / CONFIG, {**write_config(config), **special, **names, **(more or {})})
    ends = {"eos_token_id": _ends(tokenizer)}
    write_json(folder / "generation_config.json", {**special, **ends})


def _ends(tokenizer: Tokenizer | None) -> int | list[int] | None:
    """What ends a text: the end token, and what ends an answer where that is another one."""
    ends = [] if tokenizer is None or tokenizer.eos_id is None else [tokenizer.eos_id]
    if tokenizer is not None and tokenizer.chat_template:
        try:
            ends += ChatTemplate(tokenizer.chat_template, tokenizer).answer_end()
        except CheckpointError as bad:  # a model is more than its chat template
            warn(f"{bad} The model can be used, but not for chats.")
    ends = list(dict.fromkeys(ends))
    return ends if len(ends) > 1 else next(iter(ends), None)


def read_model_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder, from its config.json; dropout is 0.

    raises   CheckpointError when it is not a model folder or not a model that we compute
    """
    return read_config(read_table(folder / CONFIG), str(folder / CONFIG))


def load_model(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
) -> Transformer:
    """Load a model folder, ours or one from the Hugging Face hub, in evaluation mode, dropout 0.

    dtype    of the weights in memory: float32, bfloat16, float16; None: what config.json says, or
             failing that what the embedding is stored in
    verify   hold the files against the manifest, where there is one, before they are read
    raises   CheckpointError for files that are missing, damaged, or do not fit together

    Memory: the model and one tensor. Time: checking SHA-256 takes about 0.6 s per GB.
    """
    folder = Path(folder)
    if classes := read_classes(read_table(folder / CONFIG), str(folder / CONFIG)):
        raise CheckpointError(
            f"{folder} is a classifier ({', '.join(classes[0][:8])}), which writes no text: "
            "scratchlm classify uses it."
        )
    return _load(folder, device, dtype, verify)


def is_classifier(folder: Path) -> bool:
    """Whether a folder holds a model whose head says classes, or its configuration."""
    path = folder / CONFIG
    return path.is_file() and read_classes(read_table(path), str(path)) is not None


def load_classifier(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
) -> Classifier:
    """Load a model folder whose head says classes, as `load_model` does a language model.

    raises   CheckpointError as there, and for a language model
    """
    folder = Path(folder)
    if not read_classes(read_table(folder / CONFIG), str(folder / CONFIG)):
        raise CheckpointError(
            f"{folder} is a language model, which knows no classes: scratchlm finetune classify "
            "makes a classifier of it."
        )
    model = _load(folder, device, dtype, verify)
    assert isinstance(model, Classifier)
    return model


def _load(
    folder: Path, device: torch.device | str, dtype: torch.dtype | str | None, verify: bool
) -> Transformer:
    values = read_table(folder / CONFIG)
    config = read_config(values, str(folder / CONFIG))
    classes = read_classes(values, str(folder / CONFIG))
    if classes:
        config = dataclasses.replace(config, tie_embeddings=False)
    if verify and (folder / MANIFEST).is_file():
        read_manifest(folder, FORMAT, VERSION)
    with open_weights(folder) as weights:
        rows = match_weights(config, weights.names, str(folder), SCORE if classes else "")
        model = _without_memory(config, classes)
        _check_shapes(model, rows, weights)
        chosen = _dtype(dtype or values.get("dtype") or values.get("torch_dtype"), rows, weights)
        state = {row.ours: weights.read_row(row, device, chosen) for row in rows}
    if config.tie_embeddings:
        head = state.setdefault("head.weight", state["embedding.weight"])
        if not torch.equal(head, state["embedding.weight"]):
            raise CheckpointError(
                f"{folder} ties the head to the embedding (tie_word_embeddings) but stores another "
                "head: set tie_word_embeddings to false in config.json if that head is meant."
            )
    model.load_state_dict(state, assign=True)
    if config.tie_embeddings:  # assigning gave each name a parameter of its own
        model.head.weight = model.embedding.weight
    return model.to(device).eval()


def load_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a model folder.

    raises   CheckpointError when there is none, it is damaged, or has more tokens than the model
    """
    tokenizer = Tokenizer.load(folder)
    check_vocabulary(tokenizer, config)
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Refuse a tokenizer with more tokens than the model; fewer are fine (a padded embedding)."""
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only "
            f"{config.vocab_size} (model.vocab_size): they do not belong together."
        )


def _their_weights(model: Transformer, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights under their names, on the CPU; copies only where a rule or dtype asks for one."""
    if not holds_whole_weights(model):
        raise CheckpointError(
            "the model has adapters beside its weights, or weights in 4 bits, which a model folder "
            "does not hold: save_adapter saves them, remove_adapters(model, merge=True) puts them "
            "into the weights."
        )
    ours = dict(model.named_parameters(remove_duplicate=False))
    pieces: dict[str, list[Tensor]] = {}
    transposed = set()
    for row in weight_rows(model.config):
        name = SCORE if row.tied and isinstance(model, Classifier) else row.theirs
        pieces.setdefault(name, []).append(ours[row.ours].detach().to("cpu", dtype))
        if row.transpose:
            transposed.add(row.theirs)
    theirs = {name: torch.cat(p) if len(p) > 1 else p[0] for name, p in pieces.items()}
    return {n: (w.T if n in transposed else w).contiguous() for n, w in theirs.items()}


def _without_memory(
    config: ModelConfig, classes: tuple[tuple[str, ...], Pooling] | None
) -> Transformer:
    """A model whose parameters have shapes but no numbers yet."""
    with torch.device("meta"):
        return Classifier(config, *classes) if classes else Transformer(config)


def _check_shapes(model: Transformer, rows: list[Row], weights: Weights) -> None:
    """Hold every weight's shape against the model's before any memory is taken."""
    ours = dict(model.named_parameters(remove_duplicate=False))
    for row in rows:
        expected, found = tuple(ours[row.ours].shape), weights.shape_of(row)
        if expected != found:
            raise CheckpointError(
                f"{weights.where}: {row.theirs} gives {row.ours} the shape {found} where "
                f"config.json asks for {expected}: one of the two was damaged or belongs elsewhere."
            )


def _dtype(chosen: Any, rows: list[Row], weights: Weights) -> torch.dtype:
    """`chosen` as a dtype; where nothing was said, what the embedding is stored in."""
    if chosen is None:
        return weights.dtype_of(next(r.theirs for r in rows if r.ours == "embedding.weight"))
    name = str(chosen).removeprefix("torch.")
    if name not in DTYPES:
        raise CheckpointError(
            f"{weights.where}: dtype = {chosen!r} is not one of {', '.join(DTYPES)}."
        )
    return DTYPES[name]
