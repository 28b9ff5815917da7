"""A tokenizer as the fields of a GGUF file, in the way that llama.cpp cuts text the same."""

from typing import Any

from scratchlm.base.errors import ConfigError
from scratchlm.formats.gguf_pre_tokenizers import name_of
from scratchlm.tokenizer.definition import Definition
from scratchlm.tokenizer.rules import SPACE, bytes_of_characters
from scratchlm.tokenizer.sentencepiece_file import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
)
from scratchlm.tokenizer.tokenizer import Tokenizer

_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}  # ours -> theirs
_NO_MERGE = "\u0100 \u0100"  # of two zero bytes: llama.cpp takes no file without merges


def token_fields(tokenizer: Tokenizer, n_ids: int) -> dict[str, Any]:
    """The fields behind "tokenizer.ggml.", filled up to as many ids as the model has.

    raises   ConfigError for a tokenizer that llama.cpp would read otherwise
    """
    definition = tokenizer.definition
    model = definition["model"]
    if tokenizer.kind == "char":
        fields = _characters(tokenizer)
    elif model.get("type", "BPE") == "BPE" and "ByteLevel" in str(definition.get("pre_tokenizer")):
        fields = _byte_level(definition)
    elif model.get("type", "BPE") == "BPE" and SPACE in str(definition.get("normalizer")):
        fields = _sentencepiece(tokenizer)
    else:
        raise ConfigError(
            f"llama.cpp has no tokenizer of kind {tokenizer.kind} ({model.get('type')}): a GGUF "
            "file holds byte-level BPE, SentencePiece BPE or characters. Train the model with "
            "tokenizer.kind = bpe, sentencepiece-bpe or char."
        )
    for role, theirs in _ROLES.items():
        if (i := getattr(tokenizer, f"{role}_id")) is not None:
            fields[f"{theirs}_token_id"] = i
    fields["add_bos_token"] = tokenizer.begins
    missing = n_ids - len(fields["tokens"])
    fields["tokens"] += [f"[PAD{i}]" for i in range(len(fields["tokens"]), n_ids)]
    fields["token_type"] += [UNUSED] * missing
    if "scores" in fields:
        fields["scores"] += [min(fields["scores"]) - 1.0] * missing
    return fields


def _byte_level(definition: Definition) -> dict[str, Any]:
    name = name_of(definition.get("pre_tokenizer"))
    if name is None:
        raise ConfigError(
            "this tokenizer cuts text in a way that has no name in llama.cpp, which would cut it "
            "otherwise. A tokenizer of kind bpe, trained here, can be exported."
        )
    normalizer = definition.get("normalizer")
    if normalizer not in (None, {"type": "NFC"}):  # NFC: text almost always is
        raise ConfigError(
            f"this tokenizer rewrites text before it cuts it ({normalizer.get('type')}), which "
            "llama.cpp does not."
        )
    tokens, types = _tokens(definition)
    merges = [
        pair if isinstance(pair, str) else " ".join(pair) for pair in definition["model"]["merges"]
    ]
    return {
        "model": "gpt2",
        "pre": name,
        "tokens": tokens,
        "token_type": types,
        "merges": merges or [_NO_MERGE],
    }


def _characters(tokenizer: Tokenizer) -> dict[str, Any]:
    """Characters as byte-level BPE: merges join the bytes of each, and never two characters."""
    letters = {byte: letter for letter, byte in bytes_of_characters().items()}
    tokens, types = _tokens(tokenizer.definition)
    merges: dict[str, None] = {}
    for i, kind in enumerate(types):
        if kind == NORMAL:
            written = [letters[byte] for byte in tokens[i].encode()]
            tokens[i] = "".join(written)
            for n in range(1, len(written)):
                merges["".join(written[:n]) + " " + written[n]] = None
    return {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": types,
        "merges": sorted(merges, key=len) or [_NO_MERGE],
    }


def _sentencepiece(tokenizer: Tokenizer) -> dict[str, Any]:
    definition = tokenizer.definition
    tokens, types = _tokens(definition)
    types = [
        BYTE if kind == NORMAL and token.startswith("<0x") and len(token) == 6 else kind
        for token, kind in zip(tokens, types, strict=True)
    ]
    if types.count(BYTE) != 256:
        raise ConfigError(
            "this SentencePiece tokenizer has no tokens for bytes: llama.cpp would stop at the "
            "first character that it does not know. Train one with byte fallback."
        )
    if tokenizer.unk_id is not None:
        types[tokenizer.unk_id] = UNKNOWN
    return {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "token_type": types,
        "scores": scores_of(definition, tokens),
        "add_space_prefix": _puts_space(definition),
    }


def _puts_space(definition: Definition) -> bool:
    """Whether a space is put before a text.

    raises   ConfigError for other changes of the text, which llama.cpp does not make
    """
    normalizer = definition.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    for part in parts:
        if part.get("type") == "Prepend":
            continue
        if part.get("type") != "Replace" or part.get("pattern") != {"String": " "}:
            raise ConfigError(
                f"this SentencePiece tokenizer rewrites text ({part.get('type')}), which llama.cpp "
                "does not. Train one here: it keeps text as it is."
            )
    return any(part.get("type") == "Prepend" for part in parts)


def scores_of(definition: Definition, tokens: list[str]) -> list[float]:
    """A score for each token: SentencePiece merges what has the best, so earlier merges have more.

    definition   with a BPE model
    """
    ranks: dict[str, float] = {}
    for n, pair in enumerate(definition["model"]["merges"], 1):
        whole = "".join(pair.split(" ") if isinstance(pair, str) else pair)
        ranks.setdefault(whole, -float(n))
    worst = -float(len(definition["model"]["merges"]) + 1)
    return [ranks.get(token, worst) for token in tokens]


def _tokens(definition: Definition) -> tuple[list[str], list[int]]:
    """Tokens by id, and their types."""
    vocab = dict(definition["model"]["vocab"])
    types = dict.fromkeys(vocab, NORMAL)
    for token in definition.get("added_tokens") or []:
        vocab[token["content"]] = token["id"]
        types[token["content"]] = CONTROL if token.get("special") else USER_DEFINED
    by_id = {i: token for token, i in vocab.items()}
    if sorted(by_id) != list(range(len(vocab))):
        raise ConfigError("two tokens of this tokenizer share an id, or an id has none.")
    ordered = [by_id[i] for i in range(len(by_id))]
    return ordered, [types[token] for token in ordered]
