"""Which kernels are taken, and that a missing or foreign library does no harm."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scratchlm.base.errors import ConfigError
from scratchlm.native import build, ops
from scratchlm.native import library as lib

find = lib.library.__wrapped__  # without the cache


@pytest.fixture
def _built() -> None:
    if find() is None:
        pytest.skip("the kernels were not built: no C++ compiler, or SCRATCHLM_NATIVE=off")


def test_off_is_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCRATCHLM_NATIVE", "off")
    assert find() is None


def test_an_unknown_choice_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCRATCHLM_NATIVE", "avx9")
    with pytest.raises(ConfigError, match="SCRATCHLM_NATIVE = 'avx9' is not one of auto, off"):
        find()


def test_absent_library_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(lib, "library_path", lambda: tmp_path / "none.so")
    assert find() is None


def test_a_file_that_is_no_library_is_said_and_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "bad.so").write_text("no library")
    monkeypatch.setattr(lib, "library_path", lambda: tmp_path / "bad.so")
    assert find() is None
    assert "bad.so cannot be loaded" in caplog.text


@pytest.mark.usefixtures("_built")
def test_a_library_of_other_sources_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(lib, "source_hash", lambda: "0123456789abcdef")
    assert find() is None
    assert "was built from other sources" in caplog.text


def test_only_bfloat16_on_the_cpu_outside_compile_is_taken():
    x = torch.ones(4)
    assert not ops.usable(x)
    assert not ops.usable(x.to("meta", torch.bfloat16))
    assert ops.usable(x.bfloat16()) == (lib.library() is not None)


def test_without_a_compiler_the_build_says_so_and_makes_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "no C++ compiler" in build.build_library()


def test_a_compiler_that_fails_leaves_the_old_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    library = tmp_path / "kernels.so"
    library.write_text("old")
    monkeypatch.setattr(build, "find_compiler", lambda: sys.executable)
    monkeypatch.setattr(build, "library_path", lambda: library)
    assert "failed, so PyTorch's kernels will be used" in build.build_library()
    assert library.read_text() == "old"


def test_the_build_needs_nothing_but_python():
    """hatch_build.py runs it where scratchlm and its libraries are not installed."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='x'); print(sorted(sys.modules))"
    )
    command = [sys.executable, "-I", "-c", code, str(Path(build.__file__))]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "torch" not in modules
    assert "scratchlm" not in modules
