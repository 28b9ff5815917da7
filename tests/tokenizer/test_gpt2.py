"""GPT-2's ids against tiktoken, transformers, OpenAI's files and llama.cpp's vectors."""

import ast
import base64
import json
import re
from pathlib import Path

import pytest
import tiktoken

from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer

# GPT-2's pattern, as tiktoken has it for r50k_base
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def tiktoken_of(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    special = {"<|endoftext|>": 50256}
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


def test_equals_tiktoken(lines):
    """tiktoken's algorithm over our bytes: another implementation of cutting and merging."""
    ours = gpt2_tokenizer()
    ranks = {piece: i for i, piece in enumerate(ours.pieces()[:50256])}
    theirs = tiktoken_of(ranks)
    assert [theirs.encode_ordinary(line) for line in lines] == ours.encode_batch(lines)


def test_equals_tiktoken_with_its_own_ranks(shared_data):
    ranks_file = shared_data / "tokenizers" / "tiktoken-ranks" / "r50k_base.tiktoken"
    pairs = (line.split() for line in ranks_file.read_text(encoding="ascii").splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    assert gpt2_tokenizer().pieces()[:50256] == sorted(ranks, key=ranks.__getitem__)
    theirs = tiktoken_of(ranks)
    marked = "a<|endoftext|>b"
    ours = gpt2_tokenizer()
    assert theirs.encode(marked, allowed_special="all") == ours.encode(marked, allowed_special=True)
    assert theirs.encode_ordinary(marked) == ours.encode(marked)


def test_vocabulary_equals_openais(shared_data):
    path = shared_data / "tokenizers" / "gpt2" / "encoder.json"
    encoder = json.loads(path.read_text(encoding="utf-8"))
    ours = gpt2_tokenizer()
    assert ours._definition["model"]["vocab"] == encoder
    assert (ours.bos_id, ours.eos_id, ours.vocab_size) == (50256, 50256, 50257)


def test_equals_the_tokenizer_json_of_the_hub(shared_data, lines):
    hub = Tokenizer.load(shared_data / "tokenizers" / "gpt2-hf" / "models")
    assert (hub.kind, hub.eos_id, hub.vocab_size) == ("foreign", 50256, 50257)
    ours = gpt2_tokenizer()
    assert hub.encode_batch(lines) == ours.encode_batch(lines)
    assert hub.decode(ours.encode("a b")) == "a b"


def test_vectors_of_gpt_tokenizer(shared_data):
    path = shared_data / "tokenizers" / "tiktoken-ranks" / "TestPlans.txt"
    plans = path.read_text(encoding="utf-8").split("EncodingName: ")
    n_checked = 0
    for plan in plans:
        if plan.startswith("r50k_base\n"):
            found = re.fullmatch(r"r50k_base\nSample: (.*)\nEncoded: (\[.*\])\s*", plan, re.DOTALL)
            assert gpt2_tokenizer().encode(found[1]) == ast.literal_eval(found[2])
            n_checked += 1
    assert n_checked == 64


def llama_cpp_vectors(folder: Path, name: str) -> list[tuple[str, list[int]]]:
    """The texts and ids of llama.cpp's test of one vocabulary."""
    with open(folder / f"ggml-vocab-{name}.gguf.inp", encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    ids = (folder / f"ggml-vocab-{name}.gguf.out").read_text(encoding="ascii").split("\n")
    return [(text, [int(i) for i in row.split()]) for text, row in zip(texts, ids, strict=False)]


def test_vectors_of_llama_cpp(shared_data):
    vectors = llama_cpp_vectors(shared_data / "tokenizers" / "llama.cpp-ggml-vocab", "gpt-2")
    assert len(vectors) > 40
    for text, ids in vectors:
        assert gpt2_tokenizer().encode(text) == ids, repr(text)


@pytest.mark.parametrize("name", ["minimind"])
def test_foreign_tokenizers_equal_transformers(shared_data, lines, name):
    from transformers import PreTrainedTokenizerFast

    folder = shared_data / "tokenizers" / name
    ours = Tokenizer.load(folder)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    for line in lines:
        tokens = ours.encode(line, allowed_special=True)
        assert tokens == theirs.encode(line, add_special_tokens=False)
        assert ours.decode(tokens) == theirs.decode(tokens)
