"""Token shards: files of ids that are memory-mapped, so that data may be larger than memory.

    bytes 0 to 4095      b"scratchS", the header as JSON filled up with spaces, its CRC-32
    then                 the ids, uint16 or uint32, little-endian
    then, 8-aligned      the end of each document in tokens, uint64, little-endian

Each CRC-32 is taken while writing and compared when a shard is opened: it sees every single
flipped bit and reads at 7 GB/s where SHA-256 makes 2 (measured, x86-64), so the disk is what
takes the time. Imports without torch.
"""

import json
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from scratchlm.base.errors import DataError
from scratchlm.base.files import MANIFEST, read_json, read_manifest, write_whole

FORMAT = "scratchlm-shards"  # of the folder's manifest
VERSION = 1
SUFFIX = ".shard"
_MAGIC = b"scratchS"
_HEAD = 4096  # one memory page, so that the mapped ids start on a page of their own
_CRC_BYTES = 4
_CHUNK = 1 << 22
_MAX_DOCUMENTS = 1 << 22  # per shard: bounds what the writer holds to 32 MB of ends


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says about itself."""

    version: int
    dtype: str  # "uint16" or "uint32"
    vocab_size: int  # every id is below it
    n_tokens: int
    n_documents: int
    n_bytes: int  # of the UTF-8 text behind the ids, joints not counted
    tokenizer_hash: str
    crc32: int  # of everything after the first 4096 bytes


def dtype_for(vocab_size: int) -> str:
    """The smallest type that holds every id below `vocab_size`."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def _little(dtype: str) -> np.dtype:
    return np.dtype(dtype).newbyteorder("<")


