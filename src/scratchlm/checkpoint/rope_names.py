"""The angles of config.json, in the several spellings that there are of them.

rope_theta, rope_local_base_freq, rope_scaling                    before transformers 5
rope_parameters = {rope_theta, rope_type, factor, ...}            since
rope_parameters = {full_attention: {...}, sliding_attention: {...}}  of models with local layers
"""

import math
from typing import Any

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import RopeScaling

ROPE_FIELDS = frozenset({"rope_theta", "rope_local_base_freq", "rope_parameters", "rope_scaling"})
LOCAL_THETA = 10_000.0  # of local layers, when config.json is silent
_LAYERS = ("full_attention", "sliding_attention")

# Fields of a scaling: theirs -> ours. What a kind does not use is refused.
_LENGTH = {"factor": "factor", "original_max_position_embeddings": "original_max_seq_len"}
_YARN = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")
_KINDS = {
    "default": {},
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "yarn": {**_LENGTH, **{name: name for name in _YARN}},
    "llama3": {
        **_LENGTH,
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
    },
}


def read_rope(
    values: dict[str, Any],
    default_theta: float,
    max_seq_len: int,
    where: str,
    *,
    by_layer: bool = False,
) -> dict[str, Any]:
    """The fields of `ModelConfig` that hold the angles, and `max_seq_len` where they change it.

    default_theta   where config.json is silent
    max_seq_len     their max_position_embeddings
    by_layer        the family has local layers with angles of their own
    raises          CheckpointError for angles that we do not compute
    """
    tables = [_table(values, name, where) for name in ("rope_parameters", "rope_scaling")]
    local = {"rope_theta": LOCAL_THETA} if by_layer else {}
    if by_layer and any(name in table for table in tables for name in _LAYERS):
        for table in tables:
            if unknown := set(table) - {*_LAYERS}:
                raise CheckpointError(
                    f"{where}: rope_parameters.{min(unknown)} stands beside {_LAYERS[0]}."
                )
            local |= _table(table, _LAYERS[1], where)
        tables = [_table(table, _LAYERS[0], where) for table in tables]
    elif by_layer and values.get("rope_local_base_freq") is not None:
        local = {"rope_theta": values["rope_local_base_freq"]}
    thetas = [t["rope_theta"] for t in (values, *tables) if t.get("rope_theta") is not None]
    found = {"rope_theta": _theta(thetas or [default_theta], where)}
    if local:
        if local.pop("rope_type", "default") != "default" or set(local) != {"rope_theta"}:
            raise CheckpointError(
                f"{where}: rope_parameters.{_LAYERS[1]} = {local} is not supported: angles of "
                "local layers are plain."
            )
        found["local_rope_theta"] = _theta([local["rope_theta"]], where)
        if found["local_rope_theta"] == found["rope_theta"]:
            del found["local_rope_theta"]  # the same angles
    scaling: dict[str, Any] = {}
    for table in tables:
        scaling |= {k: v for k, v in table.items() if k != "rope_theta" and v is not None}
    return {**found, **_scaling(scaling, max_seq_len, where)}


def _table(values: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    table = values.get(name) or {}
    if not isinstance(table, dict):
        raise CheckpointError(f"{where}: {name} = {table!r} is not a table.")
    return table


def _scaling(table: dict[str, Any], max_seq_len: int, where: str) -> dict[str, Any]:
    """`rope_scaling`, and the longest context where it is longer than theirs says."""
    names = [table.pop(name, "default") for name in ("rope_type", "type")]
    named = [name for name in names if name != "default"] or ["default"]
    kind = named[0]
    if any(other != kind for other in named) or not isinstance(kind, str) or kind not in _KINDS:
        raise CheckpointError(
            f"{where}: rope_type = {kind!r} is not supported. There are: {', '.join(_KINDS)}."
        )
    if table.pop("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(f"{where}: partial_rotary_factor is not supported unless it is 1.")
    known = _KINDS[kind]
    for field, value in table.items():
        if field not in known:
            raise CheckpointError(
                f"{where}: {field} = {value!r} is not known to rope_type {kind!r} here, and may "
                "change what the model computes."
            )
        if not (isinstance(value, bool) if field == "truncate" else is_positive(value)):
            raise CheckpointError(f"{where}: {field} = {value!r} is not a usable number.")
    if kind == "default":
        return {}
    sizes = {known[field]: value for field, value in table.items()}
    length = {}
    if kind == "dynamic":  # theirs is the trained length, and what is longer is stretched
        sizes["original_max_seq_len"] = max_seq_len
        length["max_seq_len"] = int(max_seq_len * sizes.get("factor", 1.0))
    elif kind != "linear":
        sizes.setdefault("original_max_seq_len", max_seq_len)
        sizes["original_max_seq_len"] = int(sizes["original_max_seq_len"])
    try:
        return {"rope_scaling": RopeScaling(kind, **sizes), **length}  # type: ignore[arg-type]
    except ConfigError as bad:
        raise CheckpointError(f"{where}: {bad}") from None


def write_rope(config: ModelConfig, *, by_layer: bool) -> dict[str, Any]:
    """The fields of config.json that hold a resolved config's angles, in both spellings.

    by_layer   the family has local layers with angles of their own
    """
    scaling = config.rope_scaling
    kind = "default" if scaling.kind == "none" else scaling.kind
    table = {
        theirs: value
        for theirs, ours in _KINDS[kind].items()
        if (value := getattr(scaling, ours)) or theirs == "truncate"
    }
    table = {"rope_type": kind, **table}
    fields: dict[str, Any] = {"rope_theta": config.rope_theta}
    if kind != "default":
        fields["rope_scaling"] = table
    if kind == "dynamic":
        fields["max_position_embeddings"] = scaling.original_max_seq_len
    whole = {**table, "rope_theta": config.rope_theta}
    if not by_layer:
        return {**fields, "rope_parameters": whole}
    theta = config.local_rope_theta or config.rope_theta
    local = {"rope_type": "default", "rope_theta": theta}
    return {
        **fields,
        "rope_local_base_freq": theta,
        "rope_parameters": dict(zip(_LAYERS, (whole, local), strict=True)),
    }


def _theta(thetas: list[Any], where: str) -> float:
    if not is_positive(thetas[0]) or any(other != thetas[0] for other in thetas):
        raise CheckpointError(f"{where}: rope_theta = {thetas} is not one positive number.")
    return float(thetas[0])


def is_positive(value: Any) -> bool:
    """Whether a value of JSON is a finite number above 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value < 2**53 and math.isfinite(value)
