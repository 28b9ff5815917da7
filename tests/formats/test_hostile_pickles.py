"""Pickles made to do harm: nothing of them is run, nothing hangs, nothing fills the memory."""

import copyreg
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import CheckpointError
from scratchlm.formats import torch_file
from scratchlm.formats.torch_file import open_torch, read_pickle
from scratchlm.recipes.import_model import open_any

resource = pytest.importorskip("resource")  # absent on Windows

pytestmark = pytest.mark.timeout(60)

# A tuple of tuples of tuples: 2**60 of them, in 500 bytes; the same of lists
LAUGHS = b")q\0" + b"0h\0h\0\x86q\0" * 60
LISTS = b"]q\0" + b"0](h\0h\0eq\0" * 60


def zipped(table: bytes) -> bytes:
    """A .pt file with that pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", table)
        archive.writestr("archive/data/0", bytes(64))
    return file.getvalue()


def in_a_row(table: bytes) -> bytes:
    """A .pt file of the old form with that pickle in it."""
    head = b"".join(pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + table + pickle.dumps(["0"], 2) + struct.pack("<q", 16) + bytes(64)


WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda table: table,
    "zipped": zipped,
    "in_a_row": in_a_row,
}

# What would run something in another program's hands; TRAP is where it would leave a file
RUNS = {
    "reduce": b"cos\nsystem\n(S'touch TRAP'\ntR.",
    "reduce eval": b'c__builtin__\neval\n(S\'open("TRAP", "w")\'\ntR.',
    "stack global": b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x10open('TRAP','w')\x85R.",
    "inst": b"(S'touch TRAP'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch TRAP'\no.",
    "newobj": b"\x80\x02csubprocess\nPopen\n(](U\x05touchU\x04TRAPet\x81.",
    "newobj ex": b"\x80\x04csubprocess\nPopen\n)}(\x8c\x04args](\x8c\x05touch\x8c\x04TRAPeu\x92.",
    "build": b"cos\nsystem\n}S'__setstate__'\ncos\nsystem\nsbS'touch TRAP'\nb.",
    "build of a class": b"ctypes\nSimpleNamespace\n)R}S'a'\ncos\nsystem\nsb.",
    "nested": b"cpickle\nloads\n(C\x1dcos\nsystem\n(S'touch TRAP'\ntR.tR.",
    "extension": b"\x80\x02\x82\xf0(S'touch TRAP'\ntR.",
    "getattr": b"c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch TRAP'\ntR.",
    "dotted": b"\x80\x04\x8c\x0fcollections.abc\x8c\x0asys.modules\x93.",
    "a method of torch": b"ctorch\nload\n(S'TRAP'\ntR.",
    "our own function": b"cscratchlm.base.files\nwrite_text\n(S'TRAP'\nS'x'\ntR.",
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", RUNS)
def test_nothing_runs(name, wrap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    copyreg.add_extension("os", "system", 240)
    try:
        try_all(WRAPS[wrap](RUNS[name]), tmp_path / "x.pt")
    finally:
        copyreg.remove_extension("os", "system", 240)
    assert not (tmp_path / "TRAP").exists()


def forbidden(*_arguments: object, **_named: object) -> None:
    pytest.fail("the pickle ran something")


def try_all(content: bytes, path: Path) -> None:
    """Read a file as a pickle, as torch.save's and as a checkpoint: all end, with our error."""
    path.write_bytes(content)
    for read in (read_pickle, opened, checkpoint):
        try:
            read(path)
        except CheckpointError as error:
            said = str(error)
            assert len(said) < 1000
            assert path.name in said


def opened(path: Path) -> None:
    with open_torch(path):
        pass


def checkpoint(path: Path) -> None:
    """Open a nanoGPT and read all of it."""
    with open_any(path) as source:
        for read in source.weights.values():
            read()


def table_of(value: bytes) -> bytes:
    """The pickle of {"model_args": {"n_layer": value}, "model": {"w": value}}."""
    return (
        b"\x80\x02}(U\x0amodel_args}U\x07n_layer" + value + b"sU\x05model}U\x01w" + value + b"su."
    )


STORAGE = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu%stQ"