def _ends_at(n_tokens: int, dtype: str) -> int:
    """The byte at which the document ends begin."""
    stop = _HEAD + n_tokens * np.dtype(dtype).itemsize
    return -(-stop // 8) * 8


class ShardWriter:
    """Write documents into folder/00000.shard, 00001.shard, ...; each appears when it is whole.

    A shard ends with the first document that brings it to `shard_tokens` ids, so a document is
    never cut by a shard's end and a single huge one makes a single huge shard. Memory does not
    grow with the data. Used in a `with` block; an error in it leaves only the finished shards.

    n_tokens, n_documents, n_bytes, n_shards    written so far
    """

    def __init__(
        self, folder: Path, vocab_size: int, tokenizer_hash: str, shard_tokens: int = 100_000_000
    ) -> None:
        self.n_tokens = self.n_documents = self.n_bytes = self.n_shards = 0
        self._folder = folder
        self._vocab_size = vocab_size
        self._dtype = dtype_for(vocab_size)
        self._little = _little(self._dtype)
        self._tokenizer_hash = tokenizer_hash
        self._shard_tokens = shard_tokens
        self._shard: _OpenShard | None = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is None:
            self.end_document()
            self._finish_shard()
        elif self._shard is not None:
            self._shard.whole.__exit__(kind, *error)

    def add(self, ids: np.ndarray | Sequence[int], n_bytes: int = 0) -> None:
        """Append ids to the document at hand; `n_bytes` of text stand behind them.

        raises   DataError for an id that is not in [0, vocab_size)
        """
        block = np.asarray(ids)
        if not len(block):
            return
        if block.max() >= self._vocab_size or (block.dtype.kind != "u" and block.min() < 0):
            raise DataError(
                f"ids from {block.min()} to {block.max()} are not all in [0, {self._vocab_size}), "
                "the tokenizer's vocabulary: its file is damaged. Train or fetch it again."
            )
        if self._shard is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._shard = _OpenShard(self._folder / f"{self.n_shards:05d}{SUFFIX}")
        self._shard.write(block.astype(self._little).tobytes())
        self._shard.n_tokens += len(block)
        self._shard.n_bytes += n_bytes
        self.n_tokens += len(block)
        self.n_bytes += n_bytes

    def end_document(self) -> None:
        """Close the document at hand; one without ids leaves no trace."""
        shard = self._shard
        if shard is None or (shard.ends and shard.ends[-1] == shard.n_tokens):
            return
        shard.ends.append(shard.n_tokens)
        self.n_documents += 1
        if shard.n_tokens >= self._shard_tokens or len(shard.ends) == _MAX_DOCUMENTS:
            self._finish_shard()

    def _finish_shard(self) -> None:
        if self._shard is None:
            return
        self._shard.finish(self._dtype, self._vocab_size, self._tokenizer_hash)
        self._shard = None
        self.n_shards += 1


class _OpenShard:
    """A shard that is being written."""

    def __init__(self, path: Path) -> None:
        self.whole = write_whole(path)
        self.ends = array("Q")
        self.n_tokens = self.n_bytes = self._crc = 0
        self._file = self.whole.__enter__()
        self._file.write(bytes(_HEAD))  # the header's place: its counts are known at the end

    def write(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._file.write(data)

    def finish(self, dtype: str, vocab_size: int, tokenizer_hash: str) -> None:
        self.write(bytes(_ends_at(self.n_tokens, dtype) - self._file.tell()))
        self.write(np.asarray(self.ends, dtype="<u8").tobytes())
        header = ShardHeader(
            version=VERSION,
            dtype=dtype,
            vocab_size=vocab_size,
            n_tokens=self.n_tokens,
            n_documents=len(self.ends),
            n_bytes=self.n_bytes,
            tokenizer_hash=tokenizer_hash,
            crc32=self._crc,
        )
        head = (_MAGIC + json.dumps(asdict(header)).encode("ascii")).ljust(_HEAD - _CRC_BYTES)
        self._file.seek(0)
        self._file.write(head + zlib.crc32(head).to_bytes(_CRC_BYTES, "little"))
        self.whole.__exit__(None, None, None)


class Shard:
    """One open shard.

    tokens          (n_tokens,) uint16 or uint32, mapped from the file, read-only
    document_ends   (n_documents,) uint64: position after the last token of each document
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Open a shard; `verify` reads it once as a whole and compares its checksum.

        raises   DataError: not a shard, another version, cut short, or damaged
        """
        self.path = path
        self.header = _read_header(path)
        ends_at = _ends_at(self.header.n_tokens, self.header.dtype)
        expected = ends_at + 8 * self.header.n_documents
        found = path.stat().st_size
        if found != expected:
            raise DataError(
                f"{path} has {found} bytes instead of {expected}: it was cut short or added to. "
                "Run prepare again."
            )
        if verify:
            _verify(path, self.header.crc32)
        tokens = np.memmap(path, _little(self.header.dtype), "r", _HEAD, (self.header.n_tokens,))
        ends = np.memmap(path, "<u8", "r", ends_at, (self.header.n_documents,))
        # as plain arrays over the same mapping, which are quicker to slice than the subclass
        self.tokens, self.document_ends = tokens.view(np.ndarray), ends.view(np.ndarray)


def _read_header(path: Path) -> ShardHeader:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(_MAGIC):
        raise DataError(f"{path} is not a token shard: it does not start with {_MAGIC!r}.")
    body, crc = head[:-_CRC_BYTES], head[-_CRC_BYTES:]
    if len(head) < _HEAD or zlib.crc32(body).to_bytes(_CRC_BYTES, "little") != crc:
        raise DataError(f"{path}: the header is damaged or cut short. Run prepare again.")
    facts = json.loads(body[len(_MAGIC) :])
    if facts.get("version") != VERSION:
        raise DataError(
            f"{path} has format version {facts.get('version')}; this program reads version "
            f"{VERSION}. Use the scratchlm release that wrote it, or run prepare again."
        )
    return ShardHeader(**{field.name: facts[field.name] for field in fields(ShardHeader)})


def _verify(path: Path, expected: int) -> None:
    crc = 0
    with open(path, "rb") as file:
        file.seek(_HEAD)
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    if crc != expected:
        raise DataError(
            f"{path} does not match its CRC-32: it was damaged (a flipped bit, a bad disk) or "
            "edited. Copy it again or run prepare again."
        )


class Split:
    """All shards of one split as if they were one long array of ids.

    n_tokens, n_documents, n_bytes   summed over the shards
    vocab_size, tokenizer_hash       the same in all of them
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        first = self.shards[0].header
        for shard in self.shards:
            if shard.header.tokenizer_hash != first.tokenizer_hash:
                raise DataError(
                    f"{shard.path} was made with tokenizer {shard.header.tokenizer_hash[:12]}, "
                    f"{self.shards[0].path} with {first.tokenizer_hash[:12]}. Run prepare again "
                    "with one tokenizer."
                )
        self.vocab_size = first.vocab_size
        self.tokenizer_hash = first.tokenizer_hash
        self.n_bytes = sum(shard.header.n_bytes for shard in self.shards)
        self._token_starts = _starts([shard.header.n_tokens for shard in self.shards])
        self._document_starts = _starts([shard.header.n_documents for shard in self.shards])
        self.n_tokens = self._token_starts[-1]
        self.n_documents = self._document_starts[-1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids at positions start to stop - 1 as int64; a copy, never a view of the file."""
        out = np.empty(stop - start, dtype=np.int64)
        k = bisect_right(self._token_starts, start) - 1
        done = 0
        while done < len(out):
            inside = start + done - self._token_starts[k]
            piece = self.shards[k].tokens[inside : inside + len(out) - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
            k += 1
        return out

    def document_span(self, i: int) -> tuple[int, int]:
        """The positions (start, stop) of the i-th document's tokens."""
        k = bisect_right(self._document_starts, i) - 1
        inside = i - self._document_starts[k]
        ends = self.shards[k].document_ends
        start = int(ends[inside - 1]) if inside else 0
        return self._token_starts[k] + start, self._token_starts[k] + int(ends[inside])

    def ends_within(self, start: int, stop: int) -> np.ndarray:
        """The document ends e with start < e < stop, ascending, as int64; O(log n_documents)."""
        found = []
        k = max(0, bisect_right(self._token_starts, start) - 1)
        while k < len(self.shards) and self._token_starts[k] < stop:
            offset, ends = self._token_starts[k], self.shards[k].document_ends
            # uint64 keys: with any other type numpy would first convert the whole file
            first = np.searchsorted(ends, np.uint64(max(0, start - offset)), side="right")
            last = np.searchsorted(ends, np.uint64(stop - offset), side="left")
            found.append(ends[first:last].astype(np.int64) + offset)
            k += 1
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def document_lengths(self) -> np.ndarray:
        """The number of tokens of each document, (n_documents,) int64: 8 bytes a document."""
        lengths = np.empty(self.n_documents, dtype=np.int64)
        for at, shard in zip(self._document_starts, self.shards, strict=False):
            lengths[at : at + len(shard.document_ends)] = np.diff(shard.document_ends, prepend=0)
        return lengths


def _starts(counts: list[int]) -> list[int]:
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    return starts


def is_shards_folder(folder: Path) -> bool:
    """Whether `prepare` wrote this folder to its end, in any version."""
    try:
        manifest = read_json(folder / MANIFEST)
    except DataError:
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def open_shards(
    folder: Path, split: str = "train", *, tokenizer_hash: str | None = None, verify: bool = True
) -> Split:
    """Open the shards of one split ("train" or "val") of a folder that `prepare` made.

    verify   read every shard once and compare checksums: as long as the disk takes to read
             them (4 GB: 2 to 30 s), so once per run, by one process
    raises   DataError for a missing, foreign, cut or damaged folder or shard, for a split that
             it does not have, and for shards of another tokenizer than `tokenizer_hash`
    """
    manifest = read_manifest(folder, FORMAT, VERSION, verify=False, error=DataError)
    names = sorted(
        name for name in manifest["files"] if PurePosixPath(name).parent == PurePosixPath(split)
    )
    if not names:
        raise DataError(
            f"{folder} has no {split} split. Run prepare again with val_fraction above 0."
        )
    for name in names:
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing: the folder was only partly copied.")
    opened = Split([Shard(folder / name, verify=verify) for name in names])
    if tokenizer_hash is not None and opened.tokenizer_hash != tokenizer_hash:
        raise DataError(
            f"{folder} was prepared with tokenizer {opened.tokenizer_hash[:12]}, but tokenizer "
            f"{tokenizer_hash[:12]} is in use: its ids would mean other text. Run prepare again "
            f"with this tokenizer, or use {folder / 'tokenizer.json'}."
        )
    return opened
