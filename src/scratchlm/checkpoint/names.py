"""The one table of foreign names: what each family's weights and sizes are called on the hub.

    config.json   <->  ModelConfig          `read_config`, `write_config`
    weight names  <->  our parameter names  `weight_rows`, `match_weights`

A family is data: rows that name a weight here and there, with three rules between the two
(transpose, i-th of n, tied), settings that name a field here and there, and the fields of theirs
whose value we rely on. What stands in none of these lists is refused, never ignored.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.model.config import ModelConfig


@dataclass(frozen=True)
class Row:
    """One weight: its name here and there, and how the two differ.

    "{i}" in a name stands for the layer.
    """

    ours: str
    theirs: str
    transpose: bool = False  # theirs is (inputs, outputs), ours (outputs, inputs)
    part: int = 0  # ours is piece `part` ...
    parts: int = 1  # ... of that many equal pieces of theirs, along the outputs
    tied: bool = False  # left out when the head is the embedding


REQUIRED = object()


@dataclass(frozen=True)
class Setting:
    """One field of `ModelConfig` and its name in config.json."""

    ours: str
    theirs: str
    default: Any = REQUIRED  # what transformers takes when config.json is silent


@dataclass(frozen=True)
class Names:
    """All that is known about a family's files."""

    architecture: str  # the class in transformers
    prefix: str  # of weight names; absent from files that were saved without the head
    rows: tuple[Row, ...]
    settings: tuple[Setting, ...]
    fixed: dict[str, tuple[Any, ...]]  # what we compute; the first value is the one we write
    rope: bool = False
    dropouts: tuple[str, ...] = ()  # fields that take `ModelConfig.dropout`
    no_dropouts: tuple[str, ...] = ()  # fields that we write as 0: theirs drops less than ours
    harmless: frozenset[str] = frozenset()  # fields that change no logits


def _affine(ours: str, theirs: str) -> tuple[Row, Row]:
    return Row(f"{ours}.weight", f"{theirs}.weight"), Row(f"{ours}.bias", f"{theirs}.bias")


def _conv1d(ours: str, theirs: str, part: int = 0, parts: int = 1) -> tuple[Row, Row]:
    """GPT-2's linear layer, which OpenAI kept as (inputs, outputs)."""
    return (
        Row(f"{ours}.weight", f"{theirs}.weight", transpose=True, part=part, parts=parts),
        Row(f"{ours}.bias", f"{theirs}.bias", part=part, parts=parts),
    )


_GPT2_HARMLESS = frozenset({
    "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj",
})  # fmt: skip

