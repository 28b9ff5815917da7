"""A model as a GGUF file, for llama.cpp and all that is built on it.

Tensors go out one at a time. Norms and biases stay float32, as llama.cpp has them; a matrix whose
rows the blocks of a type do not fill goes as float16.
"""

from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import ConfigError
from scratchlm.base.progress import Progress
from scratchlm.checkpoint.families import Row
from scratchlm.formats.gguf_names import ARCHITECTURES, Architecture, interleave
from scratchlm.formats.proof import ROUNDED
from scratchlm.formats.source import Source, shapes_of
from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import RopeScaling, frequencies

Kind = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
_QUANTS = gguf.GGMLQuantizationType
_FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}  # general.file_type
_BLOCK = 32

# By what share of its length a tensor may change: half a step of the type, over a number's size
_ROUNDING = {"f32": 0.0, "f16": 1e-3, "bf16": 4e-3, "q8_0": 1e-2, "q4_0": 0.15}


def check_model(config: ModelConfig) -> Architecture:
    """The architecture that llama.cpp has for a model.

    raises   ConfigError saying what GGUF cannot hold
    """
    if config.family not in ARCHITECTURES:
        raise ConfigError(
            f"GGUF export of family {config.family} is not supported; there are: "
            f"{', '.join(ARCHITECTURES)}."
        )
    if config.exact_gelu:
        raise ConfigError(
            "llama.cpp computes GPT-2 with GELU in its tanh form, and this model was trained with "
            "the exact one (nanoGPT's): it would say something else."
        )
    if config.window and config.family != "gemma3_text" and config.window < config.max_seq_len:
        raise ConfigError(
            f"llama.cpp has no window in this family, and this model's layers see {config.window} "
            "tokens only (model.window)."
        )
    if config.family == "gemma3_text" and (
        config.global_every not in (0, 6) or config.query_scalar != config.d_head
    ):
        raise ConfigError(
            "llama.cpp takes every sixth layer of a Gemma 3 model for one that sees all tokens, "
            "and divides scores by the root of d_head: this model was made otherwise."
        )
    _check_scaling(config.rope_scaling)
    return ARCHITECTURES[config.family]


def _check_scaling(scaling: RopeScaling) -> None:
    if scaling.kind == "dynamic":
        raise ConfigError("llama.cpp does not stretch angles dynamically (model.rope_scaling).")
    papers = RopeScaling("yarn", scaling.factor, scaling.original_max_seq_len or 1)
    if scaling.kind == "yarn" and scaling != papers:
        raise ConfigError(
            "llama.cpp knows YaRN with the paper's numbers only, and this model has others "
            "(model.rope_scaling)."
        )


