"""The tokenizers that GGUF files carry, as tokenizer.json with the same ids."""

from typing import Any

from scratchlm.base.errors import CheckpointError
from scratchlm.tokenizer.compose import bpe, byte_level, compose, sequence, split
from scratchlm.tokenizer.definition import Part
from scratchlm.tokenizer.sentencepiece import of_pieces
from scratchlm.tokenizer.sentencepiece_file import (
    BYTE,
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    Model,
    Piece,
)
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train_bpe import PATTERNS as DEEPSEEK_V3

_KEY = "tokenizer.ggml"
_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}  # ours -> theirs
_DIGITS = r"\p{N}"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# llama.cpp's name of a pre-tokenizer -> how it cuts (its src/llama-vocab.cpp)
_LLAMA3 = sequence(split(rf"{_ENDINGS}|\p{{N}}{{1,3}}|{_REST}"), byte_level(use_regex=False))
_QWEN2 = sequence(split(rf"{_ENDINGS}|\p{{N}}|{_REST}"), byte_level(use_regex=False))
_SMOLLM = sequence(split(_DIGITS), byte_level(use_regex=True))
PRE_TOKENIZERS: dict[str, Part] = {
    "gpt-2": byte_level(use_regex=True),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "smollm": _SMOLLM,
    "starcoder": _SMOLLM,
    "refact": _SMOLLM,
    "command-r": _SMOLLM,
    "deepseek-v3": sequence(*map(split, DEEPSEEK_V3), byte_level(use_regex=False)),
}
_IGNORES_MERGES = {"llama-bpe", "llama3", "llama-v3"}  # a piece that is a token needs no merges


def read_tokenizer(fields: dict[str, Any], where: str) -> Tokenizer:
    """The tokenizer of a file's fields.

    raises   CheckpointError for a kind or a pre-tokenizer that this program does not have, and for
             fields that are missing or do not fit together
    """
    kind = fields.get(f"{_KEY}.model")
    readers = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in readers:
        raise CheckpointError(
            f"{where}: {_KEY}.model = {kind!r} is not supported. There are: {', '.join(readers)}."
        )
    try:
        return readers[kind](fields)
    except CheckpointError as bad:
        raise CheckpointError(f"{where}: {bad}") from None


def _byte_level(fields: dict[str, Any]) -> Tokenizer:
    tokens = _strings(fields, "tokens")
    merges = [tuple(line.split(" ")) for line in _strings(fields, "merges")]
    if any(len(pair) != 2 for pair in merges):
        raise CheckpointError(f"{_KEY}.merges holds a line that is no pair.")
    name = fields.get(f"{_KEY}.pre", "gpt-2")
    if name not in PRE_TOKENIZERS:
        raise CheckpointError(
            f"{_KEY}.pre = {name!r} cuts text in a way that this program does not have. "
            f"There are: {', '.join(PRE_TOKENIZERS)}."
        )
    types = _types(fields, len(tokens))
    model = bpe(tokens, [(left, right) for left, right in merges])
    return compose(
        "bpe",
        model | {"ignore_merges": name in _IGNORES_MERGES},
        _roles(fields, tokens),
        control=[t for t, kind in zip(tokens, types, strict=True) if kind in (CONTROL, UNKNOWN)],
        markers=[t for t, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED],
        pre_tokenizer=PRE_TOKENIZERS[name],
        decoder=byte_level(use_regex=False),
        facts={"pre_tokenizer": name},
    )


def _sentencepiece(fields: dict[str, Any]) -> Tokenizer:
    tokens = _strings(fields, "tokens")
    scores = fields.get(f"{_KEY}.scores")
    if scores is None or len(scores) != len(tokens):
        raise CheckpointError(f"{_KEY}.scores does not fit {_KEY}.tokens.")
    types = _types(fields, len(tokens))
    roles = _roles(fields, tokens)
    if UNKNOWN not in types:
        raise CheckpointError(f"no token of {_KEY}.tokens is the unknown one.")
    roles["unk"] = tokens[types.index(UNKNOWN)]
    pieces = [Piece(*piece) for piece in zip(tokens, map(float, scores), types, strict=True)]
    return of_pieces(
        Model(
            type="bpe",
            pieces=pieces,
            roles=roles,
            byte_fallback=BYTE in types,
            charsmap=b"",
            dummy_prefix=bool(fields.get(f"{_KEY}.add_space_prefix", True)),
            squeeze_spaces=bool(fields.get(f"{_KEY}.remove_extra_whitespaces", False)),
        )
    )


def _strings(fields: dict[str, Any], name: str) -> list[str]:
    values = fields.get(f"{_KEY}.{name}")
    if not isinstance(values, list) or not values:
        raise CheckpointError(f"there is no {_KEY}.{name}: its tokenizer was left out.")
    if name == "tokens" and len(set(values)) < len(values):
        raise CheckpointError(f"a token stands twice in {_KEY}.tokens.")
    return values


def _types(fields: dict[str, Any], n: int) -> list[int]:
    types = fields.get(f"{_KEY}.token_type")
    if types is None:
        return [1] * n
    if len(types) != n:
        raise CheckpointError(f"{_KEY}.token_type does not fit {_KEY}.tokens.")
    return [int(kind) for kind in types]


def _roles(fields: dict[str, Any], tokens: list[str]) -> dict[str, str | None]:
    roles: dict[str, str | None] = {}
    for ours, theirs in _ROLES.items():
        i = fields.get(f"{_KEY}.{theirs}_token_id")
        if i is not None and not (isinstance(i, int) and 0 <= i < len(tokens)):
            raise CheckpointError(f"{_KEY}.{theirs}_token_id = {i!r} is no token.")
        roles[ours] = None if i is None else tokens[i]
    return roles
