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

# field numbers: of the model, of its trainer_spec, of its normalizer_spec
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_MODEL_TYPE, _SPACE_AS_SUFFIX, _BYTE_FALLBACK = 3, 24, 35
_CHARSMAP, _DUMMY_PREFIX, _SQUEEZE_SPACES, _ESCAPE_SPACES = 2, 3, 4, 5
_ROLES = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}  # and the default ids
_SCORE = 2  # of a piece

_TYPE_NAMES = {1: "unigram", 2: "bpe"}


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


def round_scores(content: bytes) -> bytes:
    """The same model with each score a multiple of 1/128.

    The library adds scores in 32 bits, `tokenizers` in 64; where two cuts of a text cost the
    same, such as of "------", rounding made them choose differently (28 of 10,309 lines). Sums of
    multiples of 1/128 are exact in both up to 131,072, the cost of about 15,000 tokens.
    """
    rounded = bytearray(content)
    for number, piece, at in _fields(content):
        for field, score, offset in _fields(_bytes(piece)) if number == _PIECES else ():
            if field == _SCORE:
                (value,) = struct.unpack("<f", _bytes(score))
                struct.pack_into("<f", rounded, at + offset, round(value * 128) / 128)
    return bytes(rounded)


def _parse(content: bytes) -> Model:
    parts = [(number, _bytes(value)) for number, value, _ in _fields(content)]
    pieces = [_piece(part) for number, part in parts if number == _PIECES]
    trainer = _message(b"".join(part for number, part in parts if number == _TRAINER))
    rules = _message(b"".join(part for number, part in parts if number == _NORMALIZER))
    model_type = _TYPE_NAMES.get(_int(trainer.get(_MODEL_TYPE, 1)))
    if model_type is None:
        raise ValueError("its pieces are whole words or single characters")
    if trainer.get(_SPACE_AS_SUFFIX, 0) or not rules.get(_ESCAPE_SPACES, 1):
        raise ValueError("it marks spaces in an uncommon way")
    _check(pieces, model_type)
    return Model(
        type=model_type,
        pieces=pieces,
        roles={role: _role(pieces, trainer.get(*field)) for role, field in _ROLES.items()},
        byte_fallback=bool(trainer.get(_BYTE_FALLBACK, 0)),
        charsmap=_bytes(rules.get(_CHARSMAP, b"")),
        dummy_prefix=bool(rules.get(_DUMMY_PREFIX, 1)),
        squeeze_spaces=bool(rules.get(_SQUEEZE_SPACES, 1)),
    )


def _check(pieces: list[Piece], model_type: str) -> None:
    if sum(piece.type == UNKNOWN for piece in pieces) != 1:
        raise ValueError("it has not exactly one unknown piece")
    if len({piece.text for piece in pieces}) < len(pieces):
        raise ValueError("a piece occurs twice")
    if model_type == "bpe" and any(piece.type == UNUSED for piece in pieces):
        raise ValueError("its vocabulary was restricted afterwards")


def _piece(content: bytes) -> Piece:
    fields = _message(content)
    text = _bytes(fields.get(1, b"")).decode("utf-8")
    (score,) = struct.unpack("<f", _bytes(fields.get(_SCORE, b"\0\0\0\0")))
    return Piece(text, score, _int(fields.get(3, NORMAL)))


def _role(pieces: list[Piece], field: int | bytes) -> str | None:
    i = _int(field)
    if not 0 <= i < len(pieces) or pieces[i].type not in (CONTROL, UNKNOWN):
        return None  # -1, which is stored as 2 ** 64 - 1, means "none"
    return pieces[i].text


def _message(content: bytes) -> dict[int, int | bytes]:
    return {number: value for number, value, _ in _fields(content)}


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes, int]]:
    """Each (number, value, offset of a value in bytes) of one protocol buffer message."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(content, at)
            yield number, value, at
            continue
        if wire_type not in (1, 2, 5):
            raise ValueError("it is no protocol buffer")
        size = {1: 8, 5: 4}.get(wire_type)
        if size is None:
            size, at = _varint(content, at)
        if at + size > len(content):
            raise ValueError("it is cut short")
        yield number, content[at : at + size], at
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
