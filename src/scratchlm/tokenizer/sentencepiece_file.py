"""What a SentencePiece `.model` file says, read without the C++ library.

Hostile files can crash that library (sentencepiece #1263, #1269); the format is a protocol buffer
of a few dozen fields, sentencepiece_model.proto (github.com/google/sentencepiece, Apache-2.0).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from scratchlm.base.errors import CheckpointError

# Piece.type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

_MODEL_TYPES = {1: "unigram", 2: "bpe"}
_ROLE_FIELDS = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}  # default ids


class Piece(NamedTuple):
    """One id of a `.model` file."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class Model:
    """The pieces and the rules of a `.model` file."""

    type: str  # "bpe" or "unigram"
    pieces: list[Piece]
    roles: dict[str, str | None]  # "unk", "bos", "eos", "pad" -> its piece
    byte_fallback: bool
    charsmap: bytes  # compiled normalisation rules; empty for "identity"
    dummy_prefix: bool  # a space is put before every text
    squeeze_spaces: bool  # outer spaces go, inner runs become one


def parse_model(content: bytes, source: str) -> Model:
    """Read the bytes of a `.model` file; `source` is its name for messages.

    raises   CheckpointError for a damaged file and for rules that tokenizer.json cannot hold
    """
    try:
        return _parse(content)
    except (ValueError, struct.error, IndexError) as bad:
        reason = bad if type(bad) is ValueError else "it is damaged or cut short"
        raise CheckpointError(
            f"{source} is not a SentencePiece .model that scratchlm reads: {reason}."
        ) from None


def _parse(content: bytes) -> Model:
    parts = list(_fields(content))
    pieces = [_piece(_bytes(value)) for number, value in parts if number == 1]
    trainer = dict(_fields(b"".join(_bytes(value) for number, value in parts if number == 2)))
    rules = dict(_fields(b"".join(_bytes(value) for number, value in parts if number == 3)))
    model_type = _MODEL_TYPES.get(_int(trainer.get(3, 1)))
    problem = None
    if model_type is None:
        problem = "its pieces are whole words or characters"
    elif trainer.get(24, 0) or not rules.get(5, 1):
        problem = "it marks spaces in an uncommon way"
    elif sum(piece.type == UNKNOWN for piece in pieces) != 1:
        problem = "it has not exactly one unknown piece"
    elif len({piece.text for piece in pieces}) < len(pieces):
        problem = "a piece occurs twice"
    elif any(piece.type == UNUSED for piece in pieces) and model_type == "bpe":
        problem = "its vocabulary was restricted afterwards"
    if problem or model_type is None:
        raise ValueError(problem)
    return Model(
        type=model_type,
        pieces=pieces,
        roles={role: _role(pieces, trainer.get(*field)) for role, field in _ROLE_FIELDS.items()},
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=_bytes(rules.get(2, b"")),
        dummy_prefix=bool(rules.get(3, 1)),
        squeeze_spaces=bool(rules.get(4, 1)),
    )


def _piece(content: bytes) -> Piece:
    fields = dict(_fields(content))
    text = _bytes(fields.get(1, b"")).decode("utf-8")
    (score,) = struct.unpack("<f", _bytes(fields.get(2, b"\0\0\0\0")))
    return Piece(text, score, _int(fields.get(3, NORMAL)))


def _role(pieces: list[Piece], field: int | bytes) -> str | None:
    i = _int(field)
    if not 0 <= i < len(pieces) or pieces[i].type not in (CONTROL, UNKNOWN):
        return None  # -1, which is stored as 2 ** 64 - 1, means "none"
    return pieces[i].text


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (number, value) pairs of one protocol buffer message, in order."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire_type not in (1, 2, 5):
            raise ValueError("it is no protocol buffer")
        size = {1: 8, 5: 4}.get(wire_type)
        if size is None:
            size, at = _varint(content, at)
        if at + size > len(content):
            raise ValueError("it is cut short")
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("it is no protocol buffer")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("it is no protocol buffer of that kind")
    return value


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("it is no protocol buffer of that kind")
    return value
