"""Which files are extracted, and which of them make a shard: the plan of the stage `extract`.

It follows from the names and sizes of the files alone, so that what comes out does not depend on
how many workers there are.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scratchlm.base.files import replace_folder
from scratchlm.corpus.contents import Part
from scratchlm.corpus.read import Readable, SourceFile, find_files
from scratchlm.extraction.kinds import HEAD, KINDS, PACKINGS, Kind, kind_of_bytes, kind_of_name

_BYTES = 1 << 25  # of small files together: a second or two of work, where they are web pages
_FILES = 2000
_PIECE = 1 << 27  # bytes of a WARC file: half a minute of work


def _kind_of(path: Path) -> Kind | None:
    """The kind of a file: by its name or, where that says nothing, by its bytes."""
    known = kind_of_name(path.name).kind
    if known is not None:
        return known
    try:
        with open(path, "rb") as file:
            return kind_of_bytes(file.read(HEAD))
    except OSError:
        return None


_SHOWN = " ".join(ending for ending, kind in KINDS.items() if kind != "code")  # those are 80
_READABLE = Readable(_kind_of, f"{_SHOWN}, or of code (most also with {' '.join(PACKINGS)})")


def find_sources(paths: Sequence[Path | str], *, without: Path | None = None) -> list[SourceFile]:
    """All files that can be extracted, as `find_files` finds them."""
    return find_files(paths, _READABLE, without=without)


def plan_shards(files: Iterable[SourceFile]) -> Iterator[list[Part]]:
    """Group files: small ones together, large ones alone, large WARC files in pieces."""
    group: list[Part] = []
    size = 0
    for file in files:
        if file.n_bytes >= _BYTES:
            yield from ([piece] for piece in _pieces(file))
            continue
        if group and (size + file.n_bytes > _BYTES or len(group) == _FILES):
            yield group
            group, size = [], 0
        group.append(Part(file))
        size += file.n_bytes
    if group:
        yield group


def _pieces(file: SourceFile) -> Iterator[Part]:
    n_pieces = max(1, file.n_bytes // _PIECE) if file.kind == "warc" else 1
    starts = [file.n_bytes * i // n_pieces for i in range(n_pieces)]
    for start, end in zip(starts, [*starts[1:], None]):
        yield Part(file, start, end)


def fingerprint(files: Iterable[SourceFile]) -> str:
    """Stands for files as they are now: their names, sizes and times of change."""
    known = hashlib.sha256()
    for file in files:
        changed = file.path.stat().st_mtime_ns
        known.update(json.dumps([str(file.path), file.name, file.n_bytes, changed]).encode())
    return known.hexdigest()[:16]


def write_plan(folder: Path, shards: Iterable[Sequence[Part]]) -> list[Path]:
    """Write the list of each shard; a folder that is there already stays as it is."""

    def fill(new: Path) -> None:
        for number, parts in enumerate(shards):
            lines = (json.dumps(_as_json(part)) + "\n" for part in parts)
            (new / f"{number:05}.jsonl").write_text("".join(lines), encoding="ascii")

    if not folder.is_dir():
        replace_folder(folder, fill)
    return sorted(folder.glob("*.jsonl"))


def _as_json(part: Part) -> dict[str, Any]:
    file = {**asdict(part.file), "path": str(part.file.path)}
    return {"file": file, "start": part.start, "end": part.end}


def read_plan(path: Path) -> list[Part]:
    """The files of a shard."""
    parts = []
    for line in path.read_text(encoding="ascii").splitlines():
        values = json.loads(line)
        file = SourceFile(**{**values["file"], "path": Path(values["file"]["path"])})
        parts.append(Part(file, values["start"], values["end"]))
    return parts
