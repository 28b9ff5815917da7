"""A model as a GGUF file, for llama.cpp and all that is built on it.

Tensors go out one at a time. Norms and biases stay float32, as llama.cpp has them; a matrix whose
rows the blocks of a type do not fill goes as float16.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import gguf
import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import ConfigError
from scratchlm.checkpoint.families import Row
from scratchlm.formats.gguf_names import ARCHITECTURES, Architecture, interleave
from scratchlm.formats.source import Source
from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import frequencies
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.rules import SPACE
from scratchlm.tokenizer.tokenizer import Tokenizer

Type = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
_QUANTS = gguf.GGMLQuantizationType
_FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}  # general.file_type
_BLOCK = 32
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6  # types of tokens


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
    if config.rope_scaling.kind == "dynamic":
        raise ConfigError("llama.cpp does not stretch angles dynamically (rope_scaling.kind).")
    if config.window and config.family != "gemma3_text":
        raise ConfigError(f"llama.cpp has no window in family {config.family}.")
    if config.family == "gemma3_text" and (
        config.global_every not in (0, 6) or config.query_scalar != config.d_head
    ):
        raise ConfigError(
            "llama.cpp takes every sixth layer of a Gemma 3 model for one that sees all tokens, "
            "and divides scores by the root of d_head: this model was made otherwise."
        )
    return ARCHITECTURES[config.family]


def write_gguf(
    source: Source, tokenizer: Tokenizer, path: Path, kind: Type, *, name: str
) -> dict[str, str]:
    """Write a file; returns the type of each tensor.

    source   what is written
    name     of the model, for those who list it
    raises   ConfigError for what GGUF cannot hold, before anything is written
    """
    if kind not in get_args(Type):
        raise ConfigError(f"type {kind!r} is not one of {', '.join(get_args(Type))}.")
    config, architecture = source.config, check_model(source.config)
    vocabulary = token_fields(tokenizer, config.vocab_size)
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
    types = {}
    with torch.device("meta"):
        shapes = _shapes(source, groups)
    for theirs, shape in shapes.items():
        quant = _quant(shape, kind)
        types[theirs] = quant.name
        stored, n_bytes = _stored_shape(shape, quant)
        dtype = np.dtype(np.float32 if quant.name == "F32" else np.uint8)
        writer.add_tensor_info(theirs, stored, dtype, n_bytes, raw_dtype=quant)
    divisors = _divisors(config)
    if divisors is not None:
        writer.add_tensor_info(
            "rope_freqs.weight", divisors.shape, divisors.dtype, divisors.nbytes, _QUANTS.F32
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for theirs, rows in groups.items():
        weight = torch.cat([_theirs(architecture, config, row, source) for row in rows])
        writer.write_tensor_data(gguf.quantize(weight.numpy(), _QUANTS[types[theirs]]))
    if divisors is not None:
        writer.write_tensor_data(divisors)
    writer.close()
    return types


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


def _shapes(source: Source, groups: dict[str, list[Row]]) -> dict[str, tuple[int, ...]]:
    ours = dict(Transformer(source.config).named_parameters(remove_duplicate=False))
    return {
        theirs: (sum(ours[row.ours].shape[0] for row in rows), *ours[rows[0].ours].shape[1:])
        for theirs, rows in groups.items()
    }


def _quant(shape: tuple[int, ...], kind: Type) -> Any:
    if len(shape) == 1:
        return _QUANTS.F32
    if kind.startswith("q") and shape[-1] % _BLOCK:
        return _QUANTS.F16
    return _QUANTS[kind.upper()]


def _stored_shape(shape: tuple[int, ...], quant: Any) -> tuple[tuple[int, ...], int]:
    """What `gguf.quantize` makes of a shape: its own for floats, bytes for blocks."""
    size, n_bytes = gguf.GGML_QUANT_SIZES[quant]
    total = int(np.prod(shape)) // size * n_bytes
    if quant.name == "F32":
        return shape, total
    return (*shape[:-1], shape[-1] // size * n_bytes), total


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


def token_fields(tokenizer: Tokenizer, n_ids: int) -> dict[str, Any]:
    """The fields behind "tokenizer.ggml." of a tokenizer, padded to as many ids as the model has.

    raises   ConfigError for a tokenizer that llama.cpp would read otherwise
    """
    definition = tokenizer.definition
    kind = definition["model"].get("type", "BPE")
    byte_level = "ByteLevel" in str(definition.get("pre_tokenizer"))
    if kind == "BPE" and byte_level:
        fields = _byte_level_fields(tokenizer)
    elif kind == "BPE" and SPACE in str(definition.get("normalizer")):
        fields = _sentencepiece_fields(tokenizer)
    else:
        raise ConfigError(
            f"llama.cpp cannot read a tokenizer of kind {tokenizer.kind}: GGUF holds byte-level "
            "BPE and SentencePiece BPE. Train the model with tokenizer.kind = bpe or "
            "sentencepiece-bpe."
        )
    for role, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        if (i := getattr(tokenizer, f"{role}_id")) is not None:
            fields[f"{theirs}_token_id"] = i
    fields["add_bos_token"] = False  # as here: who writes a prompt decides
    missing = n_ids - len(fields["tokens"])
    fields["tokens"] += [f"[PAD{i}]" for i in range(len(fields["tokens"]), n_ids)]
    fields["token_type"] += [5] * missing  # unused
    if "scores" in fields:
        fields["scores"] += [-1000.0] * missing
    return fields


def _byte_level_fields(tokenizer: Tokenizer) -> dict[str, Any]:
    definition = tokenizer.definition
    pre = tokenizer.facts.get("pre_tokenizer")
    if pre is None:
        raise ConfigError(
            "this tokenizer cuts text in a way that has no name in llama.cpp, which would read it "
            "otherwise. Train one with tokenizer.kind = bpe, or take gpt2."
        )
    tokens, types = _tokens(definition)
    merges = [
        pair if isinstance(pair, str) else " ".join(pair) for pair in definition["model"]["merges"]
    ]
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types, "merges": merges}


def _sentencepiece_fields(tokenizer: Tokenizer) -> dict[str, Any]:
    tokens, types = _tokens(tokenizer.definition)
    types = [
        _BYTE if token.startswith("<0x") and kind == _NORMAL else kind
        for token, kind in zip(tokens, types, strict=True)
    ]
    if tokenizer.unk_id is not None:
        types[tokenizer.unk_id] = _UNKNOWN
    prepends = "Prepend" in str(tokenizer.definition.get("normalizer"))
    return {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "token_type": types,
        "scores": _scores(tokenizer.definition, tokens),
        "add_space_prefix": prepends,
    }


def _scores(definition: dict[str, Any], tokens: list[str]) -> list[float]:
    """SentencePiece merges what has the best score: an earlier merge, a better one."""
    ranks: dict[str, float] = {}
    for n, pair in enumerate(definition["model"]["merges"], 1):
        ranks.setdefault("".join(pair.split(" ") if isinstance(pair, str) else pair), -float(n))
    worst = -float(len(ranks) + 1)
    return [ranks.get(token, worst) for token in tokens]


def _tokens(definition: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Tokens by id, and their types."""
    vocab = dict(definition["model"]["vocab"])
    types = dict.fromkeys(vocab, _NORMAL)
    for token in definition.get("added_tokens") or []:
        vocab[token["content"]] = token["id"]
        types[token["content"]] = _CONTROL if token.get("special") else _USER_DEFINED
    ordered = sorted(vocab, key=vocab.__getitem__)
    return ordered, [types[token] for token in ordered]


def tensors_of(path: Path) -> Iterator[tuple[str, "np.ndarray[Any, Any]"]]:
    """The tensors of a file as the `gguf` package reads them: a second opinion."""
    for tensor in gguf.GGUFReader(path).tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        yield tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
