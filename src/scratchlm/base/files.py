"""Files are whole or absent: written to a temporary name, flushed, renamed; manifests come last."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from scratchlm.base.errors import CheckpointError, DataError

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries to disk, so that a rename survives a power cut.

    Windows cannot open a folder; its file system journals renames, so nothing is done there.
    """
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def write_whole(path: Path, *, text: bool = False) -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when the block ends without an error.

    path     its folder must exist; an older file of that name stays until the new one is whole
    text     True opens as UTF-8 with "\\n" line ends on every system; False opens as bytes
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        mode: dict[str, Any] = {"mode": "w", "encoding": "utf-8", "newline": "\n"}
        with open(partial, **(mode if text else {"mode": "wb"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all."""
    with write_whole(path, text=True) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON (UTF-8, Chinese as it is) whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, error: type[Exception] = DataError) -> Any:
    """Read a JSON file; `error` names the file and line of what cannot be parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except json.JSONDecodeError as bad:
        raise error(f"{path}, line {bad.lineno}: not valid JSON ({bad.msg}).") from None
    except (ValueError, RecursionError):  # bytes that are no UTF-8, numbers of 5,000 digits
        raise error(f"{path} is not a JSON text in UTF-8.") from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_manifest(folder: Path, format_name: str, version: int, **facts: Any) -> None:
    """Write `manifest.json` last: its presence says that every file it lists is whole.

    facts    anything JSON can hold: stored beside the format, the version, sizes and SHA-256
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {"format": format_name, "version": version, **facts, "files": files}
    write_json(folder / MANIFEST, manifest)


def read_manifest(
    folder: Path,
    format_name: str,
    version: int,
    *,
    verify: bool = True,
    error: type[Exception] = CheckpointError,
) -> dict[str, Any]:
    """Read `manifest.json` and, with `verify`, hold every listed file against size and SHA-256.

    raises   `error` for a missing or foreign manifest, a newer version, a missing, cut or
             changed file; the message names the file
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise error(f"{folder} has no {MANIFEST}: it is not a {format_name}, or was cut short.")
    manifest = read_json(path, error)
    if not isinstance(manifest, dict) or manifest.get("format") != format_name:
        raise error(f"{path} does not describe a {format_name}.")
    if manifest.get("version") != version:
        raise error(
            f"{path} has format version {manifest.get('version')}; this program reads version "
            f"{version}. Use the scratchlm release that wrote it, or write it again."
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise error(f"{path} lists no files: it was damaged.")
    if verify:
        for name, facts in files.items():
            _verify(folder, name, facts, error)
    return manifest


def _verify(folder: Path, name: str, facts: Any, error: type[Exception]) -> None:
    path = folder / name
    if ".." in Path(name).parts or Path(name).is_absolute() or not isinstance(facts, dict):
        raise error(f"{folder / MANIFEST} has an unusable entry {name!r}: it was damaged.")
    if not path.is_file():
        raise error(f"{path} is missing: the folder was only partly copied or written.")
    size = path.stat().st_size
    if size != facts.get("bytes"):
        raise error(f"{path} has {size} bytes instead of {facts.get('bytes')}: it was cut short.")
    if sha256_of(path) != facts.get("sha256"):
        raise error(f"{path} does not match its SHA-256: it was damaged or edited.")


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a new folder beside `folder`, then put it in its place.

    Every file is flushed to disk before the rename. A kill at any moment leaves the old folder,
    the new one, or (between two renames) both under their own names, never a half-written one
    under `folder`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    retired = folder.with_name(f".{folder.name}.retired")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        fill(partial)
        sync_files(path for path in partial.rglob("*") if path.is_file())
        sync_folder(partial)
        shutil.rmtree(retired, ignore_errors=True)
        if folder.exists():
            os.replace(folder, retired)
        os.replace(partial, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(retired, ignore_errors=True)


def sync_files(paths: Iterable[Path]) -> None:
    """Flush files that some library wrote, so that a later rename cannot outrun their bytes."""
    for path in paths:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
