"""Nested values come back equal in every bit and of the same types."""

import math
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.values import pack, read_values

DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn,
    torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.uint16, torch.uint32, torch.uint64, torch.bool,
]  # fmt: skip


def round_trip(value: Any, folder: Path) -> Any:
    pack(value).write(folder)
    return read_values(folder)


def same(a: Any, b: Any) -> bool:
    """Equal in type, structure and bits."""
    if isinstance(a, torch.Tensor):
        if not isinstance(b, torch.Tensor) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return a.numpy(force=True).tobytes() == b.numpy(force=True).tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
def test_tensors_of_every_dtype_and_shape(dtype: torch.dtype, shape: tuple, tmp_path: Path):
    bits = torch.randint(0, 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    tensor = bits % 2 == 1 if dtype == torch.bool else bits.view(dtype)
    tensor = tensor.reshape(shape)
    loaded = round_trip(tensor, tmp_path)
    assert loaded.dtype == dtype
    assert loaded.shape == shape
    assert torch.equal(loaded.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.integers() | st.text() | st.none(), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=30, deadline=None)  # each one waits for the disk
@given(value=PLAIN)
def test_plain_values(value: Any, tmp_path_factory: pytest.TempPathFactory):
    assert same(value, round_trip(value, tmp_path_factory.getbasetemp()))


@given(st.floats())
def test_floats_keep_every_bit(value: float):
    tree = pack(value).tree
    assert (tree == value and math.copysign(1, tree) == math.copysign(1, value)) or tree == {
        "float": repr(value)
    }


def test_states_of_torch_and_python(tmp_path: Path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": [model.weight], "lr": 0.1}, {"params": [model.bias]}])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    random.seed(1)
    state = {
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.default_rng(3).bit_generator.state,  # integers of 128 bits
        "scaler": {"scale": 65536.0, "_growth_tracker": 3},
        "order": OrderedDict(b=1, a=2),
    }
    loaded = round_trip(state, tmp_path)
    assert same({**state, "order": dict(state["order"])}, loaded)
    optimizer.load_state_dict(loaded["optimizer"])
    random.setstate(loaded["python"])
    torch.set_rng_state(loaded["torch"])


def test_shared_views_and_strided_tensors(tmp_path: Path):
    base = torch.arange(12.0).view(3, 4)
    parameter = torch.nn.Parameter(base)
    state = {"a": base, "again": base, "row": base[1], "turned": base.T, "p": parameter}
    loaded = round_trip(state, tmp_path)
    for name, tensor in state.items():
        assert torch.equal(loaded[name], tensor)
    assert loaded["a"] is loaded["again"]
    loaded["row"].zero_()
    assert torch.equal(loaded["a"], base)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"loss": np.float64(1.0)}, "state/loss is of type float64"),
        ({"a": [1, {2}]}, "state/a/1 is of type set"),
        ({"a": {(1, 2): 3}}, r"state/a has the key \(1, 2\)"),
        ({"rng": np.zeros(3)}, "state/rng is of type ndarray"),
    ],
)
def test_what_would_come_back_different_is_refused(value: Any, place: str):
    with pytest.raises(TypeError, match=place):
        pack(value)


@pytest.mark.parametrize(
    "tree",
    ["1", "{}", '{"values": {"tensor": "absent"}}', '{"values": {"tuple": 1}}',
     '{"values": {"dict": [1]}}', '{"values": {"float": "x"}}', '{"values": {"code": "x"}}',
     '{"values": {"a": 1, "b": 2}}', '{"values": {"dict": [[[], 1]]}}'],
)  # fmt: skip
def test_a_tree_that_we_did_not_write(tree: str, tmp_path: Path):
    pack(None).write(tmp_path)
    (tmp_path / "state.json").write_text(tree, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"state\.json"):
        read_values(tmp_path)


def test_no_file_or_half_a_file(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"state\.safetensors is not whole"):
        read_values(tmp_path)
    pack(torch.zeros(9)).write(tmp_path)
    content = (tmp_path / "state.safetensors").read_bytes()
    (tmp_path / "state.safetensors").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"state\.safetensors is not whole"):
        read_values(tmp_path)
