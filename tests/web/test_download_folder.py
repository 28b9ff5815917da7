"""A folder of downloaded files holds what was asked for, verified, and remembers that it was."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.base.progress import Progress
from scratchlm.web.download_folder import Fetch, RemoteFile, bring, whole_revision

CONTENTS = {"a.json": b"{}", "b.bin": bytes(range(256)) * 400, "empty": b""}
SHA256 = [
    RemoteFile(name, f"http://h.org/{name}", len(c), "sha256", hashlib.sha256(c).hexdigest())
    for name, c in CONTENTS.items()
]


class Server:
    """Gives what is asked for, and notes its name; it dies after `budget` bytes."""

    def __init__(self, contents: dict[str, bytes] = CONTENTS, budget: int = 10**9) -> None:
        self.contents, self.budget = contents, budget
        self.asked: list[str] = []

    def fetch(self, file: RemoteFile, part: Path, shown: Progress) -> None:
        self.asked.append(file.name)
        with open(part, "ab") as out:
            rest = self.contents[file.name][out.tell() :]
            out.write(rest[: self.budget])
        shown.advance(len(rest))
        self.budget -= len(rest)
        if self.budget < 0:
            raise ConnectionError(file.name)


def there(folder: Path) -> dict[str, bytes]:
    """The files of a folder, without its record."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".downloaded.json"}


def put(folder: Path, files: list[RemoteFile], fetch: Fetch, revision: str = "1") -> None:
    bring("m", folder, revision, files, fetch, elsewhere="take a larger disk")


def brought(folder: Path, files: list[RemoteFile], revision: str = "1") -> list[str]:
    """Which files a server was asked for, which has all of them."""
    server = Server()
    put(folder, files, server.fetch, revision)
    return server.asked


def test_files_are_brought_once(tmp_path):
    assert whole_revision(tmp_path) == ""
    assert brought(tmp_path, SHA256) == list(CONTENTS)
    assert there(tmp_path) == CONTENTS
    assert whole_revision(tmp_path) == "1"
    assert brought(tmp_path, SHA256, revision="2") == []
    assert whole_revision(tmp_path) == "2"


def test_what_is_broken_off_is_not_whole_and_goes_on(tmp_path):
    server = Server(budget=1000)
    with pytest.raises(ConnectionError):
        put(tmp_path, SHA256, server.fetch)
    assert whole_revision(tmp_path) == ""
    [part] = tmp_path.glob("*.part")
    assert part.stat().st_size == 998
    assert part.name.startswith("b.bin.")
    assert brought(tmp_path, SHA256) == ["b.bin", "empty"]
    assert there(tmp_path) == CONTENTS


def test_a_part_of_other_content_is_not_gone_on_with(tmp_path):
    older = replace(SHA256[1], digest="0" * 64)
    with pytest.raises(ConnectionError):
        put(tmp_path, [older], Server({"b.bin": b"x" * 9999}, budget=1000).fetch)
    assert brought(tmp_path, SHA256) == list(CONTENTS)
    assert there(tmp_path) == CONTENTS


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("change", [b"other", None])
def test_a_file_that_somebody_changed_is_brought_again(name, change, tmp_path):
    brought(tmp_path, SHA256)
    if change is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(change)
    assert whole_revision(tmp_path) == ""
    assert brought(tmp_path, SHA256) == [name]
    assert there(tmp_path) == CONTENTS


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"revision": "1", "files": {"a": 1}}', None])
def test_without_its_record_a_folder_is_verified_and_kept(record, tmp_path):
    brought(tmp_path, SHA256)
    (tmp_path / ".downloaded.json").unlink()
    if record:
        (tmp_path / ".downloaded.json").write_text(record, encoding="utf-8")
    assert whole_revision(tmp_path) == ""
    assert brought(tmp_path, SHA256) == []
    assert whole_revision(tmp_path) == "1"


def test_files_of_an_older_revision_go_and_the_same_ones_stay(tmp_path):
    brought(tmp_path, SHA256)
    (tmp_path / "mine.txt").write_bytes(b"")
    assert brought(tmp_path, SHA256[1:], revision="2") == []
    assert set(there(tmp_path)) == {"b.bin", "empty", "mine.txt"}


DIGESTS = {  # of b"hello\n": `git hash-object`, md5sum, sha256sum
    "git": "ce013625030ba8dba906f756967f9e9ca394464a",
    "md5": "b1946ac92492d2347c6235b4d2611184",
    "sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
}


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_each_digest_is_that_of_its_tool(algorithm, tmp_path):
    file = RemoteFile("h", "http://h.org/h", 6, algorithm, DIGESTS[algorithm])
    with pytest.raises(DataError, match=rf"6 bytes, {algorithm} {DIGESTS[algorithm]}"):
        put(tmp_path, [file], Server({"h": b"hallo\n"}).fetch)
    assert there(tmp_path) == {}
    put(tmp_path, [file], Server({"h": b"hello\n"}).fetch)
    assert there(tmp_path) == {"h": b"hello\n"}


@pytest.mark.parametrize("content", [b"hello", b"hello\n\n"])
def test_without_a_digest_the_size_is_verified(content, tmp_path):
    file = RemoteFile("h", "http://h.org/h", 6, "md5", "")
    with pytest.raises(DataError, match=r"h is not h as it should be \(6 bytes\): it was dam"):
        put(tmp_path, [file], Server({"h": content}).fetch)
    assert there(tmp_path) == {}


def test_more_than_the_disk_has_is_not_begun(tmp_path):
    server = Server()
    with pytest.raises(DataError, match=r"m needs 1,000,000,000\.0 GB more, .* or take a larg"):
        put(tmp_path, [replace(SHA256[0], n_bytes=10**18)], server.fetch)
    assert not server.asked


def test_it_says_what_it_brings_and_no_secrets(tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO, "scratchlm")
    host = "me:secret@h.org"
    files = [replace(f, url=f"https://{host}/{f.name}") for f in SHA256]
    brought(tmp_path, files)
    assert f"m: 3 files, 0.1 MB, h.org -> {tmp_path}" in caplog.text
    assert "downloading m done: 102.4 kB" in capsys.readouterr().err
    assert "secret" not in caplog.text
    assert "secret" not in repr(replace(SHA256[0], headers={"Authorization": "Bearer secret"}))


def test_files_lie_in_folders(tmp_path):
    files = [replace(SHA256[1], name="data/en/b.bin"), replace(SHA256[2], name="数据/empty")]
    server = Server({file.name: CONTENTS[file.name.split("/")[-1]] for file in files}, budget=1000)
    with pytest.raises(ConnectionError):
        put(tmp_path, files, server.fetch)
    server.budget = 10**9
    put(tmp_path, files, server.fetch)
    assert (tmp_path / "data" / "en" / "b.bin").read_bytes() == CONTENTS["b.bin"]
    assert whole_revision(tmp_path) == "1"
    (tmp_path / "data" / "en" / "b.bin").unlink()
    assert whole_revision(tmp_path) == ""
    put(tmp_path, files[1:], server.fetch, "2")
    assert not list(tmp_path.rglob("*.part"))
    assert whole_revision(tmp_path) == "2"
