"""The compiled encoder gives the ids of the `tokenizers` library, or stands aside."""

import functools
import itertools
import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from scratchlm.base.errors import DataError
from scratchlm.formats.gguf_pre_tokenizers import PRE_TOKENIZERS
from scratchlm.native import bpe
from scratchlm.tokenizer.compose import byte_level, sequence, split
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.cuts import edges_of_kind
from scratchlm.tokenizer.definition import build_backend
from scratchlm.tokenizer.fast import encoder_of
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.rules import bytes_of_characters
from scratchlm.tokenizer.tokenizer import _LONG, Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RULES = {
    **{
        name: PRE_TOKENIZERS[name] for name in ("gpt-2", "llama3", "qwen2", "smollm", "deepseek-v3")
    },
    "o200k": sequence(split(O200K), byte_level(use_regex=False)),
    "starcoder": sequence(
        {"type": "Digits", "individual_digits": True}, byte_level(use_regex=True)
    ),
    "nothing": byte_level(use_regex=False),
    "gaps": sequence(split("a?b{2,3}|[\u4e00-\u9fff]x*(?!y)"), byte_level(use_regex=False)),
}
CORNERS = (
    "'s 'S 'll 'LL 've 'RE 'd 'M 't 'x '\u017f \u212a \u00df \ufb06 don't I'LL'VE ",
    "  \t\n\r\n \u3000\u3000\u00a0\u2028\u0085\x0b\x1c\x1f \n\n\n   x    \n  ",
    "0 12 123 1234 12345678 \u0664\u0665 \u00bd \u2167 \uff11\uff12 \u4e00\u4e8c x1y22 ",
    "\u5e8a\u524d\u660e\u6708\u5149\uff0c\u7591\u662f\u5730\u4e0a\u971c\u3002 \u304b\u306a\u30ab ",
    "e\u0301 a\u0308\u0323 \u0e17\u0e35\u0e48 \u0928\u093f \u200d\u200b\ufeff \u0378 \ue000 ",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0010ffff ",
    "\U000323b0 \x00\x07\x7f \x85 \ufffd\ufffe ",
    '<|endoftext|> <|im_start|> ... !!! $x_1 == {"a": [1]}; // \\n /* */ -- ___ ',
    "http://a.b/c?d=e\r\n ",
)
mixed = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.sampled_from([part for corner in CORNERS for part in corner.split(" ")]),
        st.text("ab '\n\r\t\u3000\u4e00\u5e8a1\u0301.", max_size=12),
    ),
    max_size=12,
).map("".join)

pytestmark = pytest.mark.skipif(not bpe.available(), reason="the kernels were not built")


def ids_of(backend: Backend, texts: list[str]) -> list[list[int]]:
    return [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]


def ids_by(encoder: bpe.Encoder, texts: list[str]) -> list[list[int]]:
    return [encoder.encode(text.encode()).tolist() for text in texts]


@functools.cache
def model_across_cuts() -> dict:
    """A vocabulary learned without any cuts: wherever a cut were missed, ids would differ."""
    learner = Backend.from_str(
        json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})
    )
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    lines = (Path(__file__).parents[1] / "data" / "lines.txt").read_text(encoding="utf-8")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=alphabet, show_progress=False)
    short = [lines[i : i + 200] for i in range(0, len(lines), 50)]
    learner.train_from_iterator([*short, *CORNERS * 3], trainer)
    return json.loads(learner.to_str())["model"]


@functools.cache
def pair_of(name: str) -> tuple[bpe.Encoder, Backend]:
    """Ours and the library's, for one way to cut."""
    definition = {"version": "1.0", "pre_tokenizer": RULES[name], "model": model_across_cuts()}
    encoder = encoder_of(definition)
    assert encoder is not None
    return encoder, build_backend(definition, name)


@pytest.mark.parametrize("name", RULES)
def test_ids_of_corners(name, lines):
    encoder, backend = pair_of(name)
    texts = [*CORNERS, *lines, *map("".join, itertools.permutations(CORNERS, 3))]
    assert ids_by(encoder, texts) == ids_of(backend, texts)


