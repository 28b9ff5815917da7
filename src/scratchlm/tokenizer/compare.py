"""Several tokenizers on one text: how short, how fast, how faithful."""

import re
import time
from dataclasses import dataclass

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.tokenizer import Tokenizer

_HAN_OR_WORD = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]|[^\\W\u3400-\u4dbf\u4e00-\u9fff]+")
_CONTEXT = 20  # characters shown on each side of a difference


@dataclass(frozen=True)
class Comparison:
    """One tokenizer on one text; rates are over the whole text."""

    name: str
    vocab_size: int
    n_tokens: int
    bytes_per_token: float  # UTF-8
    tokens_per_character: float
    tokens_per_word: float  # a Han character counts as a word
    encode_mb_per_s: float  # 10^6 bytes, one text at a time
    difference: str | None  # where decode(encode(text)) first differs from the text


def compare(tokenizers: dict[str, Tokenizer], text: str) -> list[Comparison]:
    """Encode `text` with each tokenizer, in the order given.

    raises   DataError for an empty text, or naming the tokenizer that cannot encode it
    """
    if not text:
        raise DataError("there is no text to compare tokenizers on.")
    return [_measure(name, tokenizer, text) for name, tokenizer in tokenizers.items()]


def _measure(name: str, tokenizer: Tokenizer, text: str) -> Comparison:
    tokenizer.encode("")  # whatever is loaded at the first call is not part of the speed
    start = time.perf_counter()
    try:
        tokens = tokenizer.encode(text)
    except DataError as bad:
        raise DataError(f"{name}: {bad}") from None
    seconds = time.perf_counter() - start
    n_bytes = len(text.encode())
    n_words = len(_HAN_OR_WORD.findall(text))
    return Comparison(
        name=name,
        vocab_size=tokenizer.vocab_size,
        n_tokens=len(tokens),
        bytes_per_token=n_bytes / max(len(tokens), 1),
        tokens_per_character=len(tokens) / len(text),
        tokens_per_word=len(tokens) / max(n_words, 1),
        encode_mb_per_s=n_bytes / 1e6 / max(seconds, 1e-9),
        difference=first_difference(text, tokenizer.decode(tokens)),
    )


def first_difference(text: str, other: str) -> str | None:
    """A line that shows where two texts first differ, or None if they are equal."""
    if text == other:
        return None
    n_common = min(len(text), len(other))
    at = next((i for i in range(n_common) if text[i] != other[i]), n_common)
    begin, end = max(0, at - _CONTEXT), at + _CONTEXT
    return f"character {at}: {text[begin:end]!r} became {other[begin:end]!r}"
