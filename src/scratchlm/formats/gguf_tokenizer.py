"""The tokenizers that GGUF files carry, as tokenizer.json with the same ids."""

from typing import Any

from scratchlm.base.errors import CheckpointError
from scratchlm.formats.gguf_pre_tokenizers import LLAMA3_NAMES, PRE_TOKENIZERS
from scratchlm.tokenizer.compose import bpe, byte_level, compose, compose_characters
from scratchlm.tokenizer.rules import bytes_of_characters
from scratchlm.tokenizer.sentencepiece import of_pieces
from scratchlm.tokenizer.sentencepiece_file import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Model,
    Piece,
)
from scratchlm.tokenizer.tokenizer import Tokenizer

_KEY = "tokenizer.ggml"
_MOST_CHARACTERS = 1 << 10  # of a piece, which is cut in two at each of them
_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}  # ours -> theirs


def read_tokenizer(fields: dict[str, Any], where: str) -> Tokenizer:
    """The tokenizer of a file's fields.

    raises   CheckpointError for a kind or a pre-tokenizer that this program does not have, and for
             fields that are missing or do not fit together
    """
    kind = fields.get(f"{_KEY}.model")
    readers = {"gpt2": _byte_level, "llama": _sentencepiece}
    if not isinstance(kind, str) or kind not in readers:
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
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        raise CheckpointError(
            f"{_KEY}.pre = {name!r} cuts text in a way that this program does not have. "
            f"There are: {', '.join(PRE_TOKENIZERS)}."
        )
    types = _types(fields, len(tokens))
    if characters := _characters(tokens, types):
        return compose_characters(characters, _roles(fields, tokens))
    model = bpe(tokens, [(left, right) for left, right in merges])
    return compose(
        "bpe",
        model | {"ignore_merges": name in LLAMA3_NAMES},
        _roles(fields, tokens),
        control=[t for t, kind in zip(tokens, types, strict=True) if kind in (CONTROL, UNKNOWN)],
        markers=[t for t, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED],
        pre_tokenizer=PRE_TOKENIZERS[name],
        decoder=byte_level(use_regex=False),
        begins=bool(fields.get(f"{_KEY}.add_bos_token", name in LLAMA3_NAMES)),
        facts={"pre_tokenizer": name},
    )


def _characters(tokens: list[str], types: list[int]) -> list[str] | None:
    """The tokens as characters, if each that is no control token is one; else None.

    Merges then join the bytes of one character, through parts of it that are no tokens.
    """
    alphabet = bytes_of_characters()
    found = []
    for token, kind in zip(tokens, types, strict=True):
        if kind == NORMAL:
            if not alphabet.keys() >= set(token):
                return None
            token = bytes(alphabet[c] for c in token).decode("utf-8", "replace")
            if len(token) != 1 or token == "\ufffd":
                return None
        found.append(token)
    return found


def _sentencepiece(fields: dict[str, Any]) -> Tokenizer:
    tokens = _strings(fields, "tokens")
    if max(map(len, tokens)) > _MOST_CHARACTERS:
        raise CheckpointError(f"a token of {_KEY}.tokens has over {_MOST_CHARACTERS} characters.")
    scores = _numbers(fields, "scores", float, len(tokens))
    if scores is None:
        raise CheckpointError(f"there is no {_KEY}.scores: its tokenizer was left out.")
    types = _types(fields, len(tokens))
    roles = _roles(fields, tokens)
    if UNKNOWN not in types and roles["unk"] is not None:  # Gemma's is a control token
        types[tokens.index(roles["unk"])] = UNKNOWN
    if UNKNOWN not in types:
        raise CheckpointError(f"no token of {_KEY}.tokens is the unknown one.")
    roles["unk"] = tokens[types.index(UNKNOWN)]
    pieces = [Piece(*piece) for piece in zip(tokens, scores, types, strict=True)]
    return of_pieces(
        Model(
            type="bpe",
            pieces=pieces,
            roles=roles,
            byte_fallback=BYTE in types,
            charsmap=b"",
            dummy_prefix=bool(fields.get(f"{_KEY}.add_space_prefix", True)),
            squeeze_spaces=False,  # llama.cpp keeps them here, whatever the file says
        ),
        begins=roles["bos"] is not None and bool(fields.get(f"{_KEY}.add_bos_token", True)),
    )


def _strings(fields: dict[str, Any], name: str) -> list[str]:
    values = fields.get(f"{_KEY}.{name}")
    if not isinstance(values, list) or not values or not isinstance(values[0], str):
        raise CheckpointError(f"there is no {_KEY}.{name}: its tokenizer was left out.")
    if name == "tokens" and len(set(values)) < len(values):
        raise CheckpointError(f"a token stands twice in {_KEY}.tokens.")
    return values


def _types(fields: dict[str, Any], n: int) -> list[int]:
    return _numbers(fields, "token_type", int, n) or [NORMAL] * n


def _numbers(fields: dict[str, Any], name: str, kind: type, n: int) -> list[Any] | None:
    """A number of that type for each of `n` tokens; None where there are none."""
    values = fields.get(f"{_KEY}.{name}")
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != n or type(values[0]) is not kind:
        raise CheckpointError(f"{_KEY}.{name} does not fit {_KEY}.tokens.")
    return values


def _roles(fields: dict[str, Any], tokens: list[str]) -> dict[str, str | None]:
    roles: dict[str, str | None] = {}
    for ours, theirs in _ROLES.items():
        i = fields.get(f"{_KEY}.{theirs}_token_id")
        if i is not None and not (isinstance(i, int) and 0 <= i < len(tokens)):
            raise CheckpointError(f"{_KEY}.{theirs}_token_id = {i!r} is no token.")
        roles[ours] = None if i is None else tokens[i]
    return roles
