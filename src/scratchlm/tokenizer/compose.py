"""New tokenizers put together from their parts: the vocabulary, the rules, the control tokens."""

from collections.abc import Sequence

from scratchlm.tokenizer.added import added_token
from scratchlm.tokenizer.config import UNKNOWN
from scratchlm.tokenizer.definition import Definition, Part
from scratchlm.tokenizer.tokenizer import Tokenizer


def compose(
    kind: str,
    model: Part,
    roles: dict[str, str | None],
    *,
    control: Sequence[str] = (),
    markers: Sequence[str] = (),
    normalizer: Part | None = None,
    pre_tokenizer: Part | None = None,
    decoder: Part | None = None,
    begins: bool = False,
    facts: dict[str, str] | None = None,
    companions: dict[str, bytes] | None = None,
) -> Tokenizer:
    """A tokenizer of our own making.

    model        the section `model` of tokenizer.json, control tokens in its vocabulary
    roles        "bos", "eos", "pad", "unk" -> name of the control token, or None
    control      control tokens that have none of these roles
    markers      tokens that are matched before the model sees the text, but can stand in text
    begins       the model was trained by someone who puts bos before every text
    facts        for tokenizer_config.json: "pre_tokenizer" (llama.cpp's name of it), "note"
    companions   further files to keep beside tokenizer.json, by name
    """
    vocab = model["vocab"]
    ids = vocab if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
    named = {name for name in roles.values() if name} | set(control)
    added = dict.fromkeys(named, True) | dict.fromkeys(markers, False)
    definition: Definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(ids[n], n, special=added[n]) for n in sorted(added, key=ids.__getitem__)
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _begin(ids, roles["bos"]) if begins and roles.get("bos") else None,
        "decoder": decoder,
        "model": model,
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # transformers' class for any tokenizer.json
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": name for role, name in roles.items() if name},
        "scratchlm": {"kind": kind, **(facts or {})},
    }
    return Tokenizer(definition, config, companions)


def compose_characters(tokens: Sequence[str], roles: dict[str, str | None]) -> Tokenizer:
    """A tokenizer whose ids are single characters, in the order given.

    tokens   characters, and the control tokens that `roles` names
    """
    return compose(
        "char",
        word_level(tokens, UNKNOWN),
        roles,
        pre_tokenizer=split(r"[\s\S]"),
        decoder={"type": "Fuse"},
    )


def _begin(ids: dict[str, int], bos: str | None) -> Part:
    """What makes other programs put bos before a text; here `Tokenizer.begins` tells of it."""
    assert bos
    begin = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, begin, second],
        "special_tokens": {bos: {"id": bos, "ids": [ids[bos]], "tokens": [bos]}},
    }


def word_level(tokens: Sequence[str], unknown: str) -> Part:
    """A model whose ids are whole words or characters, in the order given."""
    return {
        "type": "WordLevel",
        "vocab": {token: i for i, token in enumerate(tokens)},
        "unk_token": unknown,
    }


def bpe(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> Part:
    """A BPE model; the earlier a merge stands, the earlier it is made."""
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


def replace(pattern: Part, content: str) -> Part:
    """The part that replaces what matches {"String": ...} or {"Regex": ...}."""
    return {"type": "Replace", "pattern": pattern, "content": content}
