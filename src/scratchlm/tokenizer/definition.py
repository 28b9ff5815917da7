"""tokenizer.json, the one format for every kind: read with distrust, written canonically."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from scratchlm.base.errors import CheckpointError, UserError
from scratchlm.base.files import read_json

Definition = dict[str, Any]

_MAX_FILE_BYTES = 64_000_000  # Gemma's, of 262,144 ids, has 33 MB
_MAX_IDS = 4_000_000
_MODELS = ("BPE", "Unigram", "WordLevel")
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def read_definition(path: Path) -> Definition:
    """Read a tokenizer.json and refuse what could harm the parser.

    Padding and truncation are dropped: they would cut or lengthen what `encode` returns, and a
    hostile padding length aborts the process (RELIABILITY: "pad Fixed 10^12").

    raises   CheckpointError naming the file: missing, too large, not JSON, of an unknown shape
    """
    if path.is_file() and path.stat().st_size > _MAX_FILE_BYTES:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes; a tokenizer.json of more than "
            f"{_MAX_FILE_BYTES} bytes is refused. Is it another kind of file?"
        )
    definition = read_json(path, CheckpointError)
    problem = _problem(definition)
    if problem:
        raise CheckpointError(f"{path} is not a tokenizer.json that scratchlm reads: {problem}.")
    return {**definition, "padding": None, "truncation": None}


def _problem(definition: Any) -> str | None:
    """What is wrong with the shape of a definition, or None."""
    if not isinstance(definition, dict) or not isinstance(definition.get("model"), dict):
        return "it has no section model"
    model = definition["model"]
    if model.get("type") not in _MODELS:
        return f"its model is {model.get('type')!r}, not one of {', '.join(_MODELS)}"
    if not isinstance(model.get("vocab"), (dict, list)):
        return "its model has no vocab"
    added = definition.get("added_tokens") or []
    if not isinstance(added, list) or not all(_is_added_token(token) for token in added):
        return "its added_tokens are not a list of tokens with id and content"
    return None


def _is_added_token(token: Any) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and isinstance(token.get("id"), int)
        and 0 <= token["id"] < _MAX_IDS
    )


def canonical_text(definition: Definition) -> str:
    """The text of a definition that is the same on every machine; its SHA-256 is the hash."""
    return json.dumps(definition, ensure_ascii=False, sort_keys=True, indent=2) + "\n"


def build_backend(definition: Definition, source: str) -> Backend:
    """Hand a definition to the `tokenizers` library.

    raises   CheckpointError naming `source` for whatever the library refuses or panics at
    """
    text = json.dumps(definition, ensure_ascii=False)
    with no_panic(CheckpointError, f"{source} cannot be used as a tokenizer.json"):
        return Backend.from_str(text)


@contextmanager
def no_panic(error: type[UserError], meaning: str) -> Iterator[None]:
    """Turn an error of the `tokenizers` library into `error`, panics of its Rust included.

    PanicException derives from BaseException and cannot be imported, so it is known by name.
    """
    try:
        yield
    except BaseException as bad:
        if isinstance(bad, Exception) or type(bad).__name__ == "PanicException":
            reason = " ".join(str(bad).split())[:300]
            raise error(f"{meaning}: {reason}.") from None
        raise


def without_prefix(definition: Definition) -> Definition:
    """The same definition, but no space is put before the text (it goes on from earlier text)."""

    def strip(part: Any) -> Any:
        if isinstance(part, list):
            return [strip(item) for item in part if not _is_prepend(item)]
        if not isinstance(part, dict):
            return part
        part = {key: strip(value) for key, value in part.items()}
        if part.get("type") == "Metaspace":
            part.pop("add_prefix_space", None)
            part["prepend_scheme"] = "never"
        elif part.get("type") == "ByteLevel":
            part["add_prefix_space"] = False
        return part

    normalizer = definition.get("normalizer")
    return {
        **definition,
        "normalizer": None if _is_prepend(normalizer) else strip(normalizer),
        "pre_tokenizer": strip(definition.get("pre_tokenizer")),
    }


def _is_prepend(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "Prepend"


def markers_as_text(definition: Definition) -> Definition:
    """The same definition with every added token flagged special, so that all can be ignored.

    Tokens of white space alone stay: they are shorthand for text (GPT-NeoX, phi), not control.
    """
    added = [
        {**token, "special": True} if not token["content"].isspace() else token
        for token in definition.get("added_tokens") or []
    ]
    return {**definition, "added_tokens": added}


def component_types(part: Any) -> set[str]:
    """The types of a normalizer, pre-tokenizer or decoder, those inside a Sequence included."""
    if isinstance(part, list):
        return set().union(*(component_types(item) for item in part))
    if not isinstance(part, dict):
        return set()
    inner = component_types(list(part.values()))
    return inner | {part["type"]} if isinstance(part.get("type"), str) else inner


def bytes_of_characters() -> dict[str, int]:
    """GPT-2's alphabet: the printable character that stands for each byte (its encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + i): byte for i, byte in enumerate(rest)
    }


def pieces_of(definition: Definition, vocab: dict[str, int], source: str) -> list[bytes]:
    """The bytes that each id stands for, in order of ids; an id without a token has none.

    vocab    every token, added ones included
    raises   CheckpointError where the decoder is neither byte-level, SentencePiece's nor absent
    """
    types = component_types(definition.get("decoder"))
    alphabet = bytes_of_characters()
    added = {token["content"] for token in definition.get("added_tokens") or []}
    pieces = [b""] * (max(vocab.values(), default=-1) + 1)
    for token, i in vocab.items():
        if token in added:
            pieces[i] = token.encode()
        elif "ByteLevel" in types:
            pieces[i] = bytes(alphabet[char] for char in token)
        elif types & {"ByteFallback", "Metaspace"}:
            byte = _BYTE_PIECE.fullmatch(token) if "ByteFallback" in types else None
            pieces[i] = bytes.fromhex(byte[1]) if byte else token.replace("\u2581", " ").encode()
        elif types <= {"Fuse"}:
            pieces[i] = token.encode()
        else:
            raise CheckpointError(
                f"{source} decodes by {', '.join(sorted(types))}: scratchlm reads byte-level, "
                "SentencePiece, word and character tokenizers."
            )
    return pieces