_GPT2 = Names(
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    rows=(
        Row("embedding.weight", "transformer.wte.weight"),
        Row("positions.weight", "transformer.wpe.weight"),
        *_affine("blocks.{i}.attention_norm", "transformer.h.{i}.ln_1"),
        *_conv1d("blocks.{i}.attention.q", "transformer.h.{i}.attn.c_attn", 0, 3),
        *_conv1d("blocks.{i}.attention.k", "transformer.h.{i}.attn.c_attn", 1, 3),
        *_conv1d("blocks.{i}.attention.v", "transformer.h.{i}.attn.c_attn", 2, 3),
        *_conv1d("blocks.{i}.attention.out", "transformer.h.{i}.attn.c_proj"),
        *_affine("blocks.{i}.ffn_norm", "transformer.h.{i}.ln_2"),
        *_conv1d("blocks.{i}.ffn.up", "transformer.h.{i}.mlp.c_fc"),
        *_conv1d("blocks.{i}.ffn.down", "transformer.h.{i}.mlp.c_proj"),
        *_affine("norm", "transformer.ln_f"),
        Row("head.weight", "lm_head.weight", tied=True),
    ),
    settings=(
        Setting("vocab_size", "vocab_size"),
        Setting("max_seq_len", "n_positions"),
        Setting("n_layers", "n_layer"),
        Setting("d_model", "n_embd"),
        Setting("n_heads", "n_head"),
        Setting("d_ff", "n_inner", None),
        Setting("norm_eps", "layer_norm_epsilon", 1e-5),
        Setting("tie_embeddings", "tie_word_embeddings", True),
    ),
    fixed={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    harmless=_GPT2_HARMLESS,
)


def _llama_settings(max_seq_len: int, d_head: int | None) -> tuple[Setting, ...]:
    """Llama's fields and those of its kin, which differ in what absent ones mean."""
    return (
        Setting("vocab_size", "vocab_size"),
        Setting("max_seq_len", "max_position_embeddings", max_seq_len),
        Setting("n_layers", "num_hidden_layers"),
        Setting("d_model", "hidden_size"),
        Setting("n_heads", "num_attention_heads"),
        Setting("n_kv_heads", "num_key_value_heads", None),
        Setting("d_head", "head_dim", d_head),
        Setting("d_ff", "intermediate_size"),
        Setting("norm_eps", "rms_norm_eps", 1e-6),
        Setting("tie_embeddings", "tie_word_embeddings", False),
    )


_LLAMA = Names(
    architecture="LlamaForCausalLM",
    prefix="model.",
    rows=(
        Row("embedding.weight", "model.embed_tokens.weight"),
        Row("blocks.{i}.attention_norm.weight", "model.layers.{i}.input_layernorm.weight"),
        Row("blocks.{i}.attention.q.weight", "model.layers.{i}.self_attn.q_proj.weight"),
        Row("blocks.{i}.attention.k.weight", "model.layers.{i}.self_attn.k_proj.weight"),
        Row("blocks.{i}.attention.v.weight", "model.layers.{i}.self_attn.v_proj.weight"),
        Row("blocks.{i}.attention.out.weight", "model.layers.{i}.self_attn.o_proj.weight"),
        Row("blocks.{i}.ffn_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"),
        Row("blocks.{i}.ffn.gate.weight", "model.layers.{i}.mlp.gate_proj.weight"),
        Row("blocks.{i}.ffn.up.weight", "model.layers.{i}.mlp.up_proj.weight"),
        Row("blocks.{i}.ffn.down.weight", "model.layers.{i}.mlp.down_proj.weight"),
        Row("norm.weight", "model.norm.weight"),
        Row("head.weight", "lm_head.weight", tied=True),
    ),
    settings=_llama_settings(max_seq_len=2048, d_head=None),
    fixed={
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "rope_interleaved": (False,),
    },
    rope=True,
    no_dropouts=("attention_dropout",),
    harmless=frozenset({"pretraining_tp", "is_llama_config", "max_sequence_length"}),
)

_QWEN3 = replace(
    _LLAMA,
    architecture="Qwen3ForCausalLM",
    rows=(
        *_LLAMA.rows,
        Row("blocks.{i}.attention.q_norm.weight", "model.layers.{i}.self_attn.q_norm.weight"),
        Row("blocks.{i}.attention.k_norm.weight", "model.layers.{i}.self_attn.k_norm.weight"),
    ),
    settings=_llama_settings(max_seq_len=32768, d_head=128),
    fixed={
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "use_sliding_window": (False,),
        "layer_types": (None, "full_attention"),
    },
    harmless=frozenset({"sliding_window", "max_window_layers"}),  # unread without the use_ field
)

# config.json's "model_type" -> names; the same word is our `ModelConfig.family`
NAMES: dict[str, Names] = {"gpt2": _GPT2, "llama": _LLAMA, "qwen3": _QWEN3}

# Fields of every family that change no logits: bookkeeping, and defaults of text generation.
_HARMLESS = frozenset({
    "_attn_implementation", "_name_or_path", "_num_labels", "architectures", "bos_token_id",
    "do_sample", "dtype", "eos_token_id", "finetuning_task", "gradient_checkpointing", "id2label",
    "initializer_range", "is_decoder", "is_encoder_decoder", "label2id", "max_length", "model_type",
    "output_attentions", "output_hidden_states", "pad_token_id", "problem_type", "return_dict",
    "task_specific_params", "temperature", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers.js_config", "transformers_version", "unk_token_id", "use_cache",
})  # fmt: skip
_ROPE_FIELDS = frozenset({"rope_theta", "rope_parameters", "rope_scaling"})

# Weight names that hold no parameter: masks and angles that old versions stored.
_NOT_PARAMETERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")

# Larger sizes are damage: their products would not fit 64 bits.
_MAX_SIZES = {"vocab_size": 2**31, "max_seq_len": 2**31, "n_layers": 2**12}
_MAX_SIZE = 2**20


def read_config(values: dict[str, Any], where: str) -> ModelConfig:
    """The `ModelConfig` that a config.json means; dropout is 0.

    where    the file, for messages
    raises   CheckpointError for another model_type, and for any field that is missing, of the wrong
             type, unknown, or has a value that we do not compute
    """
    family = values.get("model_type")
    if not isinstance(family, str) or family not in NAMES:
        raise CheckpointError(
            f"{where}: model_type = {family!r} is not supported. There are: {', '.join(NAMES)}."
        )
    names = NAMES[family]
    _refuse_foreign(values, names, where)
    sizes = {s.ours: _setting(s, values, where) for s in names.settings}
    if names.rope:
        sizes["rope_theta"] = _rope_theta(values, where)
    try:
        return ModelConfig(family=family, **sizes).resolved()  # type: ignore[arg-type]
    except ConfigError as bad:
        raise CheckpointError(f"{where} describes an impossible model: {bad}") from None


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The fields of config.json that describe `config`; `read_config` undoes it, dropout apart."""
    config = config.resolved()
    names = NAMES[config.family]
    values: dict[str, Any] = {
        "architectures": [names.architecture],
        "model_type": config.family,
        "initializer_range": 0.02,
    }
    values |= {s.theirs: getattr(config, s.ours) for s in names.settings}
    values |= {field: known[0] for field, known in names.fixed.items() if known[0] is not None}
    values |= dict.fromkeys(names.dropouts, config.dropout) | dict.fromkeys(names.no_dropouts, 0.0)
    if names.rope:  # both spellings: transformers before version 5 reads only the first
        values["rope_theta"] = config.rope_theta
        values["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_theta}
    return values


def weight_rows(config: ModelConfig) -> Iterator[Row]:
    """The row of every parameter of a model of that shape, layers filled in; no tied head."""
    for row in NAMES[config.family].rows:
        if row.tied and config.tie_embeddings:
            continue
        for i in range(config.n_layers if "{i}" in row.ours else 1):
            layer = str(i)
            yield replace(
                row, ours=row.ours.replace("{i}", layer), theirs=row.theirs.replace("{i}", layer)
            )


def match_weights(config: ModelConfig, present: Collection[str], where: str) -> list[Row]:
    """The rows that fill a model of that shape from the weights named in `present`.

    A tied head is among them only where the file stores it all the same, as older tools do.

    raises   CheckpointError listing the weights of theirs that no row used and the parameters of
             ours that no row filled
    """
    names = NAMES[config.family]
    rows = list(weight_rows(config))
    if not any(name.startswith(names.prefix) for name in present):
        rows = [replace(row, theirs=row.theirs.removeprefix(names.prefix)) for row in rows]
    if config.tie_embeddings:
        rows += [row for row in names.rows if row.tied and row.theirs in present]
    used = {row.theirs for row in rows}
    unused = sorted(n for n in set(present) - used if not n.endswith(_NOT_PARAMETERS))
    unfilled = [f"{row.ours} (their {row.theirs})" for row in rows if row.theirs not in present]
    if unused or unfilled:
        raise CheckpointError(
            f"{where} does not match its config.json ({config.family}). Weights that no parameter "
            f"takes: {_listed(unused)}. Parameters without a weight: {_listed(unfilled)}."
        )
    return rows


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) or "none"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _refuse_foreign(values: dict[str, Any], names: Names, where: str) -> None:
    """Fail on a field whose meaning or value this program does not compute."""
    for field, known in names.fixed.items():
        value = values.get(field, known[0])
        if not all(item in known for item in (value if isinstance(value, list) else [value])):
            raise CheckpointError(
                f"{where}: {field} = {value!r} is not supported; this program computes "
                f"{' or '.join(repr(k) for k in known if k is not None)}."
            )
    understood = {s.theirs for s in names.settings} | set(names.fixed) | _HARMLESS | names.harmless
    understood |= {*names.dropouts, *names.no_dropouts}  # training only, and loaded as 0
    understood |= _ROPE_FIELDS if names.rope else set()
    for field, value in values.items():
        if field not in understood and value is not None:
            raise CheckpointError(
                f"{where}: {field} = {value!r} is not known to this program and may change what "
                "the model computes. If it does not, take it out of the file."
            )


def _setting(setting: Setting, values: dict[str, Any], where: str) -> Any:
    """One field of `ModelConfig`, checked; null where null is the default means "derived"."""
    value = values.get(setting.theirs, setting.default)
    if value is REQUIRED:
        raise CheckpointError(f"{where} has no {setting.theirs}: it was damaged.")
    if value is None and setting.default is None:
        return 0
    kind = type(getattr(ModelConfig, setting.ours))
    most = _MAX_SIZES.get(setting.ours, _MAX_SIZE)
    good = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most,
        float: _is_positive(value),
    }
    if not good[kind]:
        raise CheckpointError(
            f"{where}: {setting.theirs} = {value!r} is not a usable {kind.__name__}."
        )
    return value


def _rope_theta(values: dict[str, Any], where: str) -> float:
    """The base of the angles, from either spelling; any stretching of them is refused."""
    plain = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
    thetas = [values["rope_theta"]] if values.get("rope_theta") is not None else []
    for name in ("rope_parameters", "rope_scaling"):
        table = values.get(name) or {}
        if not isinstance(table, dict):
            raise CheckpointError(f"{where}: {name} = {table!r} is not a table.")
        for field, value in table.items():
            if field == "rope_theta":
                thetas.append(value)
            elif plain.get(field) != value:
                raise CheckpointError(
                    f"{where}: {name}.{field} = {value!r} is not supported; this program computes "
                    "plain RoPE (rope_type default)."
                )
    theta = thetas[0] if thetas else 10000.0  # transformers' default for both families
    if not _is_positive(theta) or any(other != theta for other in thetas):
        raise CheckpointError(f"{where}: rope_theta = {thetas} is not one positive number.")
    return float(theta)


def _is_positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value < 2**53 and math.isfinite(value)