@pytest.mark.parametrize("name", RULES)
@given(texts=st.lists(mixed, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_ids_of_random_text(name, texts):
    encoder, backend = pair_of(name)
    assert ids_by(encoder, texts) == ids_of(backend, texts)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("o200k", 16),
        ("deepseek-v3", 16),
        *(pytest.param(x, 1, marks=pytest.mark.slow) for x in RULES),
    ],
)
def test_every_character_is_cut_alike(name, step):
    """Each of Unicode's characters between two others; unassigned ones too."""
    encoder, backend = pair_of(name)
    codes = [*range(0xD800), *range(0xE000, 0x32400), *range(0xE0000, 0xE0200), 0x10FFFF][::step]
    at_once = 2000
    texts = [
        "".join(f"a{chr(code)}'s {chr(code)}1" for code in codes[i : i + at_once])
        for i in range(0, len(codes), at_once)
    ]
    assert ids_by(encoder, texts) == ids_of(backend, texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["\\s", *(f"\\p{{{x}}}" for x in ("L", "N", "P", "S", "M", "Lu", "Lo"))]
)
def test_kinds_are_what_the_library_says_of_every_character(kind):
    """Also of those that `cuts` does not ask for."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    cut = pre_tokenizers.Split(Regex(f"{kind}+"), "removed")
    others = cut.pre_tokenize_str("".join(map(chr, codes)))
    members = set(range(len(codes)))
    for _, (start, stop) in others:
        members -= set(range(start, stop))
    found = np.searchsorted(edges_of_kind(kind), codes, side="right") % 2 == 1
    assert set(np.flatnonzero(found).tolist()) == members


@pytest.mark.parametrize("letter", "strevmld")
def test_letters_fold_as_the_library_folds_them(letter):
    """Asked of every character: only the long s beside the two cases."""
    edges = edges_of_kind(f"(?i:{letter})").reshape(-1, 2)
    members = {code for first, behind in edges.tolist() for code in range(first, behind)}
    extra = {0x17F} if letter == "s" else set()
    assert members == {ord(letter), ord(letter.upper())} | extra


@pytest.mark.parametrize("name", ["gpt-2", "deepseek-v3"])
@pytest.mark.parametrize("unit", ["ab", "\u5e8a\u524d", " ", "\n ", "9", "!?", "a\u0301", "\x00"])
def test_a_word_of_a_megabyte(name, unit):
    encoder, backend = pair_of(name)
    text = unit * (20_000 // len(unit))
    assert ids_by(encoder, [text]) == ids_of(backend, [text])
    start = time.thread_time()
    ids = encoder.encode(text.encode() * 50)
    assert time.thread_time() - start < 3  # measured: at most 0.3 s; a quadratic way takes hours
    assert len(ids) >= 49 * len(encoder.encode(text.encode())) / 2


@pytest.mark.parametrize("kind", ["bpe", "gpt2"])
def test_the_class_takes_it_for_long_texts(tokenizers, lines, kind):
    tokenizer = tokenizers[kind]
    backend = tokenizer._backend(False, False)
    long = "\n".join(lines)
    long *= _LONG // len(long) + 1
    (ids,) = ids_of(backend, [long])
    fresh = pickle.loads(pickle.dumps(tokenizer))
    assert fresh.encode("short") == ids_of(backend, ["short"])[0]
    assert "fast" not in vars(fresh)
    assert fresh.encode(long) == ids
    assert vars(fresh)["fast"] is not None
    assert fresh.encode_batch(["a", long, ""]) == [*ids_of(backend, ["a"]), ids, []]
    assert fresh.encode_bytes(long.encode()).tolist() == ids


def test_control_tokens_in_a_long_text_are_text_unless_allowed(tokenizers):
    tokenizer = tokenizers["gpt2"]
    n = _LONG // 10
    assert tokenizer.eos_id not in tokenizer.encode("ab<|endoftext|>" * n)
    allowed = tokenizer.encode("ab<|endoftext|>" * n, allowed_special=True)
    assert allowed.count(tokenizer.eos_id) == n


def test_a_lone_surrogate_in_a_long_text_is_refused(tokenizers):
    with pytest.raises(DataError, match="lone surrogate"):
        tokenizers["bpe"].encode("a" * _LONG + "\udc00")


def test_kinds_without_it_are_encoded_as_before(tokenizers, lines):
    for kind in ("char", "whitespace", "sentencepiece-bpe", "sentencepiece-unigram"):
        tokenizer = tokenizers[kind]
        assert tokenizer.fast is None
        text = "\n".join(lines)
        for continues in (False, True):
            ids = tokenizer.encode_bytes(text.encode(), continues=continues)
            assert ids.tolist() == tokenizer.encode(text, continues=continues)


def test_switched_off_all_is_as_before(monkeypatch, lines):
    monkeypatch.setattr(bpe, "available", lambda: False)
    plain = train_tokenizer(["ab cd"], TokenizerConfig(kind="gpt2"))
    fresh = Tokenizer(plain.definition, {})
    assert fresh.fast is None
    text = "\n".join(lines)
    ids = fresh.encode_bytes(text.encode()).tolist()
    assert ids == gpt2_tokenizer().encode(text)


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}
SPACED = {**byte_level(use_regex=True), "add_prefix_space": True}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "NFC"}},
        {"normalizer": REPLACE},
        {"pre_tokenizer": None},
        {"pre_tokenizer": SPACED},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": sequence({"type": "Whitespace"}, byte_level(use_regex=True))},
        {"pre_tokenizer": sequence(split("a", "Removed"), byte_level(use_regex=True))},
        {"pre_tokenizer": sequence({**split("a"), "invert": True}, byte_level(use_regex=True))},
        {"pre_tokenizer": sequence(split("a$"), byte_level(use_regex=True))},
        {"pre_tokenizer": sequence(split("a*"), byte_level(use_regex=True))},
        {"pre_tokenizer": sequence(byte_level(use_regex=True), split("a"))},
        {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False},
                                   byte_level(use_regex=True))},
        {"post_processor": TEMPLATE},
        {"post_processor": {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}},
        {"added_tokens": [{"id": 5000, "content": "    ", "special": False, **ADDED}]},
        {"dropout": 0.1},
        {"byte_fallback": True},
        {"end_of_word_suffix": "</w>"},
        {"continuing_subword_prefix": "##"},
    ],
    ids=str,
)  # fmt: skip
def test_rules_that_it_does_not_know_are_left_to_the_library(changes):
    model = dict(model_across_cuts())
    sections = {"pre_tokenizer": RULES["gpt-2"], "model": model}
    assert encoder_of({"version": "1.0", **sections}) is not None
    for name, value in changes.items():
        (model if name in model else sections)[name] = value
    assert encoder_of({"version": "1.0", **sections}) is None


@pytest.mark.parametrize(
    "harmless",
    [
        {"post_processor": byte_level(use_regex=True)},
        {"post_processor": {**TEMPLATE, "single": TEMPLATE["single"][:1]}},
        {"post_processor": {"type": "Sequence", "processors": [byte_level(use_regex=True)]}},
        {"added_tokens": [{"id": 5000, "content": "<think>", "special": False, **ADDED}]},
    ],
)
def test_rules_that_leave_ids_alone_are_taken(harmless, lines):
    definition = {
        "version": "1.0",
        "pre_tokenizer": RULES["gpt-2"],
        "model": model_across_cuts(),
        **harmless,
    }
    tokenizer = Tokenizer({**definition, "decoder": byte_level(use_regex=True)}, {})
    assert tokenizer.fast is not None
    assert ids_by(tokenizer.fast, lines) == [tokenizer.encode(line) for line in lines]


def test_an_id_of_two_tokens_is_left_to_the_library():
    model = json.loads(json.dumps(model_across_cuts()))
    model["vocab"]["b"] = model["vocab"]["a"]
    assert encoder_of({"pre_tokenizer": RULES["gpt-2"], "model": model}) is None


def test_bytes_without_a_token_are_left_out_as_the_library_does():
    """SmolLM2 has no token for some control characters; here also for parts of Chinese ones."""
    model = json.loads(json.dumps(model_across_cuts()))
    letters = {byte: char for char, byte in bytes_of_characters().items()}
    gone = {letters[byte] for byte in (0x04, 0x20, 0x9C, 0xF0)}
    model["merges"] = [pair for pair in model["merges"] if not gone & set("".join(pair))]
    model["vocab"] = {token: i for token, i in model["vocab"].items() if not gone & set(token)}
    definition = {"version": "1.0", "pre_tokenizer": RULES["gpt-2"], "model": model}
    texts = [*CORNERS, "\x04", "\x04\x04", "a\x04b", "\u4e00\x04\u660e\u6708", "\U0001f600", "  "]
    encoder = encoder_of(definition)
    assert encoder is not None
    for _ in range(2):  # the second time from the cache
        assert ids_by(encoder, texts) == ids_of(build_backend(definition, "gone"), texts)
    model["unk_token"] = "a"
    assert encoder_of(definition) is None


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_words_that_merges_do_not_reach(ignore_merges):
    """As in Llama 3's vocabulary: with ignore_merges the whole word's id, else its parts."""
    model = json.loads(json.dumps(model_across_cuts())) | {"ignore_merges": ignore_merges}
    size = len(model["vocab"])
    for i, word in enumerate(["xyzzy", "Ġxyzzy", "\u6708 no alphabet", "q" * 40]):
        model["vocab"][word] = size + i
    definition = {"version": "1.0", "pre_tokenizer": RULES["gpt-2"], "model": model}
    encoder, backend = encoder_of(definition), build_backend(definition, "ignoring")
    texts = ["xyzzy", " xyzzy xyzzy!", "xyzzyx", "q" * 40, "q" * 41, *CORNERS]
    assert encoder is not None
    assert ids_by(encoder, texts) == ids_of(backend, texts)
    assert (size in encoder.encode(b"xyzzy")) == ignore_merges


def test_a_merge_that_stands_twice_counts_where_it_stands_last():
    model = json.loads(json.dumps(model_across_cuts()))
    model["merges"] = [*model["merges"], *model["merges"][:40]]
    definition = {"version": "1.0", "pre_tokenizer": RULES["gpt-2"], "model": model}
    encoder, backend = encoder_of(definition), build_backend(definition, "twice")
    assert encoder is not None
    assert ids_by(encoder, list(CORNERS)) == ids_of(backend, list(CORNERS))
