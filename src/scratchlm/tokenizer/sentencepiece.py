"""SentencePiece: its `.model` files as tokenizer.json, and training by its own library."""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scratchlm.base.errors import CheckpointError
from scratchlm.tokenizer.compose import Part, compose
from scratchlm.tokenizer.tokenizer import Tokenizer

SPACE = "\u2581"  # stands for a space inside pieces
_MAX_MODEL_BYTES = 64_000_000

# numbers of sentencepiece_model.proto (github.com/google/sentencepiece, Apache-2.0)
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_MODEL_TYPES = {1: "unigram", 2: "bpe"}


@dataclass(frozen=True)
class Model:
    """What a `.model` file says. An id of a control token is None where there is none."""

    pieces: list[tuple[str, float, int]]  # text, score, type
    type: str
    byte_fallback: bool
    control: dict[str, str | None]  # role -> name of the control token
    charsmap: bytes  # compiled normalisation rules; empty for "identity"
    dummy_prefix: bool
    squeeze_spaces: bool


def from_model_file(path: Path | str) -> Tokenizer:
    """Make a tokenizer of a SentencePiece `.model` file (Llama 2's, llama2.c's, one's own).

    The file is read without the C++ library, which hostile files can crash (sentencepiece #1263).

    raises   CheckpointError naming the file: missing, damaged, or of a kind that tokenizer.json
             cannot hold
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Give the path of a SentencePiece .model.")
    if path.stat().st_size > _MAX_MODEL_BYTES:
        raise CheckpointError(f"{path} has over {_MAX_MODEL_BYTES} bytes: it is no .model file.")
    return from_model(path.read_bytes(), str(path))


def from_model(content: bytes, source: str) -> Tokenizer:
    """Make a tokenizer of the bytes of a `.model` file; `source` is its name for messages."""
    model = parse_model(content, source)
    scores = "".join(f"{piece}\t{score:g}\n" for piece, score, _ in model.pieces)
    return compose(
        f"sentencepiece-{model.type}",
        _bpe(model) if model.type == "bpe" else _unigram(model),
        model.control,
        normalizer={"type": "Sequence", "normalizers": _normalizers(model)},
        decoder={"type": "Sequence", "decoders": _decoders(model)},
        further_added=[piece for piece, _, type_ in model.pieces if type_ == _USER_DEFINED],
        companions={"tokenizer.model": content, "tokenizer.vocab": scores.encode()},
    )


def _bpe(model: Model) -> Part:
    """BPE with explicit merges: a merge is every pair of pieces that makes a piece.

    SentencePiece merges the pair whose result has the best score, so the order of the merges is
    the order of the results' scores.
    """
    vocab = {piece: i for i, (piece, _, _) in enumerate(model.pieces)}
    text = {piece for piece, _, type_ in model.pieces if type_ in (_NORMAL, _USER_DEFINED)}
    ranked = sorted(
        (-score, i, piece)
        for i, (piece, score, type_) in enumerate(model.pieces)
        if type_ == _NORMAL
    )
    merges = [
        [piece[:cut], piece[cut:]]
        for _, _, piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in text and piece[cut:] in text
    ]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.control["unk"],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }


def _unigram(model: Model) -> Part:
    """Unigram with its scores; control tokens and bytes get one so low that no text uses them.

    The library would else read the text "<s>" as the control token, at its stored score of 0.
    """
    lowest = min((s for _, s, type_ in model.pieces if type_ == _NORMAL), default=0.0)
    never = (lowest - 10) * 1000  # an unknown character costs lowest - 10
    vocab = [
        [piece, score if type_ == _NORMAL else never] for piece, score, type_ in model.pieces
    ]
    unknown = next(i for i, (_, _, type_) in enumerate(model.pieces) if type_ == _UNKNOWN)
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": vocab,
        "byte_fallback": model.byte_fallback,
    }


def _normalizers(model: Model) -> list[Part]:
    parts: list[Part] = []
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode("ascii")
        parts.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.squeeze_spaces:
        parts.append(_replace({"Regex": r"\A +| +\z"}, ""))
        parts.append(_replace({"Regex": " {2,}"}, " "))
    if model.dummy_prefix:
        parts.append({"type": "Prepend", "prepend": SPACE})
    return [*parts, _replace({"String": " "}, SPACE)]


def _decoders(model: Model) -> list[Part]:
    parts: list[Part] = [_replace({"String": SPACE}, " ")]
    parts += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if model.dummy_prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return parts


def _replace(pattern: Part, content: str) -> Part:
    return {"type": "Replace", "pattern": pattern, "content": content}


def parse_model(content: bytes, source: str) -> Model:
    """Read a `.model` file, a protocol buffer.

    raises   CheckpointError naming `source` for damaged files and for rules that tokenizer.json
             cannot hold
    """
    try:
        return _parse_model(content)
    except (IndexError, KeyError, ValueError, struct.error, StopIteration) as bad:
        reason = str(bad) if isinstance(bad, ValueError) else "it is damaged or cut short"
        raise CheckpointError(
            f"{source} is not a SentencePiece .model that scratchlm reads: {reason}."
        ) from None
