"""Foreign names turned into ours and back, by the table of `checkpoint/families.py`.

config.json   <->  ModelConfig          `read_config`, `write_config`
weight names  <->  our parameter names  `weight_rows`, `match_weights`
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.families import NAMES, REQUIRED, Names, Row, Setting
from scratchlm.checkpoint.rope_names import ROPE_FIELDS, is_positive, read_rope, write_rope
from scratchlm.model.config import ModelConfig

# Fields of every family that change no logits: bookkeeping, and defaults of text generation.
_HARMLESS = frozenset({
    "_attn_implementation", "_name_or_path", "_num_labels", "architectures", "bos_token_id",
    "do_sample", "dtype", "eos_token_id", "finetuning_task", "gradient_checkpointing", "id2label",
    "initializer_range", "is_decoder", "is_encoder_decoder", "label2id", "max_length", "model_type",
    "output_attentions", "output_hidden_states", "pad_token_id", "problem_type", "return_dict",
    "task_specific_params", "temperature", "top_k", "top_p", "torch_dtype", "torchscript",
    "scratchlm_pooling", "transformers.js_config", "transformers_version", "unk_token_id",
    "use_cache",
})  # fmt: skip

# Weight names that hold no parameter: masks and angles that old versions stored.
_NOT_PARAMETERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")

# Larger sizes are damage: their products would not fit 64 bits.
_MAX_SIZES = {"vocab_size": 2**31, "max_seq_len": 2**31, "window": 2**31, "n_layers": 2**12}
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
    sizes = {s.ours: read_setting(s, values, where) for s in names.settings}
    if names.rope:
        sizes |= read_rope(
            values, names.rope, sizes["max_seq_len"], where, by_layer=names.layer_types
        )
    if names.layer_types:
        sizes["global_every"] = _global_every(values, sizes, where)
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
    values |= {s.theirs: _written(s, getattr(config, s.ours)) for s in names.settings}
    values |= {field: known[0] for field, known in names.fixed.items() if known[0] is not None}
    values |= dict.fromkeys(names.dropouts, config.dropout) | dict.fromkeys(names.no_dropouts, 0.0)
    if names.rope:
        values |= write_rope(config, by_layer=names.layer_types)
    if names.layer_types:
        values["layer_types"] = _layer_types(config)
    return values


def weight_rows(config: ModelConfig) -> Iterator[Row]:
    """The row of every parameter of a model of that shape, layers filled in; no tied head."""
    for row in NAMES[config.family].rows:
        if row.tied and config.tie_embeddings:
            continue
        yield from row.numbered(config)


def match_weights(
    config: ModelConfig, present: Collection[str], where: str, head: str = ""
) -> list[Row]:
    """The rows that fill a model of that shape from the weights named in `present`.

    A tied head is among them only where the file stores it all the same, as older tools do.

    head     their name of an untied head, where it is another than a language model's
    raises   CheckpointError listing the weights of theirs that no row used and the parameters of
             ours that no row filled
    """
    names = NAMES[config.family]
    if config.n_layers * max(1, config.n_experts) > len(present):  # before a row is made for each
        raise CheckpointError(
            f"{where} does not match its config.json ({config.family}): {len(present)} weights are "
            f"too few for {config.n_layers} layers"
            + (f" of {config.n_experts} experts." if config.n_experts else ".")
        )
    rows = [replace(r, theirs=head) if head and r.tied else r for r in weight_rows(config)]
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
            f"takes: {listed(unused)}. Parameters without a weight: {listed(unfilled)}."
        )
    return rows


def listed(names: list[str]) -> str:
    """The first names, for messages."""
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
    understood = (
        {name for s in names.settings for name in (s.theirs, s.also)}
        | set(names.fixed)
        | _HARMLESS
        | names.harmless
    )
    understood |= {*names.dropouts, *names.no_dropouts}  # training only, and loaded as 0
    understood |= ROPE_FIELDS if names.rope else set()
    understood |= {"layer_types"} if names.layer_types else set()
    for field, value in values.items():
        if field not in understood and value is not None:
            raise CheckpointError(
                f"{where}: {field} = {value!r} is not known to this program and may change what "
                "the model computes. If it does not, take it out of the file."
            )


def read_setting(setting: Setting, values: dict[str, Any], where: str) -> Any:
    """One field of `ModelConfig`, checked; null where null is the default means "derived"."""
    value = values.get(setting.theirs, values.get(setting.also, setting.default))
    if value is REQUIRED:
        raise CheckpointError(f"{where} has no {setting.theirs}: it was damaged.")
    if value is None and (setting.default is None or setting.null):
        return 0
    if setting.words:
        return _of_words(setting, value, where)
    kind = type(getattr(ModelConfig, setting.ours))
    most = _MAX_SIZES.get(setting.ours, _MAX_SIZE)
    good = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most,
        float: is_positive(value) or value == 0.0,
    }
    if not good[kind]:
        raise CheckpointError(
            f"{where}: {setting.theirs} = {value!r} is not a usable {kind.__name__}."
        )
    return value


def _of_words(setting: Setting, word: Any, where: str) -> Any:
    for known, value in setting.words:
        if word == known:
            return value
    known = " or ".join(repr(word) for word, _ in setting.words)
    raise CheckpointError(
        f"{where}: {setting.theirs} = {word!r} is not supported; this program computes {known}."
    )


def _written(setting: Setting, value: Any) -> Any:
    """A field of ours as theirs: null where there is none, whole where theirs is."""
    if setting.null and not value:
        return None
    if setting.words:
        return next(word for word, known in setting.words if known == value)
    whole = type(setting.default) is int and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _layer_types(config: ModelConfig) -> list[str]:
    local, whole = "sliding_attention", "full_attention"
    return [local if config.is_local(i) else whole for i in range(config.n_layers)]


def _global_every(values: dict[str, Any], sizes: dict[str, Any], where: str) -> int:
    """Which layers see all tokens, where their list has a rule that we can write."""
    listed = values.get("layer_types")
    whole = isinstance(listed, list) and all(kind == "full_attention" for kind in listed)
    if listed is None or (whole and not sizes["window"]):
        return int(sizes["global_every"])
    fits = isinstance(listed, list) and len(listed) == sizes["n_layers"]
    for every in range(len(listed) + 1 if fits else 0):
        config = ModelConfig(
            "gemma3_text", n_layers=sizes["n_layers"], window=1, global_every=every
        )
        if _layer_types(config) == listed:
            return every
    raise CheckpointError(
        f"{where}: layer_types = {listed!r} is not supported: this program computes models of "
        "which every so-manieth layer sees all tokens."
    )
