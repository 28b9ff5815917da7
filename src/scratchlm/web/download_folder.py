"""Folders of downloaded files: gone on with, verified, remembered.

A file has another name until it is whole and verified. What was verified is written down, so that
gigabytes are not hashed at every call.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from scratchlm.base.errors import DataError
from scratchlm.base.files import read_json, sync_files, sync_folder, write_json
from scratchlm.base.log import say
from scratchlm.base.progress import Progress, counted

_RECORD = ".downloaded.json"


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    name       its path below the folder, with "/"
    n_bytes    of the whole
    algorithm  of the digest: "sha256", "md5", or "git" for the id of a git blob
    digest     hexadecimal; "" where nothing but the size is known
    etag       by which its server names this state of it; "" where it does not
    headers    to ask with; the user's token is among them
    """

    name: str
    url: str
    n_bytes: int
    algorithm: str
    digest: str
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def tag(self) -> str:
        """Stands for this content: other content of that name has another."""
        known = f"{self.n_bytes} {self.digest} {self.etag}"
        return hashlib.sha256(known.encode()).hexdigest()[:12]

    @property
    def part(self) -> str:
        """The name of what is there of it, until it is whole."""
        return f"{self.name}.{self.tag}.part"

    def is_at(self, path: Path) -> bool:
        """Whether a file has the size and, where it is known, the digest."""
        if not path.is_file() or size_of(path) != self.n_bytes:
            return False
        if not self.digest:
            return True
        algorithm = "sha1" if self.algorithm == "git" else self.algorithm
        start = hashlib.new(algorithm, usedforsecurity=False)
        if self.algorithm == "git":
            start.update(b"blob %d\0" % self.n_bytes)
        with open(path, "rb") as content:
            return hashlib.file_digest(content, lambda: start).hexdigest() == self.digest


Fetch = Callable[[RemoteFile, Path, Progress], None]


def whole_revision(folder: Path) -> str:
    """The revision that lies in a folder whole and as it was verified; "" where none does."""
    record = _Record.read(folder)
    untouched = all(record.has(folder, name) for name in record.files)
    return record.revision if untouched else ""


def bring(
    source: str,
    folder: Path,
    revision: str,
    files: list[RemoteFile],
    fetch: Fetch,
    *,
    elsewhere: str,
) -> None:
    """Make exactly these files lie in the folder, verified; those of an older revision go.

    source     what the user calls them
    fetch      appends to a part of a file what it lacks, or begins it anew, and counts the bytes
    elsewhere  how to take a folder on another disk, in words: "name another with --out"
    raises     DataError for damaged files and a full disk, and whatever `fetch` does
    """
    record = _Record.read(folder)
    record.revision = ""
    for name in set(record.files) - {file.name for file in files}:
        (folder / name).unlink(missing_ok=True)
        del record.files[name]
    record.write(folder)
    parts = {folder / file.part for file in files}
    for path in folder.rglob("*.part"):
        if path not in parts:
            path.unlink()
    missing = [file for file in files if not record.has(folder, file.name, file.tag)]
    if missing:
        _check_room(source, folder, missing, elsewhere)
        _bring_missing(source, folder, record, missing, fetch)
    record.revision = revision
    record.write(folder)


def damaged(file: RemoteFile, part: Path) -> DataError:
    """Delete what was brought of a file; the error that says so."""
    part.unlink(missing_ok=True)
    expected = f"{file.n_bytes:,} bytes" + f", {file.algorithm} {file.digest}" * bool(file.digest)
    return DataError(
        f"{file.url} is not {file.name} as it should be ({expected}): it was damaged, and has been "
        "deleted. Download it again, or from another mirror."
    )


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


@dataclass
class _Record:
    """What was verified in a folder.

    revision  which all files together are; "" while some are missing
    files     name -> its tag, bytes and time of change (nanoseconds)
    """

    revision: str = ""
    files: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a folder; an empty one where none can be read: all is verified again."""
        try:
            values = read_json(folder / _RECORD, DataError)
            files = {name: list(facts) for name, facts in values["files"].items()}
            return cls(str(values["revision"]), files)
        except (DataError, KeyError, TypeError, AttributeError):
            return cls()

    def write(self, folder: Path) -> None:
        write_json(folder / _RECORD, {"revision": self.revision, "files": self.files})

    def add(self, folder: Path, name: str, tag: str) -> None:
        facts = (folder / name).stat()
        self.files[name] = [tag, facts.st_size, facts.st_mtime_ns]

    def has(self, folder: Path, name: str, tag: str | None = None) -> bool:
        """Whether the file was verified (as this content), and nobody has touched it since."""
        path = folder / name
        if name not in self.files or not path.is_file():
            return False
        facts, noted = path.stat(), self.files[name]
        tags = noted[:1] if tag is None else [tag]
        return noted == [*tags, facts.st_size, facts.st_mtime_ns]


def _check_room(source: str, folder: Path, missing: list[RemoteFile], elsewhere: str) -> None:
    there = sum(size_of(folder / file.part) for file in missing)
    lacking, free = sum(file.n_bytes for file in missing) - there, shutil.disk_usage(folder).free
    if lacking > free:
        raise DataError(
            f"{source} needs {lacking / 1e9:,.1f} GB more, and the disk of {folder} has "
            f"{free / 1e9:,.1f} GB left. Free space there, or {elsewhere}."
        )


def _bring_missing(
    source: str, folder: Path, record: _Record, missing: list[RemoteFile], fetch: Fetch
) -> None:
    total = sum(file.n_bytes for file in missing)
    there = sum(size_of(folder / file.part) for file in missing)
    host = missing[0].url.split("/")[2].rpartition("@")[2]  # without a mirror's password
    say(f"{source}: {counted(len(missing), 'file')}, {total / 1e6:,.1f} MB, {host} -> {folder}")
    with Progress(f"downloading {source}", total, start=there) as shown:
        for file in missing:
            _bring_file(file, folder, fetch, shown)
            record.add(folder, file.name, file.tag)
            record.write(folder)


def _bring_file(file: RemoteFile, folder: Path, fetch: Fetch, shown: Progress) -> None:
    path, part = folder / file.name, folder / file.part
    if file.is_at(path):  # copied, or a kill came before it was noted
        shown.advance(file.n_bytes)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if not file.is_at(part):
        fetch(file, part, shown)
        if not file.is_at(part):
            raise damaged(file, part)
    sync_files([part])
    os.replace(part, path)
    sync_folder(path.parent)
