"""Documents between two stages: files of JSON lines, compressed by zstd, whole or absent.

    00000.jsonl.zst, 00001.jsonl.zst, ...    one object a line: id, text, source, meta

The same documents give the same bytes on every machine with the same version of zstandard.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scratchlm.base.errors import DataError
from scratchlm.base.files import write_whole
from scratchlm.base.zstd import read_lines, zstandard
from scratchlm.corpus.accounts import DOCUMENTS
from scratchlm.corpus.read import Document

ENDING = DOCUMENTS
_LEVEL = 3  # of zstd: 9 is a tenth smaller and four times slower


def n_bytes(text: str) -> int:
    """How many bytes a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@contextmanager
def write_documents(path: Path) -> Iterator[Callable[[Document], None]]:
    """Write a file of documents, which has its name when the block ends without an error.

    Yields what writes one. Half of a surrogate pair, which no file can hold, becomes U+FFFD.
    """
    pack = zstandard(f"Writing {path.name}").ZstdCompressor(level=_LEVEL).stream_writer
    with write_whole(path) as file, pack(file, closefd=False) as packed:

        def write(document: Document) -> None:
            record = {
                "id": document.id,
                "text": document.text,
                "source": document.source,
                "meta": document.meta,
            }
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
            try:
                written = line.encode()
            except UnicodeEncodeError:
                written = _whole_characters(line).encode()
            packed.write(written)

        yield write


def read_stored(path: Path) -> Iterator[Document]:
    """The documents of a file, as a stream.

    raises   DataError naming file and line for what is damaged, cut short or no document
    """
    for number, line in enumerate(read_lines(path), 1):
        try:
            record: Any = json.loads(line)
            name, text, source, meta = (record[key] for key in ("id", "text", "source", "meta"))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(
                f"{path}, line {number}, is no document: the file was damaged."
            ) from None
        if [type(one) for one in (name, text, source, meta)] != [str, str, str, dict]:
            raise DataError(f"{path}, line {number}, is no document: the file was damaged.")
        yield Document(name, text, source, meta, number=number)


def _whole_characters(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
