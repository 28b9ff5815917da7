"""The compiled encoder gives the ids of the `tokenizers` library, or stands aside."""

import ast
import base64
import functools
import itertools
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers, trainers

from scratchlm.formats.gguf_pre_tokenizers import PRE_TOKENIZERS
from scratchlm.native import bpe
from scratchlm.tokenizer.compose import byte_level, sequence, split
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.cuts import edges_of_kind
from scratchlm.tokenizer.definition import build_backend
from scratchlm.tokenizer.fast import encoder_of
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.rules import bytes_of_characters
from scratchlm.tokenizer.tokenizer import Tokenizer
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
@settings(max_examples=150, deadline=None)
def test_ids_of_random_text(name, texts):
    encoder, backend = pair_of(name)
    assert ids_by(encoder, texts) == ids_of(backend, texts)


@pytest.mark.parametrize("name", RULES)
def test_every_character_is_cut_alike(name):
    """Each of Unicode's characters between two others; unassigned ones too."""
    encoder, backend = pair_of(name)
    codes = [*range(0xD800), *range(0xE000, 0x32400), *range(0xE0000, 0xE0200), 0x10FFFF]
    step = 2000
    texts = [
        "".join(f"a{chr(code)}'s {chr(code)}1" for code in codes[i : i + step])
        for i in range(0, len(codes), step)
    ]
    assert ids_by(encoder, texts) == ids_of(backend, texts)


@pytest.mark.parametrize("letter", "strevmld")
def test_letters_fold_as_the_library_folds_them(letter):
    """Asked of every character: only the long s beside the two cases."""
    edges = edges_of_kind(f"(?i:{letter})").reshape(-1, 2)
    members = {code for first, behind in edges.tolist() for code in range(first, behind)}
    extra = {0x17F} if letter == "s" else set()
    assert members == {ord(letter), ord(letter.upper())} | extra


@pytest.mark.parametrize("name", ["gpt-2", "llama3", "deepseek-v3"])
@pytest.mark.parametrize("unit", ["ab", "\u5e8a\u524d", " ", "\n ", "9", "!?", "a\u0301", "\x00"])
def test_a_word_of_a_megabyte(name, unit):
    encoder, backend = pair_of(name)
    text = unit * (1_000_000 // len(unit.encode()))
    start = time.perf_counter()
    ids = encoder.encode(text.encode())
    assert time.perf_counter() - start < 3  # measured: at most 0.4 s; a quadratic way takes hours
    (expected,) = ids_of(backend, [text])
    assert ids.tolist() == expected


@pytest.mark.parametrize("kind", ["bpe", "gpt2"])
def test_the_class_takes_it_and_keeps_its_ids(tokenizers, lines, kind):
    tokenizer = tokenizers[kind]
    assert tokenizer.fast is not None
    backend = tokenizer._backend(False, False)
    long = "\n".join(lines) * 3
    assert tokenizer.encode(long) == ids_of(backend, [long])[0]
    assert tokenizer.encode_batch([long, "a"]) == ids_of(backend, [long, "a"])
    assert tokenizer.encode_bytes(long.encode()).tolist() == ids_of(backend, [long])[0]


def test_control_tokens_in_a_long_text_are_text_unless_allowed(tokenizers):
    tokenizer = tokenizers["gpt2"]
    long = "ab<|endoftext|>" * 10_000
    assert tokenizer.eos_id not in tokenizer.encode(long)
    assert tokenizer.encode(long, allowed_special=True).count(tokenizer.eos_id) == 10_000


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
    text = "\n".join(lines) * 3
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


def test_a_byte_without_a_token_or_an_id_of_two_is_left_to_the_library():
    for change in ("drop", "share"):
        model = json.loads(json.dumps(model_across_cuts()))
        model["merges"] = []
        byte = next(iter(pre_tokenizers.ByteLevel.alphabet()))
        if change == "drop":
            del model["vocab"][byte]
        else:
            model["vocab"][byte] = model["vocab"]["a"]
        assert encoder_of({"pre_tokenizer": RULES["gpt-2"], "model": model}) is None


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


def samples(folder: Path, n_bytes: int = 300_000) -> list[str]:
    """The begin of texts in all languages that there are."""
    names = [
        "text/sotu/data/*", "text/gutenberg/*.txt", "text/debian/fortunes/*",
        "text/debian/manpages-zh/*", "text/debian/linux-rst/*/*.rst", "text/zh-poetry/*/*.json",
        "text/wikitext-2/*.txt", "text/tinystories/*.txt", "tokenizers/cs336-a1-fixtures/*.txt",
        "text/debian/linux-rst/translations/*/*/*",
    ]  # fmt: skip
    paths = [path for name in names for path in sorted(folder.glob(name))[:12] if path.is_file()]
    assert len(paths) > 40
    return [path.read_bytes()[:n_bytes].decode("utf-8", "replace") for path in paths]


@pytest.mark.parametrize("name", ["minimind", "gpt2-hf/models"])
def test_real_texts_by_real_tokenizers(shared_data, name):
    tokenizer = Tokenizer.load(shared_data / "tokenizers" / name)
    assert tokenizer.fast is not None
    texts = samples(shared_data)
    assert ids_by(tokenizer.fast, texts) == ids_of(tokenizer._backend(False, False), texts)


def test_real_texts_by_a_vocabulary_of_ours(shared_data):
    texts = samples(shared_data)
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind="bpe", vocab_size=8000))
    assert tokenizer.fast is not None
    assert ids_by(tokenizer.fast, texts) == ids_of(tokenizer._backend(False, False), texts)


def from_ranks(path: Path, pre_tokenizer: dict) -> dict:
    """A definition with tiktoken's vocabulary, where a piece that is a token needs no merges."""
    lines = path.read_text(encoding="ascii").split()
    ranks = {base64.b64decode(t): int(r) for t, r in zip(lines[::2], lines[1::2], strict=True)}
    letters = {byte: char for char, byte in bytes_of_characters().items()}
    vocab = {"".join(map(letters.get, token)): rank for token, rank in ranks.items()}
    merges = []
    for token, rank in ranks.items():
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = enumerate(itertools.pairwise(parts))
            least, at = min((ranks.get(left + right, rank), i) for i, (left, right) in pairs)
            if least == rank:
                break  # merges do not lead to it
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((rank, ["".join(map(letters.get, part)) for part in parts]))
    merges = [pair for _, pair in sorted(merges)]
    model = {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": True}
    return {"version": "1.0", "pre_tokenizer": pre_tokenizer, "model": model}


@pytest.mark.parametrize(("name", "rules"), [("r50k_base", "gpt-2"), ("cl100k_base", "llama3")])
def test_vectors_of_gpt_tokenizer(shared_data, name, rules):
    folder = shared_data / "tokenizers" / "tiktoken-ranks"
    encoder = encoder_of(from_ranks(folder / f"{name}.tiktoken", RULES[rules]))
    assert encoder is not None
    n_checked = 0
    for plan in (folder / "TestPlans.txt").read_text(encoding="utf-8").split("EncodingName: "):
        if plan.startswith(f"{name}\n"):
            found = re.fullmatch(rf"{name}\nSample: (.*)\nEncoded: (\[.*\])\s*", plan, re.DOTALL)
            assert found
            assert encoder.encode(found[1].encode()).tolist() == ast.literal_eval(found[2])
            n_checked += 1
    assert n_checked > 50
