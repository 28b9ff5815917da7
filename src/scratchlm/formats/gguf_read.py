"""GGUF files as sources: llama.cpp's names and orders turned into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.names import read_setting
from scratchlm.checkpoint.rope_names import is_positive
from scratchlm.formats.gguf_file import GGUF, open_gguf
from scratchlm.formats.gguf_names import ARCHITECTURES, Architecture, changes
from scratchlm.formats.gguf_tokenizer import read_tokenizer
from scratchlm.formats.source import Source, by_rows
from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import RopeScaling, frequencies

_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}
LOCAL_THETA = 10_000.0  # of Gemma 3's local layers: llama.cpp knows it by heart
GLOBAL_EVERY = 6  # likewise
_LLAMA3_FACTORS = (8.0, 32.0)  # of Llama 3.1 and 3.2; a file holds what they come to
_TRAINED = 8192  # tokens, in both


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a .gguf file as a source, whose weights can be read while it is open.

    raises   CheckpointError for a damaged file, and for a model that we do not compute
    """
    with open_gguf(path) as file:
        yield _source(file)


def _source(file: GGUF) -> Source:
    fields, where = file.fields, file.where
    family, architecture = _architecture(fields, where)
    config = _config(file, family, architecture)
    template = fields.get("tokenizer.chat_template")
    kinds = dict.fromkeys(info.quant for info in file.tensors.values() if len(info.shape) > 1)
    return Source(
        format="GGUF",
        config=config,
        weights=by_rows(
            config,
            [row for row in architecture.rows if not (row.tied and config.tie_embeddings)],
            _Tensors(file),
            where,
            change=changes(architecture, config),
            unused=(*architecture.unused, "output.weight"),
        ),
        stored=" and ".join(kinds),
        dtype=_DTYPES.get(" ".join(kinds), torch.float32),
        n_bytes=sum(info.n_bytes for info in file.tensors.values()),
        tokenizer=partial(read_tokenizer, fields, where),
        template=template if isinstance(template, str) else None,
        facts={
            name: fields[key]
            for name in ("name", "license", "organization", "source.url", "basename")
            if isinstance(fields.get(key := f"general.{name}"), str)
        },
    )


class _Tensors:
    """A file's tensors, as `by_rows` asks for them."""

    def __init__(self, file: GGUF) -> None:
        self._file = file

    @property
    def names(self) -> list[str]:
        return list(self._file.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file.tensors[name].shape

    def read(self, name: str) -> Tensor:
        return self._file.read(name)


def _architecture(fields: dict[str, Any], where: str) -> tuple[str, Architecture]:
    name = fields.get("general.architecture")
    for family, architecture in ARCHITECTURES.items():
        if architecture.name == name:
            return family, architecture
    known = ", ".join(one.name for one in ARCHITECTURES.values())
    raise CheckpointError(
        f"{where}: general.architecture = {name!r} is not supported. There are: {known}."
    )


def _config(file: GGUF, family: str, architecture: Architecture) -> ModelConfig:
    fields, where, name = file.fields, file.where, architecture.name
    if fields.get(f"{name}.expert_count"):
        raise CheckpointError(
            f"{where} is a mixture of experts, which is not read from GGUF. Import its Hugging "
            "Face folder."
        )
    if "token_embd.weight" not in file.tensors:
        raise CheckpointError(f"{where} has no token_embd.weight: it holds no model.")
    sizes = {
        setting.ours: read_setting(
            replace(setting, theirs=f"{name}.{setting.theirs}"), fields, where
        )
        for setting in architecture.settings
    }
    sizes["vocab_size"] = file.tensors["token_embd.weight"].shape[0]
    sizes["tie_embeddings"] = _is_tied(file)
    if family == "gemma3_text":
        sizes |= {"global_every": GLOBAL_EVERY, "local_rope_theta": LOCAL_THETA}
    try:
        config = ModelConfig(family=family, **sizes).resolved()  # type: ignore[arg-type]
        return replace(config, rope_scaling=_scaling(file, config, name))
    except ConfigError as bad:
        raise CheckpointError(f"{where} describes an impossible model: {bad}") from None


def _is_tied(file: GGUF) -> bool:
    """Whether there is no head of its own; older tools wrote the embedding twice."""
    if "output.weight" not in file.tensors:
        return True
    return file.is_same("output.weight", "token_embd.weight")


def _scaling(file: GGUF, config: ModelConfig, name: str) -> RopeScaling:
    fields, where = file.fields, file.where
    kind = fields.get(f"{name}.rope.scaling.type", "none")
    factor = fields.get(f"{name}.rope.scaling.factor", 1.0)
    trained = fields.get(f"{name}.rope.scaling.original_context_length", config.max_seq_len)
    if "rope_freqs.weight" in file.tensors:
        return _llama3(file, config)
    if kind == "none" or factor == 1.0:
        return RopeScaling()
    if kind not in ("linear", "yarn") or not (is_positive(factor) and is_positive(trained)):
        raise CheckpointError(f"{where}: {name}.rope.scaling.type = {kind!r} is not supported.")
    return RopeScaling(kind, factor, int(trained))


def _llama3(file: GGUF, config: ModelConfig) -> RopeScaling:
    """The scaling whose divisors the file holds."""
    plain, _ = frequencies(config.d_head, config.rope_theta)
    divisors = file.read("rope_freqs.weight").float().flatten()
    for factor in _LLAMA3_FACTORS:
        scaling = RopeScaling("llama3", factor, _TRAINED)
        ours, _ = frequencies(config.d_head, config.rope_theta, scaling)
        if ours.shape == divisors.shape and torch.allclose(plain / ours, divisors, rtol=1e-4):
            return scaling
    raise CheckpointError(
        f"{file.where}: rope_freqs.weight holds other angles than those of Llama 3.1 and 3.2, "
        "which are not supported."
    )
