"""Which tokenizers the compiled code can run, and what it then needs of tokenizer.json.

Byte-level BPE in the forms that models really have. Their ids are those of the `tokenizers`
library, which stays the reference and runs all others.
"""

from contextlib import suppress
from typing import Any

import numpy as np

from scratchlm.native import bpe
from scratchlm.tokenizer.cuts import cuts_of
from scratchlm.tokenizer.definition import Definition, Part
from scratchlm.tokenizer.pattern import DIGITS, Chars, Node, UnknownPattern, parse
from scratchlm.tokenizer.rules import bytes_of_characters

# The library's own, for ByteLevel with use_regex (OpenAI's encoder.py)
_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def encoder_of(definition: Definition) -> bpe.Encoder | None:
    """The compiled encoder of a definition that the library has taken.

    None: some rule is not known here, or there is no compiled code.
    """
    if not bpe.available():
        return None
    try:
        _check(definition)
        cuts = cuts_of(tuple(_patterns(definition.get("pre_tokenizer"))))
        return _encoder(definition["model"], cuts)
    except UnknownPattern:
        return None


def _check(definition: Definition) -> None:
    """Refuse whatever might change ids and is not known here."""
    model = definition["model"]
    changes = (
        definition.get("normalizer"),
        definition.get("truncation"),
        definition.get("padding"),
        model.get("type", "BPE") != "BPE",
        not isinstance(model.get("merges"), list),
        not isinstance(model.get("vocab"), dict),
        model.get("dropout"),
        model.get("continuing_subword_prefix"),
        model.get("end_of_word_suffix"),
        model.get("byte_fallback"),
        # such tokens are text, and matched before anything else
        any(token["content"].isspace() for token in definition.get("added_tokens") or []),
    )
    if any(changes):
        raise UnknownPattern("a rule that changes ids")
    if not all(map(_leaves_ids, _flat(definition.get("post_processor"), "processors"))):
        raise UnknownPattern("a post-processor that may change ids")


def _leaves_ids(post_processor: Part) -> bool:
    """Whether it changes nothing where control tokens are not added."""
    if post_processor.get("type") == "TemplateProcessing":
        single = post_processor.get("single") or []
        return [part["Sequence"]["id"] for part in single if "Sequence" in part] == ["A"]
    return post_processor.get("type") == "ByteLevel"


def _flat(part: Any, inner: str) -> list[Part]:
    """The parts of a Sequence, one after the other."""
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [one for each in part[inner] for one in _flat(each, inner)]


def _patterns(pre_tokenizer: Any) -> list[Node]:
    """What the text is cut by: splits, then ByteLevel."""
    parts = _flat(pre_tokenizer, "pretokenizers")
    if not parts or parts[-1].get("type") != "ByteLevel" or parts[-1].get("add_prefix_space", True):
        raise UnknownPattern("no ByteLevel at the end, or one that adds a space")
    patterns = [_pattern(part) for part in parts[:-1]]
    return patterns + [parse(_GPT2_PATTERN)] * bool(parts[-1].get("use_regex", True))


def _pattern(part: Part) -> Node:
    match part:
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated"}:
            if not part.get("invert"):
                return parse(regex)
        case {"type": "Digits", "individual_digits": True}:
            return Chars(kinds=(DIGITS,))
    raise UnknownPattern(str(part.get("type")))


def _encoder(model: Part, cuts: bpe.Cuts) -> bpe.Encoder:
    vocab: dict[str, int] = model["vocab"]
    alphabet = bytes_of_characters()
    if model.get("unk_token") and not alphabet.keys() <= vocab.keys():
        raise UnknownPattern("bytes that become the unknown token")
    if len(set(vocab.values())) < len(vocab) or max(vocab.values()) >= bpe.MAX_IDS:
        raise UnknownPattern("ids that tokens share, or that are too large")
    tokens = _tokens(vocab, alphabet)
    whole = [i for i, token in enumerate(tokens) if token] if model.get("ignore_merges") else []
    return bpe.Encoder(cuts, tokens, _merges(model["merges"], vocab), whole)


def _tokens(vocab: dict[str, int], alphabet: dict[str, int]) -> list[bytes]:
    """The bytes of each id; none for one that holds other characters: it stands in no text."""
    others = {chr(code): "\uffff" for code in range(256)}  # which latin-1 cannot write
    written = str.maketrans(others | {char: chr(byte) for char, byte in alphabet.items()})
    tokens = [b""] * (max(vocab.values()) + 1)
    for token, i in vocab.items():
        with suppress(UnicodeEncodeError):
            tokens[i] = token.translate(written).encode("latin-1")
    return tokens


def _merges(merges: list[Any], vocab: dict[str, int]) -> np.ndarray:
    """(3, n) ids of the left, the right and both; of a pair that stands twice, the later counts."""
    if len(merges) >= bpe.MAX_MERGES:
        raise UnknownPattern("too many merges")
    pairs = [tuple(one.split(" ")) if isinstance(one, str) else tuple(one) for one in merges]
    if len(set(pairs)) < len(pairs):
        last = {pair: rank for rank, pair in enumerate(pairs)}
        pairs = sorted(last, key=last.__getitem__)
    rows = [
        [vocab[left] for left, _ in pairs],
        [vocab[right] for _, right in pairs],
        [vocab[left + right] for left, right in pairs],
    ]
    return np.array(rows, dtype=np.uint32)
