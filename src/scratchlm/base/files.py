"""Files are whole or absent: written to a temporary name, flushed, renamed; manifests come last."""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.base.log import warn_once
from scratchlm.base.runtime import cpu_count

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MANIFEST = "manifest.json"
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # how systems say that a lock is another's
_LOCKED_BYTE = 1 << 30  # on Windows: far behind the text, since nobody else can read that byte


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
    except OSError as bad:
        bad.filename = bad.filename or str(path)  # a full disk does not say which file
        raise
    finally:
        partial.unlink(missing_ok=True)


def check_new_file(path: Path) -> None:
    """See that a file can be written, before long work is done for it; makes its folder.

    raises   ConfigError for a folder of that name, and where its own cannot be made
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder. Name a file.")
    make_parent(path)


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
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_all(paths: Iterable[Path]) -> list[str]:
    """`sha256_of` each file, several at a time: hashing lets other threads run."""
    with ThreadPoolExecutor(cpu_count()) as threads:
        return list(threads.map(sha256_of, paths))


def write_manifest(folder: Path, format_name: str, version: int, **facts: Any) -> None:
    """Write `manifest.json` last: its presence says that every file it lists is whole.

    facts    anything JSON can hold: stored beside the format, the version, sizes and SHA-256
    """
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != MANIFEST]
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256}
        for path, sha256 in zip(paths, _sha256_of_all(paths), strict=True)
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
        _verify(folder, files, error)
    return manifest


def _verify(folder: Path, files: dict[str, Any], error: type[Exception]) -> None:
    """Hold what is there against the list: first every name and size, then every SHA-256."""
    for name, facts in files.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute() or not isinstance(facts, dict):
            raise error(f"{folder / MANIFEST} has an unusable entry {name!r}: it was damaged.")
        if not path.is_file():
            raise error(f"{path} is missing: the folder was only partly copied or written.")
        size = path.stat().st_size
        if size != facts.get("bytes"):
            longer = isinstance(facts.get("bytes"), int) and size > facts["bytes"]
            was = "changed since it was written" if longer else "cut short"
            raise error(f"{path} has {size} bytes instead of {facts.get('bytes')}: it was {was}.")
    paths = [folder / name for name in files]
    for path, facts, sha256 in zip(paths, files.values(), _sha256_of_all(paths), strict=True):
        if sha256 != facts.get("sha256"):
            raise error(f"{path} does not match its SHA-256: it was damaged or edited.")


def check_new_folder(folder: Path, mark: str, *, overwrite: bool) -> None:
    """Refuse a place where a folder of ours cannot be put, before any work is done.

    mark     the file that a folder of this kind has: others are never replaced
    raises   ConfigError for a file, for a folder that is not ours or holds what we did not write,
             and for one of ours unless `overwrite`; likewise where nothing can be written
    """
    if folder.is_file():
        raise ConfigError(f"{folder} is a file, and a folder is to be written. Name another.")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there and mark not in there:
        raise ConfigError(f"{folder} holds something else, so it is not replaced. Name another.")
    if there and not overwrite:
        raise ConfigError(
            f"{folder} exists. Name another, or give --overwrite (in Python, overwrite=True)."
        )
    make_parent(folder)


def make_parent(path: Path) -> None:
    """Make the folder that a file or folder is to be put in.

    raises   ConfigError where that cannot be
    """
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as bad:
        raise ConfigError(
            f"{path} cannot be written ({bad.strerror}). Name another place."
        ) from None


def check_room(path: Path, n_bytes: int) -> None:
    """Refuse a place on a disk that has less room than so many bytes.

    path     what is to be written; its folder exists
    raises   ConfigError
    """
    free = shutil.disk_usage(path.absolute().parent).free
    if n_bytes > free:
        raise ConfigError(
            f"{path} will have {n_bytes / 1e6:,.0f} MB, and its disk has {free / 1e6:,.0f} MB "
            "left. Free space, or name another disk."
        )


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a new folder beside `folder`, then put it in its place.

    Every file is flushed to disk before the rename. A kill at any moment leaves the old folder or
    the new one, never a half-written one. Between two renames no folder has the name: readers find
    the old one by `surviving`, and the next call puts it back.
    """
    if folder.is_file():
        raise ConfigError(f"{folder} is a file, and a folder is to be written. Name another.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    restore_folder(folder)
    partial, retired = beside(folder, "partial"), beside(folder, "retired")
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


def restore_folder(folder: Path) -> None:
    """Put back what a `replace_folder` killed between its two renames had set aside.

    Only for who alone may write `folder`; readers take `surviving`.
    """
    if (old := surviving(folder)) != folder:
        os.replace(old, folder)


def surviving(folder: Path) -> Path:
    """`folder`; where a killed `replace_folder` left none, the old one under its other name."""
    retired = beside(folder, "retired")
    return retired if retired.is_dir() and not folder.exists() else folder


def beside(path: Path, ending: str) -> Path:
    """The hidden name next to `path` for what accompanies it: `.NAME.ending`."""
    path = path if path.name else path.absolute()  # "." alone has no name
    return path.with_name(f".{path.name}.{ending}")


@contextmanager
def locked(folder: Path, lock: Path) -> Iterator[None]:
    """Let one process at a time work on `folder`; a second is refused at once.

    lock     the file that stands for it, made with its folder and removed at the end. The system
             holds the lock and drops it when the process is killed: a file that stays is harmless
    raises   ConfigError that names the process at work
    """
    made = not lock.parent.exists()
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = _open_locked(lock)
    if handle is None:
        owner = lock.read_text(encoding="ascii")
        raise ConfigError(
            f"{folder} is in use by another scratchlm, process {owner}. Wait until it has ended, "
            "or name another folder."
        )
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps an open file
            lock.unlink()
        os.close(handle)
        if made:
            with suppress(OSError):  # the block left something in it
                lock.parent.rmdir()


def _open_locked(lock: Path) -> int | None:
    """The open, locked file with our process id in it; None where another process has it."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    if not _take_lock(handle):
        os.close(handle)
        return None
    if not lock.exists() or not os.path.samestat(os.fstat(handle), lock.stat()):
        os.close(handle)  # its last owner removed it after we had opened it
        return _open_locked(lock)
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode("ascii"))
    return handle


def _take_lock(handle: int) -> bool:
    """Lock an open file; False where another process holds it."""
    try:
        if sys.platform == "win32":
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as refusal:
        if refusal.errno in _HELD:
            return False
        warn_once(f"this disk has no locks ({refusal.strerror}): two runs at once go unnoticed.")
    return True


def sync_files(paths: Iterable[Path]) -> None:
    """Flush files that some library wrote, so that a later rename cannot outrun their bytes."""
    for path in paths:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
