"""Files are whole or absent, damage is named, and one process at a time writes."""

import os
import subprocess
import sys

import pytest

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.base.files import (
    MANIFEST,
    locked,
    read_json,
    read_manifest,
    replace_folder,
    surviving,
    write_json,
    write_manifest,
    write_text,
    write_whole,
)


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_and_fail():
        with write_whole(path, text=True) as file:
            file.write("new")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_and_fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupted_folder_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "model"
    replace_folder(folder, lambda partial: write_text(partial / "x", "old"))

    def fail(partial):
        write_text(partial / "x", "new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(folder, fail)
    assert (folder / "x").read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    replace_folder(folder, lambda partial: write_text(partial / "y", "new"))
    assert [p.name for p in folder.iterdir()] == ["y"]


KILLED = """
import os, pathlib, signal, sys
from scratchlm.base import files
folder, renames_done = pathlib.Path(sys.argv[1]), []
rename = os.replace
def rename_once(*names):
    if renames_done:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*names)
    renames_done.append(names)
def fill(partial):
    (partial / "x").write_text("new", encoding="utf-8")
    os.replace = rename_once
files.replace_folder(folder, fill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_kill_between_the_two_renames_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "model"
    replace_folder(folder, lambda partial: write_text(partial / "x", "old"))
    killed = subprocess.run([sys.executable, "-c", KILLED, folder])
    assert killed.returncode == -9
    assert not folder.exists()
    assert (surviving(folder) / "x").read_text(encoding="utf-8") == "old"

    def fail(_):
        assert (folder / "x").read_text(encoding="utf-8") == "old"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(folder, fail)
    assert surviving(folder) == folder
    assert (folder / "x").read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


WORKING = """
import pathlib, sys
from scratchlm.base.files import locked
run = pathlib.Path(sys.argv[1])
with locked(run, run / ".lock"):
    print("working", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    run = tmp_path / "run"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for end in (subprocess.Popen.kill, lambda process: process.stdin.close()):
        with subprocess.Popen([sys.executable, "-c", WORKING, run], **pipes) as process:
            process.stdout.readline()
            refusal = f"run is in use by another scratchlm, process {process.pid}"
            with pytest.raises(ConfigError, match=refusal), locked(run, run / ".lock"):
                pytest.fail("two at once")
            end(process)
        with locked(run, run / ".lock"):
            assert (run / ".lock").read_text(encoding="ascii") == str(os.getpid())


def test_a_lock_leaves_no_trace(tmp_path):
    run = tmp_path / "run"
    with locked(run, run / ".lock"):
        pass
    assert sys.platform == "win32" or not run.exists()
    with locked(run, run / ".lock"):
        write_text(run / "x", "kept")
    assert [p.name for p in run.iterdir() if p.name != ".lock"] == ["x"]


def damage_byte(folder):
    data = bytearray((folder / "sub" / "b.bin").read_bytes())
    data[500] ^= 4
    (folder / "sub" / "b.bin").write_bytes(data)


def cut_short(folder):
    (folder / "sub" / "b.bin").write_bytes(b"\0" * 10)


def add_to(folder):
    with (folder / "sub" / "b.bin").open("ab") as file:
        file.write(b"abc")


def remove(folder):
    (folder / "sub" / "b.bin").unlink()


def rename_format(folder):
    write_manifest(folder, "other", 1)


def newer(folder):
    write_manifest(folder, "thing", 2)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_byte, "b.bin does not match its SHA-256"),
        (cut_short, "b.bin has 10 bytes instead of 1000: it was cut short"),
        (add_to, "b.bin has 1003 bytes instead of 1000: it was changed since it was written"),
        (remove, "b.bin is missing"),
        (rename_format, "does not describe a thing"),
        (newer, "format version 2; this program reads version 1"),
        (lambda f: write_text(f / MANIFEST, "{"), "line 1: not valid JSON"),
        (lambda f: (f / MANIFEST).unlink(), "it is not a thing, or was cut short"),
        (lambda f: write_json(f / MANIFEST, [1]), "does not describe a thing"),
        (
            lambda f: write_json(
                f / MANIFEST, {"format": "thing", "version": 1, "files": {"../x": {}}}
            ),
            "unusable entry '../x'",
        ),
    ],
)
def test_a_manifest_sees_damage(tmp_path, harm, message):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.bin").write_bytes(bytes(1000))
    write_manifest(tmp_path, "thing", 1, step=7)
    assert read_manifest(tmp_path, "thing", 1)["step"] == 7
    harm(tmp_path)
    with pytest.raises(CheckpointError) as error:
        read_manifest(tmp_path, "thing", 1)
    assert message in str(error.value)


def test_json_errors_name_file_and_line(tmp_path):
    write_text(tmp_path / "a.json", '{\n"x": ,}')
    with pytest.raises(DataError, match=r"a\.json, line 2: not valid JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b\.json is not a JSON text in UTF-8"):
        read_json(tmp_path / "b.json")
    write_text(tmp_path / "deep.json", "[" * 100_000)
    with pytest.raises(DataError, match="is not a JSON text"):
        read_json(tmp_path / "deep.json")
