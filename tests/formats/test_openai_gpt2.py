"""A checkpoint that TensorFlow wrote is read as TensorFlow reads it; damaged ones give our error.

data/gpt2_tf comes from make_gpt2_checkpoint.py.
"""

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.folder import load_model
from scratchlm.formats.openai_gpt2 import open_source, read_tokenizer
from scratchlm.formats.tensorflow_checkpoint import TensorFlowCheckpoint
from scratchlm.recipes.import_model import import_model
from scratchlm.tokenizer.tokenizer import Tokenizer

GPT2 = Path(__file__).parent / "data" / "gpt2_tf"
EXPECTED = json.loads((GPT2 / "expected.json").read_text(encoding="utf-8"))
INDEX, DATA = "model.ckpt.index", "model.ckpt.data-00000-of-00001"
FILES = ("hparams.json", "encoder.json", "vocab.bpe", INDEX, DATA)
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEXTS = (
    "The other thing, I'm told, isn't in there.",
    "她說:今天天氣很好。",
    "a 🦙 and a 👩‍👩‍👧, naïve café",
    "def f(x):\n\treturn  {'a': x[0] ** 2}  # 42\n\n\n    ",
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(GPT2, tmp_path / "gpt2")
    return tmp_path / "gpt2"


def read_all(folder: Path) -> None:
    """Open a folder and read all that it names."""
    source = open_source(folder)
    for read in source.weights.values():
        read()
    source.tokenizer()


def test_each_variable_is_what_tensorflow_reads():
    checkpoint = TensorFlowCheckpoint(GPT2 / "model.ckpt")
    sums = {
        name: hashlib.sha256(checkpoint.read(name).numpy().tobytes()).hexdigest()
        for name in checkpoint.names
    }
    assert sums == EXPECTED["sha256"]


@torch.no_grad()
def test_the_imported_model_gives_tensorflows_logits(tmp_path):
    import_model(GPT2, tmp_path / "model")
    logits = load_model(tmp_path / "model")(torch.tensor([EXPECTED["ids"]]))[0]
    theirs = torch.from_numpy(np.load(GPT2 / "logits.npy"))
    assert theirs.std() > 1  # so that the tolerance means something
    # float32 sums in another order: 2e-6 was seen
    torch.testing.assert_close(logits, theirs, rtol=0, atol=1e-5)
    tokenizer = Tokenizer.load(tmp_path / "model")
    assert tokenizer.decode(tokenizer.encode(TEXTS[1])) == TEXTS[1]


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return read_tokenizer(GPT2)


@pytest.fixture(scope="module")
def theirs() -> tiktoken.Encoding:
    """OpenAI's own library, given the same two files."""
    vocab = json.loads((GPT2 / "encoder.json").read_text(encoding="utf-8"))
    end = vocab.pop("<|endoftext|>")
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}
    ranks = {bytes(alphabet[c] for c in token): i for token, i in vocab.items()}
    return tiktoken.Encoding(
        "tiny", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": end}
    )


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_openais_library(text, ours, theirs):
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == text


@given(text=st.text("\t\n 's.ther1n\u00e9\u4f60\u597d\U0001f999"))
def test_ids_of_any_text_are_those_of_openais_library(text, ours, theirs):
    assert ours.encode(text) == theirs.encode(text)


def test_ids_are_those_of_transformers(ours):
    from transformers import GPT2Tokenizer

    vocab = json.loads((GPT2 / "encoder.json").read_text(encoding="utf-8"))
    lines = (GPT2 / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    hub = GPT2Tokenizer(vocab=vocab, merges=[tuple(line.split(" ")) for line in lines])
    assert ours.eos_id == hub.eos_token_id == 296
    for text in TEXTS:
        assert ours.encode(text) == hub(text)["input_ids"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_all(folder)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_is_named(name, share, folder):
    content = (folder / name).read_bytes().rstrip()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=name):
        read_all(folder)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


FOREIGN = {
    "hparams.json": [
        b"[]", b"{}", b"\xff", b'{"n_vocab": 1}', nested(100_000).encode(),
        *(
            b'{"n_vocab": %s, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 2}' % n
            for n in [*b"0 -1 true NaN 1e999 [1] null 298 2.5".split(), b"1" * 5000]
        ),
        b'{"n_vocab": 297, "n_ctx": 32, "n_embd": 16, "n_head": 3, "n_layer": 2}',
        b'{"n_vocab": 297, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 16000000}',
        b'{"n_vocab": 297, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": %s}'
        % nested(960).encode(),
    ],
    "encoder.json": [
        b"[]", b"\xfe\xff", b'{"a": 0, "b": 0}', b'{"a": 0, "b": 2}', b'{"a": NaN}',
        b'{"a": {"b": []}}', b'{"a": "0"}', b'{"a": 0.0}', b'{"\\ud800": 0}',
        b'{"a": %s}' % nested(900).encode(),
    ],
    "vocab.bpe": [b"\xff\n", b"v\na b c\n", b"v\na\n", b"v\nno pair\n", b"v\n\xc4\xa0 t\n"],
    INDEX: [b"", b"PK", bytes(1000), bytes(100) + struct.pack("<Q", 0xDB4775248B80FB57)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, content) for name, contents in FOREIGN.items() for content in contents],
    ids=lambda value: str(value)[:30],
)
def test_foreign_content_is_refused(name, content, folder):
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"hparams\.json|gpt2") as caught:
        read_all(folder)
    assert len(str(caught.value)) < 2000


def test_weights_of_another_shape_are_refused(folder):
    path = folder / "hparams.json"
    sizes = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(sizes | {"n_ctx": 33}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model/wpe gives positions\.weight the shape"):
        open_source(folder)
    path.write_text(json.dumps(sizes | {"n_layer": 3}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"their model/h2/attn/c_attn/w"):
        open_source(folder)


def varint(n: int) -> bytes:
    digits = []
    while n > 127:
        digits.append(n & 127 | 128)
        n >>= 7
    return bytes([*digits, n])


def table(*blocks: bytes, times: int = 1) -> bytes:
    """An index of those blocks, each named `times` times."""
    content, places = b"", b""
    for block in blocks:
        place = varint(len(content)) + varint(len(block))
        places += (b"\0" + varint(1) + varint(len(place)) + b"k" + place) * times
        content += block + bytes(5)
    places += struct.pack("<II", 0, 1)
    footer = bytes(2) + varint(len(content)) + varint(len(places))
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    return content + places + bytes(5) + footer.ljust(40, b"\0") + magic


@pytest.mark.timeout(30)
def test_an_index_cannot_be_made_to_take_hours_or_all_memory(folder):
    entries = b"".join(b"\0\1\0" + bytes([i % 256]) for i in range(100_000))
    block = entries + struct.pack("<II", 0, 1)
    (folder / INDEX).write_bytes(table(block, times=20_000))  # 2e9 entries
    with pytest.raises(CheckpointError, match="do not follow one another"):
        open_source(folder)
    growing = b"".join(varint(i) + b"\1\0x" for i in range(100_000))  # 5 GB of names
    (folder / INDEX).write_bytes(table(growing + struct.pack("<II", 0, 1)))
    with pytest.raises(CheckpointError, match="names are too long"):
        open_source(folder)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_gives_our_error_or_none(data, folder):
    name = data.draw(st.sampled_from(FILES))
    whole = (GPT2 / name).read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.none(), st.integers(0, len(content))))]
    (folder / name).write_bytes(content)
    try:
        read_all(folder)
    except CheckpointError as error:  # anything else is ours to mend
        if str(folder) not in str(error):
            raise
    finally:
        (folder / name).write_bytes(whole)
