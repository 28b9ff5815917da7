"""The ways to cut text before BPE that llama.cpp has, by its names (its src/llama-vocab.cpp)."""

from typing import Any

from scratchlm.tokenizer.compose import byte_level, sequence, split
from scratchlm.tokenizer.definition import Part
from scratchlm.tokenizer.train_bpe import PATTERNS as DEEPSEEK_V3

_DIGIT = r"\p{N}"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_LLAMA3 = sequence(split(rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}"), byte_level(use_regex=False))
_QWEN2 = sequence(split(rf"{_WORDS}|\p{{N}}|{_REST}"), byte_level(use_regex=False))
_SMOLLM = sequence(split(_DIGIT), byte_level(use_regex=True))

# llama.cpp's name -> the part of tokenizer.json; of several names the first is the one we write
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

# These need no merges for a piece that is a token, and put bos before every text.
LLAMA3_NAMES = frozenset({"llama-bpe", "llama3", "llama-v3"})


def name_of(pre_tokenizer: Part | None) -> str | None:
    """llama.cpp's name of a way to cut text; None where it has none."""
    cuts = _cuts(pre_tokenizer)
    return next((name for name, part in PRE_TOKENIZERS.items() if _cuts(part) == cuts), None)


def _cuts(part: Part | None) -> list[Any]:
    """What a pre-tokenizer does, one step after the other, however it is written down."""
    if not isinstance(part, dict):
        return []
    kind = part.get("type")
    if kind == "Sequence":
        return [step for inner in part["pretokenizers"] for step in _cuts(inner)]
    if kind == "Split":
        return [("split", part.get("pattern"), part.get("behavior"), part.get("invert"))]
    if kind == "Digits" and part.get("individual_digits"):
        return _cuts(split(_DIGIT))
    if kind == "ByteLevel":
        return [("bytes", part.get("add_prefix_space"), part.get("use_regex", True))]
    return [part]
