"""tokenizer.json, the one format for every kind: read with distrust, written canonically."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from scratchlm.base.errors import CheckpointError, UserError
from scratchlm.base.files import read_json

Part = dict[str, Any]
Definition = Part  # all of a tokenizer.json

_MAX_FILE_BYTES = 64_000_000  # Gemma's, with 262,144 ids, has 33 MB
_MAX_IDS = 4_000_000
_MODELS = ("BPE", "Unigram", "WordLevel")


def read_definition(path: Path) -> Definition:
    """Read a tokenizer.json and refuse what could harm its parser.

    Padding and truncation are dropped: they would change what `encode` returns, and a padding
    length of 10^12 aborts the process.

    raises   CheckpointError naming the file: missing, too large, not JSON, of an unknown shape
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist. Give a tokenizer.json or a folder that holds one; a "
            "SentencePiece .model file can be named itself."
        )
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes; a tokenizer.json of more than "
            f"{_MAX_FILE_BYTES} bytes is refused. Is it another kind of file?"
        )
    definition = read_json(path, CheckpointError)
    if problem := _problem(definition):
        raise CheckpointError(f"{path} is not a tokenizer.json that scratchlm reads: {problem}.")
    return {**definition, "padding": None, "truncation": None}


def _problem(definition: Any) -> str | None:
    """What is wrong with the shape of a definition, or None."""
    if not isinstance(definition, dict) or not isinstance(definition.get("model"), dict):
        return "it has no section model"
    model = definition["model"]
    vocab = model.get("vocab")
    if model.get("type", "BPE") not in _MODELS:
        return f"its model is {model['type']!r}, not one of {', '.join(_MODELS)}"
    if not isinstance(vocab, (dict, list)):
        return "its model has no vocab"
    if isinstance(vocab, dict) and not all(_is_id(i) for i in vocab.values()):
        return f"its vocab has an id that is not a number below {_MAX_IDS}"
    added = definition.get("added_tokens") or []
    if not isinstance(added, list) or not all(_is_added_token(token) for token in added):
        return "its added_tokens are not a list of tokens with id and content"
    return None


def _is_id(i: Any) -> bool:
    return isinstance(i, int) and 0 <= i < _MAX_IDS


def _is_added_token(token: Any) -> bool:
    is_token = isinstance(token, dict) and isinstance(token.get("content"), str)
    return is_token and token["content"] != "" and _is_id(token.get("id"))


def canonical_text(definition: Definition) -> str:
    """The text of a definition that is the same on every machine; its SHA-256 is the hash."""
    return json.dumps(definition, ensure_ascii=False, sort_keys=True, indent=2) + "\n"


def build_backend(definition: Definition, source: str) -> Backend:
    """Hand a definition to the `tokenizers` library.

    raises   CheckpointError naming `source` for whatever the library refuses or panics at
    """
    with no_panic(CheckpointError, f"{source} cannot be used as a tokenizer.json"):
        return Backend.from_str(json.dumps(definition, ensure_ascii=False))


@contextmanager
def no_panic(error: type[UserError], meaning: str) -> Iterator[None]:
    """Turn an error of the `tokenizers` library into `error`, panics of its Rust included.

    PanicException derives from BaseException and cannot be imported, so it is known by name.
    """
    try:
        yield
    except BaseException as bad:
        if not isinstance(bad, Exception) and type(bad).__name__ != "PanicException":
            raise
        reason = " ".join(str(bad).split())[:300]
        raise error(f"{meaning}: {reason}.") from None
