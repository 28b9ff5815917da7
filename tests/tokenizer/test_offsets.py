"""Where ids come from: every character has its ids, whatever the kind of the tokenizer."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.tokenizer import Tokenizer

NAMES = ["<|turn|>", "<|stop|>", "<|end|>"]
TEXT = "Hello, 你好😀 wörld!\n\n  two  spaces\tand 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \n"


def check(tokenizer: Tokenizer, text: str, *, lossless: bool, **options: bool) -> None:
    """The ids are those of `encode`; their characters go on and on, and leave none out."""
    ids, spans = tokenizer.offsets(text, **options)
    assert ids == tokenizer.encode(text, **options)
    assert len(ids) == len(spans)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    seen = {i for start, end in spans for i in range(start, end)}
    left = [char for i, char in enumerate(text) if i not in seen]
    assert not left or (not lossless and all(char.isspace() for char in left))


def test_every_kind(tokenizer, lines):
    lossless = tokenizer.kind not in ("regex", "whitespace", "spacy", "rjieba")
    more = tokenizer.with_special_tokens(NAMES)
    for line in lines[:60]:
        check(tokenizer, line, lossless=lossless)
        check(more, f"<|turn|>{line}<|stop|>", lossless=lossless, allowed_special=True)


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_text(tokenizers, text):
    for kind in ("bpe", "gpt2", "sentencepiece-bpe", "sentencepiece-unigram"):
        try:
            tokenizers[kind].encode(text)
        except DataError:  # lone surrogates
            continue
        ids, spans = tokenizers[kind].offsets(text)
        assert ids == tokenizers[kind].encode(text)
        assert all(0 <= start <= end <= len(text) for start, end in spans)


@pytest.mark.parametrize("kind", ["bpe", "gpt2"])
def test_the_bytes_of_a_span_hold_those_of_its_id(kind, tokenizers):
    """Ids of one character share its place, and together they are its bytes."""
    tokenizer = tokenizers[kind]
    ids, spans = tokenizer.offsets(TEXT)
    pieces = tokenizer.pieces()
    assert any(a == b for a, b in pairwise(spans))
    for i, (start, end) in zip(ids, spans):
        assert pieces[i] in TEXT[start:end].encode()
    assert b"".join(pieces[i] for i in ids) == TEXT.encode()


def test_white_space_has_a_place_though_the_file_trims_it(tmp_path, tokenizers):
    """A post-processor of ByteLevel with trim_offsets takes spaces out of what the library says."""
    tokenizers["gpt2"].save(tmp_path)
    file = tmp_path / "tokenizer.json"
    definition = json.loads(file.read_text("utf-8"))
    definition["post_processor"] = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True
    }  # fmt: skip
    file.write_text(json.dumps(definition), encoding="utf-8")
    assert Tokenizer.load(tmp_path).offsets(" a\n\n b")[1] == [(0, 2), (2, 4), (4, 6)]


def test_words_and_characters(tokenizers):
    assert tokenizers["char"].offsets("a b")[1] == [(0, 1), (1, 2), (2, 3)]
    assert tokenizers["regex"].offsets("One,  two")[1] == [(0, 3), (3, 4), (6, 9)]
    assert tokenizers["whitespace"].offsets(" x  x ")[1] == [(1, 2), (4, 5)]


PLAIN = [  # a text, and a part of it that is to stay text
    ("a<|stop|>b<|stop|>", "<|stop|>b"),
    ("<|turn|><|stop|><|stop|>", "<|turn|>"),
    ("<|turn|>user\n<|stop|> you<|stop|>\n", "<|stop|> you"),
    ("<|end|><|end|>\n<|stop|>", "<|end|>\n"),
    ("你好<|stop|>😀<|stop|>", "<|stop|>😀"),
    (" <|stop|> <|stop|>", " <|stop|> "),
]


@pytest.mark.parametrize(("written", "part"), PLAIN)
def test_names_that_stay_text(tokenizer, written, part):
    more = tokenizer.with_special_tokens(NAMES)
    special = set(more.special_tokens.values()) - {more.unk_id}
    start = written.index(part)
    plain = set(range(start, start + len(part)))
    if tokenizer.kind == "char" and not set(written) <= tokenizer._words.keys():
        with pytest.raises(DataError, match="is not in the vocabulary of this char tokenizer"):
            more.offsets(written, allowed_special=True, plain=plain)
        return
    ids, spans = more.offsets(written, allowed_special=True, plain=plain)
    control = [(i, span) for i, span in zip(ids, spans) if i in special]
    assert not any(plain & set(range(*span)) for _, span in control)
    expected = written[:start] + "x" * len(part) + written[start + len(part) :]
    assert [i for i, _ in control] == [
        i for i in more.encode(expected, allowed_special=True) if i in special
    ]
    check_parts(more, written, spans, ids, special)


def check_parts(tokenizer: Tokenizer, text: str, spans, ids, special) -> None:
    """Between control tokens stands what the same text gives alone."""
    edges = [k for k, i in enumerate(ids) if i in special]
    for first, last in zip([-1, *edges], [*edges, len(ids)]):
        start = spans[first][1] if first >= 0 else 0
        end = spans[last][0] if last < len(ids) else len(text)
        found = ids[first + 1 : last]
        alone = [tokenizer.encode(text[start:end], continues=one) for one in (False, True)]
        assert found in alone


def test_harmless_text_is_left_alone(subword):
    more = subword.with_special_tokens(NAMES)
    text = "<|turn|>a < b, [1] <b>bold</b><|stop|>"
    plain = {i for i, char in enumerate(text) if char == "<" and 0 < i < text.rindex("<")}
    assert more.offsets(text, allowed_special=True, plain=plain)[0] == more.encode(
        text, allowed_special=True
    )
