"""What the rules of a tokenizer.json mean: the bytes of an id, the space put before a text."""

import re
from collections.abc import Iterator
from typing import Any

from scratchlm.base.errors import CheckpointError
from scratchlm.tokenizer.definition import Definition, Part

SPACE = "\u2581"  # stands for a space inside SentencePiece's pieces
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")


def bytes_of_characters() -> dict[str, int]:
    """GPT-2's alphabet: the printable character that stands for each byte (its encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def pieces_of(
    definition: Definition, vocab: dict[str, int], source: str, *, words: bool
) -> list[bytes]:
    """The bytes that each id stands for, in order of ids; an id without a token has none.

    vocab    every token, added ones included
    words    tokens are whole words or characters, written as they are
    raises   CheckpointError where the decoder is neither byte-level nor SentencePiece's
    """
    types = {part.get("type") for part in _parts(definition.get("decoder"))}
    if not words and not types & {"ByteLevel", "ByteFallback", "Metaspace"}:
        raise CheckpointError(
            f"{source} decodes by {', '.join(map(str, types)) or 'nothing'}: scratchlm reads "
            "byte-level tokenizers, SentencePiece's and its own."
        )
    added = {token["content"] for token in definition.get("added_tokens") or []}
    alphabet = bytes_of_characters()
    pieces = [b""] * (max(vocab.values(), default=-1) + 1)
    for token, i in vocab.items():
        if words or token in added:
            pieces[i] = token.encode()
        elif "ByteLevel" in types:
            in_alphabet = alphabet.keys() >= set(token)
            pieces[i] = bytes(alphabet[c] for c in token) if in_alphabet else token.encode()
        elif "ByteFallback" in types and (byte := _BYTE_PIECE.fullmatch(token)):
            pieces[i] = bytes.fromhex(byte[1])
        else:
            pieces[i] = token.replace(SPACE, " ").encode()
    return pieces


def drops_first_space(definition: Definition) -> bool:
    """Whether decoding drops the space that encoding has put before the text."""
    return any(
        part.get("prepend_scheme", "always") != "never"
        if part.get("type") == "Metaspace"
        else part.get("type") == "Strip" and part.get("start") == 1
        for part in _parts(definition.get("decoder"))
    )


def first_token(definition: Definition) -> str | None:
    """The control token that its maker puts before every text, where there is one."""
    for part in _parts(definition.get("post_processor")):
        single = part.get("single")
        if part.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            token = single[0].get("SpecialToken") if isinstance(single[0], dict) else None
            name = token.get("id") if isinstance(token, dict) else None
            return name if isinstance(name, str) else None
    return None


def without_prefix(definition: Definition) -> Definition:
    """The same rules, but no space is put before the text."""
    rules = ("normalizer", "pre_tokenizer")
    return {**definition, **{rule: _unprefixed(definition.get(rule)) for rule in rules}}


def _unprefixed(part: Part | None) -> Part | None:
    if part is None or part.get("type") == "Prepend":
        return None
    if part.get("type") == "Metaspace":
        kept = {key: value for key, value in part.items() if key != "add_prefix_space"}
        return kept | {"prepend_scheme": "never"}
    if part.get("type") == "ByteLevel":
        return part | {"add_prefix_space": False}
    for name in _LISTS & part.keys():
        inner = map(_unprefixed, part[name])
        part = part | {name: [kept for kept in inner if kept]}
    return part


def markers_as_text(definition: Definition) -> Definition:
    """The same rules with every added token flagged special, so that all can be ignored.

    Tokens of white space alone stay: they are shorthand for text (GPT-NeoX, phi), not control.
    """
    added = definition.get("added_tokens") or []
    flagged = [t if t["content"].isspace() else t | {"special": True} for t in added]
    return {**definition, "added_tokens": flagged}


_LISTS = {
    "normalizers",
    "pretokenizers",
    "decoders",
    "processors",
}  # where a Sequence keeps its parts


def _parts(part: Any) -> Iterator[Part]:
    """A normalizer, pre-tokenizer or decoder, and those inside it if it is a Sequence."""
    if isinstance(part, dict):
        yield part
        for name in _LISTS & part.keys():
            for inner in part[name]:
                yield from _parts(inner)