def write_gguf(
    source: Source, vocabulary: dict[str, Any], path: Path, kind: Kind, *, name: str
) -> dict[str, str]:
    """Write a file; returns the type of each tensor.

    vocabulary   the tokenizer, by `gguf_tokens.token_fields`
    name         of the model, for those who list it
    raises       ConfigError for what GGUF cannot hold, before anything is written
    """
    config, architecture = source.config, check_model(source.config)
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_type("model")
    writer.add_string("general.name", name)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_sizes(writer, config, architecture)
    for key, value in vocabulary.items():
        _add(writer, f"tokenizer.ggml.{key}", value)
    if source.template:
        writer.add_string("tokenizer.chat_template", source.template)
    groups = _groups(config, architecture)
    shapes = _shapes(config, groups)
    quants = {theirs: _quant(shape, kind) for theirs, shape in shapes.items()}
    for theirs, shape in shapes.items():
        _announce(writer, theirs, shape, quants[theirs])
    divisors = _divisors(config)
    if divisors is not None:
        _announce(writer, "rope_freqs.weight", divisors.shape, _QUANTS.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with Progress("exporting", len(groups), unit="tensors") as shown:
        for done, (theirs, rows) in enumerate(groups.items(), 1):
            weight = torch.cat([_theirs(architecture, config, row, source) for row in rows])
            writer.write_tensor_data(gguf.quantize(weight.numpy(), quants[theirs]))
            shown.update(done)
    if divisors is not None:
        writer.write_tensor_data(divisors)
    writer.close()
    return {theirs: quant.name for theirs, quant in quants.items()}


def _announce(writer: Any, theirs: str, shape: tuple[int, ...], quant: Any) -> None:
    """Put a tensor into the table that stands before all numbers."""
    size, n_bytes = gguf.GGML_QUANT_SIZES[quant]
    total = int(np.prod(shape)) // size * n_bytes
    is_float32 = quant == _QUANTS.F32
    stored = shape if is_float32 else (*shape[:-1], shape[-1] // size * n_bytes)
    dtype = np.dtype(np.float32 if is_float32 else np.uint8)
    writer.add_tensor_info(theirs, stored, dtype, total, raw_dtype=quant)


def _theirs(architecture: Architecture, config: ModelConfig, row: Row, source: Source) -> Tensor:
    """A weight of ours as llama.cpp has it, in float32."""
    weight = source.weights[row.ours]().float()
    if architecture.permuted:
        weight = interleave(config, row.ours, weight)
    return weight + 1.0 if architecture.shifted and weight.ndim == 1 else weight


def _groups(config: ModelConfig, architecture: Architecture) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in architecture.rows:
        if row.tied and config.tie_embeddings:
            continue
        for one in row.numbered(config):
            groups.setdefault(one.theirs, []).append(one)
    return groups


def _shapes(config: ModelConfig, groups: dict[str, list[Row]]) -> dict[str, tuple[int, ...]]:
    ours = shapes_of(config)
    return {
        theirs: (sum(ours[row.ours][0] for row in rows), *ours[rows[0].ours][1:])
        for theirs, rows in groups.items()
    }


def _quant(shape: tuple[int, ...], kind: Kind) -> Any:
    if len(shape) == 1:
        return _QUANTS.F32
    if kind.startswith("q") and shape[-1] % _BLOCK:
        return _QUANTS.F16
    return getattr(_QUANTS, kind.upper())


def _write_sizes(writer: Any, config: ModelConfig, architecture: Architecture) -> None:
    prefix = architecture.name
    for setting in architecture.settings:
        if value := getattr(config, setting.ours):
            _add(writer, f"{prefix}.{setting.theirs}", value)
    writer.add_uint32(f"{prefix}.vocab_size", config.vocab_size)
    if config.parts.position == "rope":
        writer.add_uint32(f"{prefix}.attention.value_length", config.d_head)
        writer.add_uint32(f"{prefix}.rope.dimension_count", config.d_head)
    scaling = config.rope_scaling
    if scaling.kind in ("linear", "yarn"):
        writer.add_string(f"{prefix}.rope.scaling.type", scaling.kind)
        writer.add_float32(f"{prefix}.rope.scaling.factor", scaling.factor)
    if scaling.kind == "yarn":
        writer.add_uint32(
            f"{prefix}.rope.scaling.original_context_length", scaling.original_max_seq_len
        )


def _divisors(config: ModelConfig) -> "np.ndarray[Any, Any] | None":
    """What llama.cpp divides the angles of Llama 3.1 by."""
    if config.rope_scaling.kind != "llama3":
        return None
    plain, _ = frequencies(config.d_head, config.rope_theta)
    slowed, _ = frequencies(config.d_head, config.rope_theta, config.rope_scaling)
    return (plain / slowed).numpy()


def _add(writer: Any, key: str, value: Any) -> None:
    """A field of the type that llama.cpp expects."""
    kinds = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    kinds[type(value)](key, value)


def check_tensors(source: Source, path: Path, kind: Kind) -> tuple[bool, str]:
    """Hold each tensor of a file, as the `gguf` package reads it, against the model's weight.

    Returns whether all are as they should be, and what was found, in words.
    """
    config, architecture = source.config, check_model(source.config)
    groups = _groups(config, architecture)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    worst = 0.0
    for theirs, rows in groups.items():
        weight = torch.cat([_theirs(architecture, config, row, source) for row in rows])
        if theirs not in stored:
            return False, f"{theirs} is missing"
        tensor = stored.pop(theirs)
        found = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        rounded = ROUNDED.get(tensor.tensor_type.name.lower())
        found = found.view(weight.shape)
        if rounded and not torch.equal(found, weight.to(rounded).float()):
            return False, f"{theirs} has other numbers"
        worst = max(worst, float((found - weight).norm() / weight.norm().clamp(min=1e-12)))
    if left := stored.keys() - {"rope_freqs.weight"}:
        return False, f"{', '.join(sorted(left))} should not be there"
    allowed = _ROUNDING[kind]
    return worst <= allowed, f"differ by {worst:.1e} at most ({allowed:.0e} allowed)"
