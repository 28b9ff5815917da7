"""Open a model folder: the model, its tokenizer and what they write, in one object."""

import functools
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from scratchlm.base.device import choose_device
from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import surviving
from scratchlm.base.log import say
from scratchlm.checkpoint.adapter import (
    is_adapter,
    load_adapter,
    read_adapter_config,
    whole_shapes,
)
from scratchlm.checkpoint.adapter_base import describe_base
from scratchlm.checkpoint.folder import CONFIG, load_model, load_tokenizer
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.generation.cpu import lay_out_for_decoding
from scratchlm.generation.engine import Engine
from scratchlm.generation.prompt import encode_prompt
from scratchlm.generation.sampling import sampling_of
from scratchlm.generation.sequence import Request, Token
from scratchlm.model.lora import remove_adapters
from scratchlm.model.resize import resize_vocabulary
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.chat_file import read_template
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer


class LanguageModel:
    """A model that writes.

    model       a torch module in evaluation mode: model(tokens) are the logits, (B, T, V)
    tokenizer   None if it was not asked for
    folder      where it was loaded from, if from anywhere
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer | None, folder: Path | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.folder = folder

    @functools.cached_property
    def engine(self) -> Engine:
        """What continues texts; it remembers the newest one, so that going on from it is quick."""
        return Engine(self.model, self.tokenizer)

    def generate(self, text: str = "", *, window: bool = False, **settings: Any) -> str:
        """The continuation of a text, without the text.

        text       "" starts a new text
        window     use the last part of a text that is longer than the context
        settings   max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop:
                   the fields of `Sampling`, which has their meaning and defaults
        raises     ConfigError for an unknown or impossible setting, or a text too long
        """
        return "".join(token.text for token in self.stream(text, window=window, **settings))

    def stream(self, text: str = "", *, window: bool = False, **settings: Any) -> Generator[Token]:
        """`generate` token by token: the texts of all tokens, joined, are the continuation."""
        request = Request(self.prompt_ids(text), sampling_of(settings), window=window)
        return self.engine.stream(request)

    def prompt_ids(self, text: str) -> list[int]:
        """The ids that a continuation of the text starts from."""
        return encode_prompt(self.required_tokenizer, text)

    @functools.cached_property
    def template(self) -> ChatTemplate | None:
        """How conversations are written for this model; None where it has learned none."""
        source = read_template(self.folder) if self.folder else None
        return ChatTemplate(source, self.required_tokenizer) if source else None

    @property
    def required_tokenizer(self) -> Tokenizer:
        """The tokenizer, for what cannot be done without one."""
        if self.tokenizer is None:
            raise ConfigError(
                "this model was loaded with tokenizer = False, so it has no text. Load it with its "
                "tokenizer, or give ids to `engine.stream`."
            )
        return self.tokenizer


def load(
    folder: Path | str,
    *,
    tokenizer: bool = True,
    device: str | None = None,
    dtype: str | None = None,
) -> LanguageModel:
    """Open a model folder (ours, or any Hugging Face folder of a family we know), or a run.

    folder      of a model; or of a run: its model, else its best, else its newest checkpoint
    tokenizer   False opens a folder that has none
    device      "cpu", "cuda", "cuda:1", "mps"; None chooses and says why
    dtype       "float32", "bfloat16" or "float16"; None: as the weights are stored
    raises      CheckpointError for a folder that is no model, or a damaged one
    """
    place = find_model(Path(folder))
    where, reason = choose_device(device)
    model = load_weights(place, device=where, dtype=dtype)
    lay_out_for_decoding(model)
    words = _tokenizer(place, model) if tokenizer else None
    say(f"{place}: {model.n_parameters():,} parameters, on {where} ({reason}).")
    return LanguageModel(model, words, place)


def load_weights(
    place: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None
) -> Transformer:
    """The model of a folder, or that of an adapter with its base, merged.

    raises   CheckpointError as `load_model`, and for an adapter whose base is not where it was
    """
    if not is_adapter(place):
        return load_model(place, device=device, dtype=dtype)
    base = base_of(place)
    model = load_model(base, device=device, dtype=dtype)
    described = describe_base(model, base)
    table = whole_shapes(place, model).get("embedding.weight")
    if table:
        resize_vocabulary(model, table[0])
    load_adapter(model, place, base=described)
    remove_adapters(model, merge=True)
    say(f"{place} is an adapter: put into its base, {base}.")
    return model


def base_of(adapter: Path) -> Path:
    """The model folder that an adapter was trained on: where it was, or beside the adapter.

    raises   CheckpointError when it is gone
    """
    facts = read_adapter_config(adapter)
    if facts.classes:
        raise CheckpointError(
            f"{adapter} is the adapter of a classifier, which writes no text: the model folder "
            "beside it has it in its weights, and scratchlm classify uses that."
        )
    name = facts.base_name
    for place in (Path(name), adapter / name):
        if name and (place / CONFIG).is_file():
            return place
    raise CheckpointError(
        f"{adapter} is an adapter of {name or 'a base that it does not name'}, which is not there. "
        "Put its base where it was, or set base_model_name_or_path in adapter_config.json."
    )


def _tokenizer(place: Path, model: Transformer) -> Tokenizer:
    if not (place / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{place} has no tokenizer.json, so no text can be made with it. Put it there, or "
            "import the model once more with --tokenizer."
        )
    return load_tokenizer(place, model.config)


def find_model(folder: Path) -> Path:
    """The model folder that a path means: itself, or the one of a run."""
    folder = surviving(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        cure = "; scratchlm import makes one of another program's file" * folder.exists()
        raise CheckpointError(f"{folder} {what}. Give the folder of a model or of a run{cure}.")
    for place in (folder, surviving(folder / "model")):
        if (place / CONFIG).is_file() or is_adapter(place):
            return place
    store = CheckpointStore(folder)
    if checkpoint := store.best() or store.newest():
        say(f"{folder} has no finished model yet: taking its checkpoint {checkpoint.name}.")
        return checkpoint
    raise CheckpointError(
        f"{folder} is not a model: it has no {CONFIG}. A model folder holds {CONFIG}, "
        "model.safetensors and tokenizer.json; a run folder holds model/ or checkpoints/."
    )