def tensor(size: bytes, offset: bytes, shape: bytes, stride: bytes) -> bytes:
    """The pickle of a tensor; each argument is a pickle of a value."""
    numbers = (STORAGE % size, offset, shape, stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"".join(numbers) + b"\x89)tR"


ONE, HUGE = b"K\x01", b"\x8a\x08" + struct.pack("<q", 2**59)

# What takes days, all memory, or the stack of a reader that trusts it
FILLS = {
    "laughs as a key": b"\x80\x02}" + LAUGHS + b"Ns.",
    "laughs as a key of several": b"\x80\x02}(" + LAUGHS + b"NK\x01Nu.",
    "laughs as a key from the start": b"\x80\x02(" + LAUGHS + b"Nd.",
    "laughs in a set": b"\x80\x04\x8f(" + LAUGHS + b"\x90.",
    "laughs in a frozen set": b"\x80\x04(" + LAUGHS + b"\x91.",
    "laughs for a set": b"\x80\x02c__builtin__\nset\n](" + LAUGHS + b"e\x85R.",
    "laughs as a size": table_of(LAUGHS),
    "laughs of lists as a size": table_of(LISTS),
    "laughs as a place": b"\x80\x02" + LAUGHS + b"Q.",
    "laughs as the kind of a place": b"\x80\x02(" + LAUGHS + b"NNNNtQ.",
    "laughs as a name of numbers": STORAGE.replace(b"U\x010", LAUGHS) % ONE + b".",
    "laughs as a shape": tensor(ONE, b"K\0", LAUGHS, LAUGHS) + b".",
    "laughs as a function": b"\x80\x02" + LAUGHS + b")R.",
    "laughs as a state": b"\x80\x02cx\nY\n)R" + LAUGHS + b"b.",
    "laughs as what it is": b"\x80\x02" + LAUGHS + b".",
    "laughs as letters": b"\x80\x02}U\x04itos}K\0" + LAUGHS + b"ss.",
    "a place in the memo": b"\x80\x02Nr\0\0\0\x10.",
    "the last place in the memo": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a far place in the memo": b"Np99999999999999999999\n.",
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a number of 5,000 digits": b"I" + b"9" * 5000 + b"\n.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "very long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**64 - 1) + b".",
    "bytes of a TB": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "an array of a TB": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "a text of a TB": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".",
    "a frame of a TB": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "marks in marks": b"(" * 300_000 + b"N.",
    "lists in lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "tuples in tuples": b")" + b"\x85" * 300_000 + b".",
    "deep as a size": table_of(b"]" * 100_000 + b"a" * 99_999),
    "a list in itself": b"]q\0h\0a.",
    "a table in itself": b"\x80\x02}q\0U\x05modelh\0sU\x0amodel_argsh\0s.",
    "a long tuple, often": b"(" + b"N" * 100_000 + b"tq\0" + b"cx\nY\nh\0R0" * 100_000 + b"N.",
    "many arguments": b"ctorch._utils\n_rebuild_parameter\nq\1(" + b"N" * 100_000 + b"tq\0"
    + b"h\1h\0R0" * 10_000 + b"N.",
    "a tensor that repeats": table_of(tensor(ONE, b"K\0", HUGE + HUGE + b"\x86", b"K\0K\0\x86")),
    "an impossible tensor": table_of(tensor(HUGE, b"K\0", HUGE + HUGE + b"\x86", b"K\1K\1\x86")),
    "an impossible tensor of none": table_of(
        tensor(ONE, b"K\0", b"K\0" + HUGE + HUGE + b"\x87", b"K\1K\1K\1\x87")
    ),
    "numbers of a TB": table_of(tensor(HUGE, b"K\0", HUGE + b"\x85", b"K\1\x85")),
    "sizes that are none": table_of(tensor(ONE, b"G" + bytes(8), b"U\x011\x85", b"N\x85")),
    "many classes": b"\x80\x02" + b"".join(b"cx\n%d\n0" % i for i in range(50_000)) + b"N.",
    "keys of one hash": b"\x80\x02}("
    + b"".join(b"\x8a\x10" + ((2**61 - 1) * i).to_bytes(16, "little") + b"N" for i in range(20_000))
    + b"u.",
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", FILLS)
def test_nothing_hangs_or_fills_the_memory(name, wrap, tmp_path):
    before, start = peak_mb(), time.monotonic()
    try_all(WRAPS[wrap](FILLS[name]), tmp_path / "x.pt")
    assert peak_mb() - before < 200
    assert time.monotonic() - start < 10


def peak_mb() -> float:
    """The most memory that this process ever took."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@pytest.mark.parametrize("name", [name for name in FILLS if "tensor" in name])
def test_a_tensor_is_no_larger_than_its_numbers(name, tmp_path):
    (tmp_path / "x.pt").write_bytes(zipped(FILLS[name]))
    with pytest.raises(CheckpointError, match=r"longer than its numbers|impossible sizes"):
        opened(tmp_path / "x.pt")


def test_numbers_that_are_not_there_are_not_read(tmp_path):
    (tmp_path / "x.pt").write_bytes(zipped(FILLS["numbers of a TB"]))
    with (
        open_torch(tmp_path / "x.pt") as found,
        pytest.raises(CheckpointError, match=r"x\.pt: the numbers '0' are missing, cut short"),
    ):
        found["model"]["w"].read()


def test_a_compressed_table_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"]" * 60_000_000 + b".")
    (tmp_path / "x.pt").write_bytes(file.getvalue())
    with pytest.raises(CheckpointError, match="table of tensors is compressed"):
        opened(tmp_path / "x.pt")


def test_a_byte_order_of_a_gigabyte_is_not_read(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"N.", zipfile.ZIP_STORED)
        with archive.open("archive/byteorder", "w") as order:
            for _ in range(300):
                order.write(bytes(1 << 20))
    (tmp_path / "x.pt").write_bytes(file.getvalue())
    before = peak_mb()
    with pytest.raises(CheckpointError, match="big-endian"):
        opened(tmp_path / "x.pt")
    assert peak_mb() - before < 200


def test_fields_cannot_hide_methods_or_undo_checks(tmp_path):
    hidden = b"\x80\x02ccollections\nOrderedDict\n)R}(U\x03getK\1U\x05itemsK\1ub."
    (tmp_path / "x.pkl").write_bytes(hidden)
    assert read_pickle(tmp_path / "x.pkl").get("get") is None
    one = tensor(ONE, b"K\0", b"K\1\x85", b"K\1\x85")
    for changed in (one, STORAGE % ONE, b"ctorch._utils\n_rebuild_tensor\n", b"ctorch\nfloat32\n"):
        for state in (b"}U\x05shapeK\1s", b"N}U\x04readNs\x86", b"N}U\x0c__defaults__)s\x86"):
            (tmp_path / "x.pt").write_bytes(zipped(b"\x80\x02" + changed + state + b"b."))
            with pytest.raises(CheckpointError, match="no fields"):
                opened(tmp_path / "x.pt")
    assert torch_file._lazy.__defaults__ is None


def test_names_of_torch_import_nothing(tmp_path):
    """torch imports some modules of its own when they are asked for by name."""
    program = (
        "import sys; from pathlib import Path; import torch\n"
        "from scratchlm.formats.torch_file import read_pickle\n"
        "path, before = Path(sys.argv[1]), set(sys.modules)\n"
        "for name in ('onnx', '_dynamo', '_inductor', 'export', 'compile', 'serialization'):\n"
        "    path.write_bytes(b'ctorch\\n' + name.encode() + b'\\n.')\n"
        "    read_pickle(path)\n"
        "sys.exit(', '.join(set(sys.modules) - before) or 0)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


STEPS = [
    *(bytes([code]) for code in b"().0NRabdeloqstu2]}\x81\x85\x86\x87\x89\x8f\x90\x91\x92\x94"),
    b"\x80\x02", b"h\0", b"q\0", b"h\1", b"q\1", b"K\0", b"K\1", b"U\x01a", b"U\x05model", b"Q",
    b"cos\nsystem\n", b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", HUGE,
    b"ccollections\nOrderedDict\n", STORAGE % ONE, tensor(ONE, b"K\0", b"K\1\x85", b"K\1\x85"),
    b"U\x0amodel_args", b"U\x07n_layer", LAUGHS, b"\x82\xf0", b"(cx\nY\n", b"ctorch\nfloat32\n",
]  # fmt: skip


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=30), wrap=st.sampled_from(list(WRAPS)))
def test_random_pickles_give_our_error_or_none(steps, wrap, tmp_path):
    try_all(WRAPS[wrap](b"".join(steps) + b"."), tmp_path / "x.pt")


def test_whole_pickles_are_read_as_the_library_does(tmp_path):
    values = {"a": [1, 2.5, None, True, "x", "\u4f60", (1, ("z",)), -(2**70)], "b": {0: {}, 1: []}}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(values, protocol))
        assert read_pickle(tmp_path / "x.pkl") == values
    torch.save(values, tmp_path / "x.pt")
    with open_torch(tmp_path / "x.pt") as found:
        assert found == values
