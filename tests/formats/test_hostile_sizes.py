"""Files that lie about their sizes, and JSON made to do harm: our error, soon, in little memory."""

import json
import struct
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scratchlm.base.errors import CheckpointError
from scratchlm.formats.gguf_file import open_gguf
from scratchlm.formats.llama2c import read_tokenizer
from scratchlm.formats.tensorflow_checkpoint import TensorFlowCheckpoint
from scratchlm.recipes.import_model import open_any
from scratchlm.tokenizer.tokenizer import Tokenizer

resource = pytest.importorskip("resource")  # absent on Windows

pytestmark = pytest.mark.timeout(60)

LARGE = 2**40
CONFIG = {
    "model_type": "llama", "vocab_size": 18, "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip


@pytest.fixture(autouse=True)
def soon_and_small():
    """Whatever a test here does takes 20 seconds and 200 MB at most."""
    before, start = peak_mb(), time.monotonic()
    yield
    assert peak_mb() - before < 200
    assert time.monotonic() - start < 20


def peak_mb() -> float:
    """The most memory that this process ever took."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def refused(path: Path, said: str) -> None:
    """Open a model and read all that it names: an error of ours comes, and names the file."""
    with pytest.raises(CheckpointError, match=said) as caught:
        read_all(path)
    assert str(path.parent) in str(caught.value)


def read_all(path: Path) -> None:
    with open_any(path) as source:
        for read in source.weights.values():
            read()
        if source.tokenizer:
            source.tokenizer()


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((8, 16, 2**23, 2, 1, 18, 8), "begin with the sizes"),
        ((8, 16, 2**12, 2, 1, 18, 8), "is cut short"),
        ((2**24 - 8, 2**24 - 1, 1, 2, 1, 2**24 - 1, 2**24 - 1), "is cut short"),
        ((2**24, 16, 1, 2, 1, 18, 8), "begin with the sizes"),
        ((-8, 16, 1, 2, 1, 18, 8), "begin with the sizes"),
        ((8, 16, 1, 2, 1, -(2**31), 8), "begin with the sizes"),
        ((8, 16, 1, 3, 1, 18, 8), "does not divide"),
        ((0, 0, 0, 0, 0, 0, 0), "begin with the sizes"),
    ],
    ids=str,
)
def test_sizes_of_llama2c(sizes, said, tmp_path):
    (tmp_path / "m.bin").write_bytes(struct.pack("<7i", *sizes) + bytes(1000))
    refused(tmp_path / "m.bin", said)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("group", [0, -1, -(2**31), 3, 2**31 - 1])
def test_groups_of_llama2c(version, group, tmp_path):
    header = struct.pack("<Ii7iBi", 0x616B3432, version, 8, 16, 1, 2, 1, 18, 8, 1, group)
    (tmp_path / "m.bin").write_bytes(header.ljust(2000, b"\0"))
    refused(tmp_path / "m.bin", "is cut short" if version == 1 else "groups of|share a scale")


@pytest.mark.parametrize("n", [-1, -(2**31), 2000, 2**31 - 1])
@pytest.mark.parametrize("vocab_size", [1, 3, 2**24 - 1])
def test_pieces_of_llama2c(n, vocab_size, tmp_path):
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(struct.pack("<ifi", 3, 0.0, n) + b"abc" * 1000)
    with pytest.raises(CheckpointError, match=r"tokenizer\.bin does not hold the"):
        read_tokenizer(path, vocab_size)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    path = tmp_path / "tokenizer.bin"
    pieces = [b"<unk>", b"<s>", b"</s>", b"a", b"b"]
    written = (struct.pack("<fi", 0.0, len(text)) + text for text in pieces)
    path.write_bytes(struct.pack("<i", 5) + b"".join(written))
    assert read_tokenizer(path, 5).vocab_size == 5
    with pytest.raises(CheckpointError, match="does not hold the 4 pieces of the model"):
        read_tokenizer(path, 4)


GGUF = struct.pack("<4sI", b"GGUF", 3)
KEY = struct.pack("<Q", 1) + b"k"


@pytest.mark.parametrize(
    "rest",
    {
        "tensors": struct.pack("<QQ", LARGE, 0),
        "fields": struct.pack("<QQ", 0, LARGE),
        "a key": struct.pack("<QQQ", 0, 1, LARGE),
        "a text": struct.pack("<QQ", 0, 1) + KEY + struct.pack("<IQ", 8, LARGE),
        "texts": struct.pack("<QQ", 0, 1) + KEY + struct.pack("<IIQ", 9, 8, LARGE),
        "numbers": struct.pack("<QQ", 0, 1) + KEY + struct.pack("<IIQ", 9, 4, LARGE),
        "arrays": struct.pack("<QQ", 0, 1) + KEY + struct.pack("<IIQ", 9, 9, LARGE),
        "sizes": struct.pack("<QQ", 1, 0) + KEY + struct.pack("<IQQIQ", 2, LARGE, LARGE, 0, 0),
        "dimensions": struct.pack("<QQ", 1, 0) + KEY + struct.pack("<IQIQ", 2**31, 1, 0, 0),
        "a place": struct.pack("<QQ", 1, 0) + KEY + struct.pack("<IQIQ", 1, 1, 0, 2**63),
        "a block": struct.pack("<QQ", 1, 0) + KEY + struct.pack("<IIQ", 0, 8, 0),
    }.items(),
    ids=lambda item: item[0],
)
def test_sizes_of_gguf(rest, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(GGUF + rest[1] + bytes(1000))
    with pytest.raises(CheckpointError, match=r"m\.gguf"), open_gguf(path):
        pass


def hub(folder: Path, config: dict | str, header: dict | None = None) -> Path:
    """A Hugging Face folder of that config.json and the header of its weights."""
    words = config if isinstance(config, str) else json.dumps(CONFIG | config)
    (folder / "config.json").write_text(words, encoding="utf-8")
    if header is None:
        save_file({"model.embed_tokens.weight": torch.zeros(18, 8)}, folder / "model.safetensors")
    else:
        content = json.dumps(header).encode()
        content = struct.pack("<Q", len(content)) + content + bytes(1000)
        (folder / "model.safetensors").write_bytes(content)
    return folder


def test_sizes_of_safetensors(tmp_path):
    folder = hub(tmp_path, {})
    whole = (folder / "model.safetensors").read_bytes()
    for n in (0, 1, LARGE, 2**63, 2**64 - 1):
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", n) + whole[8:])
        refused(folder, "not a whole safetensors file")
    for end, shape in ((LARGE, [LARGE // 4]), (4, [2**33, 2**31]), (4, [LARGE])):
        place = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
        hub(folder, {}, {"model.embed_tokens.weight": place})
        refused(folder, "not a whole safetensors file")


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 4096},
        {"num_hidden_layers": 10**9},
        {"vocab_size": 2**31},
        {"vocab_size": 2**31, "hidden_size": 2**20, "intermediate_size": 2**20},
        {"num_hidden_layers": 10**400},
        {"rms_norm_eps": float("nan")},
        {"rope_theta": float("inf")},
        {"hidden_size": True},
        {"hidden_size": "8"},
        {"hidden_size": [8]},
        {"model_type": ["llama"]},
        {"model_type": "gemma3_text", "layer_types": ["x"] * 100_000, "num_hidden_layers": 4096},
        {"model_type": "mixtral", "num_local_experts": 2**20, "num_hidden_layers": 4096},
        {"rope_scaling": {"rope_type": ["yarn"]}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 1e15}, "rope_theta": 1},
    ],
    ids=lambda change: str(change)[:60],
)
def test_config_that_cannot_be(change, tmp_path):
    refused(hub(tmp_path, change), ".")


@pytest.mark.parametrize("depth", [900, 950, 970, 990, 100_000])
@pytest.mark.parametrize("key", ["model_type", "hidden_size", "rope_scaling", "unheard_of"])
def test_config_that_is_deep(depth, key, tmp_path):
    deep = "[" * depth + "]" * depth
    others = json.dumps({name: value for name, value in CONFIG.items() if name != key})
    refused(hub(tmp_path, f'{others[:-1]}, "{key}": {deep}}}'), ".")


@pytest.mark.parametrize(
    "config", ["", "[]", "null", "NaN", '{"a": 1', '"model_type"', "\0", "1e999"]
)
def test_config_that_is_none(config, tmp_path):
    refused(hub(tmp_path, config), r"config\.json")


@pytest.mark.parametrize(
    "file", ["", ".", "..", "a/b", "\0", "\ud800", "x" * 300, "folder", 1, None]
)
@pytest.mark.parametrize("index", ["model.safetensors", "pytorch_model.bin"])
def test_an_index_that_names_no_file(index, file, tmp_path):
    (hub(tmp_path, {}) / "model.safetensors").unlink()
    (tmp_path / "folder").mkdir()
    weights = {"weight_map": {"model.embed_tokens.weight": file}}
    (tmp_path / f"{index}.index.json").write_text(json.dumps(weights), encoding="utf-8")
    refused(tmp_path, ".")


MODEL = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    "change",
    [
        {"model": {**MODEL, "merges": ["a b"]}},  # makes no token of the vocabulary
        {"model": {**MODEL, "vocab": {"a": LARGE}}},
        {"model": {**MODEL, "vocab": {"a": -1}}},
        {"model": {**MODEL, "type": "Unigram", "vocab": [], "unk_id": 5}},
        {"model": {"type": "Unigram", "vocab": [["a", float("nan")]], "unk_id": 0}},
        {"model": {**MODEL, "dropout": 1e300}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?<"}, "behavior": "Isolated"}},
        {"decoder": {"type": []}},
        {"decoder": {"type": "Fuse"}},
        {"added_tokens": [{"id": LARGE, "content": "x"}]},
        {"added_tokens": [{"id": 0, "content": ""}]},
        {"added_tokens": 5},
        {"model": 5},
        {"version": 2.0},
    ],
    ids=lambda change: str(change)[:60],
)
def test_tokenizer_that_cannot_be(change, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": MODEL, "decoder": DECODER} | change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.load(path)


def test_lengths_that_would_abort_the_parser_are_left_aside(tmp_path):
    padding = {
        "strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
    }  # fmt: skip
    definition = {"model": MODEL, "decoder": DECODER, "padding": padding}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    assert Tokenizer.load(tmp_path).encode("ab") == [0, 1]


def test_a_tensor_of_tensorflow_cannot_take_a_petabyte(tmp_path):
    """One float32 of shape (2**44, 64) in an index that says nothing else."""
    sizes = b"".join(
        b"\x12" + bytes([len(size) + 1]) + b"\x08" + size
        for size in (b"\x80" * 6 + b"\x04", b"\x40")
    )
    size = b"\x80" * 7 + b"\x08"
    entry = b"\x08\x01\x12" + bytes([len(sizes)]) + sizes + b"\x28" + size
    block = b"\0\0\2\x08\1" + b"\0\1" + bytes([len(entry)]) + b"w" + entry
    block += struct.pack("<II", 0, 1)
    places = b"\0\1" + b"\2" + b"k" + b"\0" + bytes([len(block)]) + struct.pack("<II", 0, 1)
    footer = bytes(2) + bytes([len(block) + 5, len(places)])
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    content = block + bytes(5) + places + bytes(5) + footer.ljust(40, b"\0") + magic
    (tmp_path / "m.index").write_bytes(content)
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(100))
    checkpoint = TensorFlowCheckpoint(tmp_path / "m")
    assert checkpoint.shape("w") == (2**44, 64)
    with pytest.raises(CheckpointError, match=r"m\.data-00000-of-00001 is cut short: w"):
        checkpoint.read("w")
