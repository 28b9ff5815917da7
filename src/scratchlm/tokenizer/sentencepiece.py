"""SentencePiece models as tokenizer.json, with the same ids."""

import base64
from pathlib import Path

from scratchlm.base.errors import CheckpointError
from scratchlm.tokenizer.compose import bpe, compose, replace
from scratchlm.tokenizer.definition import Part
from scratchlm.tokenizer.rules import SPACE
from scratchlm.tokenizer.sentencepiece_file import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Model,
    parse_model,
)
from scratchlm.tokenizer.tokenizer import Tokenizer

_MAX_FILE_BYTES = 64_000_000
_MAX_PIECE = 1024  # characters; each is a place to cut, and cuts of a million take minutes


def from_model_file(path: Path | str, *, begins: bool = False) -> Tokenizer:
    """Make a tokenizer of a SentencePiece `.model` file (Llama 2's, llama2.c's, one's own).

    begins   the model was trained by someone who puts bos before every text
    raises   CheckpointError naming the file: missing, damaged, or of a kind that tokenizer.json
             cannot hold
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Give the path of a SentencePiece .model.")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise CheckpointError(f"{path} has over {_MAX_FILE_BYTES} bytes: it is no .model file.")
    return from_model(path.read_bytes(), str(path), begins=begins)


def from_model(content: bytes, source: str, *, begins: bool = False) -> Tokenizer:
    """Make a tokenizer of the bytes of a `.model` file; `source` is its name for messages."""
    model = parse_model(content, source)
    try:
        return of_pieces(model, {"tokenizer.model": content}, begins=begins)
    except CheckpointError as bad:
        raise CheckpointError(f"{source}: {bad}") from None


def of_pieces(
    model: Model, companions: dict[str, bytes] | None = None, *, begins: bool = False
) -> Tokenizer:
    """Make a tokenizer of pieces and rules; `companions` are kept beside it, by name.

    begins   the model was trained by someone who puts bos before every text
    """
    scores = "".join(f"{piece.text}\t{piece.score:g}\n" for piece in model.pieces)
    return compose(
        f"sentencepiece-{model.type}",
        _bpe(model) if model.type == "bpe" else _unigram(model),
        model.roles,
        control=[piece.text for piece in model.pieces if piece.type in (CONTROL, UNKNOWN)],
        markers=[piece.text for piece in model.pieces if piece.type == USER_DEFINED],
        normalizer={"type": "Sequence", "normalizers": _normalizers(model)},
        decoder={"type": "Sequence", "decoders": _decoders(model)},
        begins=begins,
        companions={**(companions or {}), "tokenizer.vocab": scores.encode()},
    )


def _bpe(model: Model) -> Part:
    """BPE with explicit merges: every pair of pieces that makes a piece is one.

    SentencePiece merges the pair whose result has the best score, so the merges are ranked by
    the score of what they make.
    """
    if max(len(piece.text) for piece in model.pieces) > _MAX_PIECE:
        raise CheckpointError(f"a piece of it has over {_MAX_PIECE} characters: it was damaged.")
    text = {piece.text for piece in model.pieces if piece.type in (NORMAL, USER_DEFINED)}
    ranked = sorted((p for p in model.pieces if p.type == NORMAL), key=lambda p: -p.score)
    merges = [
        (piece.text[:cut], piece.text[cut:])
        for piece in ranked
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in text and piece.text[cut:] in text
    ]
    unknown = {"unk_token": model.roles["unk"], "fuse_unk": True}
    tokens = [piece.text for piece in model.pieces]
    return bpe(tokens, merges) | unknown | {"byte_fallback": model.byte_fallback}


def _unigram(model: Model) -> Part:
    """Unigram with its scores; control tokens and bytes get one so low that no text uses them.

    With its stored score of 0 the library would read the text "<s>" as the control token.
    """
    lowest = min((p.score for p in model.pieces if p.type == NORMAL), default=0.0)
    never = (lowest - 10) * 1000  # an unknown character costs lowest - 10
    return {
        "type": "Unigram",
        "unk_id": next(i for i, p in enumerate(model.pieces) if p.type == UNKNOWN),
        "vocab": [[p.text, p.score if p.type == NORMAL else never] for p in model.pieces],
        "byte_fallback": model.byte_fallback,
    }


def _normalizers(model: Model) -> list[Part]:
    parts: list[Part] = []
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode("ascii")
        parts.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.squeeze_spaces:
        parts.append(replace({"Regex": r"\A +| +\z"}, ""))
        parts.append(replace({"Regex": " {2,}"}, " "))
    if model.dummy_prefix:
        parts.append({"type": "Prepend", "prepend": SPACE})
    return [*parts, replace({"String": " "}, SPACE)]


def _decoders(model: Model) -> list[Part]:
    parts = [replace({"String": SPACE}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if model.dummy_prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return parts
