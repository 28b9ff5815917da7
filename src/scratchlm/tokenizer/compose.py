"""New tokenizers put together from their parts: the vocabulary, the rules, the control tokens."""

from collections.abc import Sequence
from typing import Any

from scratchlm.tokenizer.definition import Definition
from scratchlm.tokenizer.tokenizer import Tokenizer

Part = dict[str, Any]


def compose(
    kind: str,
    model: Part,
    roles: dict[str, str | None],
    *,
    normalizer: Part | None = None,
    pre_tokenizer: Part | None = None,
    decoder: Part | None = None,
    companions: dict[str, bytes] | None = None,
    **facts: Any,
) -> Tokenizer:
    """A tokenizer of our own making.

    model    the section `model` of tokenizer.json, control tokens in its vocabulary
    roles    "bos", "eos", "pad", "unk" -> name of the control token, or None
    facts    kept in tokenizer_config.json under "scratchlm": the pre-tokenizer's name, a note
    """
    vocab = model["vocab"]
    ids = vocab if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
    special = sorted({name for name in roles.values() if name}, key=ids.__getitem__)
    definition: Definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_control_token(name, ids[name]) for name in special],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,  # nothing is added by itself: bos and eos are the caller's choice
        "decoder": decoder,
        "model": model,
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # transformers' class for any tokenizer.json
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": name for role, name in roles.items() if name},
        "scratchlm": {"kind": kind, **facts},
    }
    return Tokenizer(definition, config, companions)


def _control_token(name: str, i: int) -> Part:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": name, "special": True, **flags}


def word_level(tokens: Sequence[str], unknown: str) -> Part:
    """A model whose ids are whole words or characters, in the order given."""
    return {
        "type": "WordLevel",
        "vocab": {token: i for i, token in enumerate(tokens)},
        "unk_token": unknown,
    }


def byte_level_bpe(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> Part:
    """A BPE model over GPT-2's alphabet of bytes."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": [list(pair) for pair in merges],
    }


def byte_level(*, use_regex: bool) -> Part:
    """The part that maps bytes to GPT-2's alphabet; use_regex also cuts by GPT-2's pattern."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def split(pattern: str, behavior: str = "Isolated") -> Part:
    """The part that cuts at every match of an Oniguruma pattern."""
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": behavior,
        "invert": False,
    }


def sequence(*parts: Part) -> Part:
    """Pre-tokenizers one after the other."""
    return {"type": "Sequence", "pretokenizers": list(parts)}
