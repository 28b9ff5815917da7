"""The library zstandard, which the extra `web` brings: compressed dumps and documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scratchlm.base.errors import DataError, MissingExtraError

_MOST_LINE = 1 << 28  # bytes, so that a wrong file cannot fill the memory
_CHUNK = 1 << 20


def zstandard(purpose: str) -> Any:
    """The module; `purpose` begins the sentence that says what needs it.

    raises   MissingExtraError
    """
    try:
        import zstandard
    except ModuleNotFoundError:
        raise MissingExtraError("zstandard", "web", purpose) from None
    return zstandard


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that is compressed as one frame, without their ends, as a stream.

    raises   DataError for a file that is damaged, cut short, or does not end in a line end
    """
    zstd = zstandard(f"Reading {path.name}")
    unpack = zstd.ZstdDecompressor().decompressobj()
    rest = b""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            try:
                *whole, rest = (rest + unpack.decompress(chunk)).split(b"\n")
            except zstd.ZstdError as bad:
                raise DataError(f"{path} is damaged or no .zst file ({bad}).") from None
            yield from whole
            if len(rest) > _MOST_LINE:
                raise DataError(f"{path} has a line of over {_MOST_LINE >> 20} MB.")
    if rest or not unpack.eof:
        raise DataError(f"{path} is cut short. Make it again.")
