"""GGUF files are read as llama.cpp means them; damaged ones give our own error."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import CheckpointError
from scratchlm.formats.gguf_file import open_gguf
from scratchlm.formats.gguf_names import ARCHITECTURES, interleave
from scratchlm.formats.gguf_read import open_source
from scratchlm.model.rope import RopeScaling, frequencies
from scratchlm.model.transformer import Transformer

SIZES = {"max_seq_len", "d_model", "n_layers", "n_heads"}  # which are written though 0
FAMILIES = {
    "llama": {"n_kv_heads": 2, "rope_theta": 5e5},
    "qwen2": {"n_kv_heads": 2, "tie_embeddings": False},
    "qwen3": {"n_kv_heads": 2, "d_head": 32},
    "gpt2": {},
    "gemma3_text": {"d_head": 32, "window": 7, "global_every": 6, "local_rope_theta": 1e4},
}


def write_gguf(
    path: Path, model: Transformer, divisors: torch.Tensor | None = None, **fields
) -> None:
    """A file as llama.cpp's converter makes it, in float32."""
    c = model.config
    architecture = ARCHITECTURES[c.family]
    writer = gguf.GGUFWriter(path, architecture.name)
    for setting in architecture.settings:
        value = getattr(c, setting.ours)
        if value or setting.ours in SIZES:
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add(f"{architecture.name}.{setting.theirs}", value)
    for key, value in fields.items():
        name = key.replace("__", ".")
        (writer.add_string if isinstance(value, str) else writer.add_float32)(name, value)
    pieces: dict[str, list[torch.Tensor]] = {}
    ours = dict(model.named_parameters())
    for row in architecture.rows:
        for one in row.numbered(c):
            if one.ours in ours:
                weight = ours[one.ours].detach()
                if architecture.permuted:
                    weight = interleave(c, one.ours, weight)
                if architecture.shifted and weight.ndim == 1:
                    weight = weight + 1
                pieces.setdefault(one.theirs, []).append(weight)
    for name, parts in pieces.items():
        writer.add_tensor(name, torch.cat(parts).numpy())
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors.numpy())
    writer.add_array("tokenizer.ggml.tokens", [f"t{i}" for i in range(c.vocab_size)])
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_array("tokenizer.ggml.merges", ["a b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_each_architecture_is_read(family, make_model, tmp_path):
    model = make_model(family=family, **FAMILIES[family])
    write_gguf(tmp_path / "m.gguf", model)
    with open_source(tmp_path / "m.gguf") as source:
        assert source.config == model.config
        weights = {name: read() for name, read in source.weights.items()}
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=3e-7)


def test_the_angles_of_llama3_are_recognised(make_model, tmp_path):
    model = make_model(family="llama", max_seq_len=131_072, rope_theta=5e5)
    c, scaling = model.config, RopeScaling("llama3", 32.0, 8192)
    plain, _ = frequencies(c.d_head, c.rope_theta)
    slowed, _ = frequencies(c.d_head, c.rope_theta, scaling)
    write_gguf(tmp_path / "m.gguf", model, divisors=plain / slowed)
    with open_source(tmp_path / "m.gguf") as source:
        assert source.config.rope_scaling == scaling
    write_gguf(tmp_path / "odd.gguf", model, divisors=2 * plain / slowed)
    with (
        pytest.raises(CheckpointError, match="other angles than those of Llama"),
        open_source(tmp_path / "odd.gguf"),
    ):
        pass


def test_yarn_is_read(make_model, tmp_path):
    model = make_model(family="qwen3")
    write_gguf(
        tmp_path / "m.gguf",
        model,
        qwen3__rope__scaling__type="yarn",
        qwen3__rope__scaling__factor=4.0,
    )
    with open_source(tmp_path / "m.gguf") as source:
        assert source.config.rope_scaling.kind == "yarn"
        assert source.config.rope_scaling.factor == 4.0


@pytest.fixture(scope="module")
def whole(make_model, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_gguf(path, make_model(family="llama", n_layers=1, d_model=32))
    return path.read_bytes()


def opened(content: bytes, folder: Path) -> None:
    """Open a file of that content and read all that it names."""
    path = folder / "m.gguf"
    path.write_bytes(content)
    with open_gguf(path) as file:
        for name in file.tensors:
            file.read(name)
    with open_source(path) as source:
        if source.tokenizer:
            source.tokenizer()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.5, 0.99])
def test_a_file_that_is_cut_is_refused(share, whole, tmp_path):
    with pytest.raises(CheckpointError, match=r"m\.gguf"):
        opened(whole[: int(share * len(whole))], tmp_path)


@pytest.mark.parametrize("at", [8, 16])
@pytest.mark.parametrize("count", [2**63, 2**32, 10**6])
def test_counts_that_cannot_be_are_refused(at, count, whole, tmp_path):
    broken = whole[:at] + struct.pack("<Q", count) + whole[at + 8 :]
    with pytest.raises(CheckpointError, match="too short"):
        opened(broken, tmp_path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_header_gives_our_own_error_or_none(data, whole, tmp_path):
    header = len(whole) - 4 * 300 * 32
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(header, 4000)))
        content[at] = data.draw(st.integers(0, 255))
    try:
        opened(bytes(content), tmp_path)
    except CheckpointError as error:  # anything else is ours to mend
        if "m.gguf" not in str(error):
            raise


def test_types_that_we_do_not_read_are_named(tmp_path):
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    blocks = np.zeros((300, 66), dtype=np.uint8)
    writer.add_tensor("token_embd.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.IQ2_XXS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="type 16, which this program does not read"):
        opened(path.read_bytes(), tmp_path)
