"""Rows: how a long array of ids is cut into pieces of seq_len tokens, each with its targets.

A row is computed from its number, so nothing is stored and any row of any epoch is at hand at
once. Three ways to cut:

    window   slices of the running text, `stride` apart; documents follow each other in a row
    packed   the running text cut into rows without gaps; attention stays inside each document
    padded   one document, or a piece of a long one, per row; the rest is padding

Imports without torch.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.data.order import draw
from scratchlm.data.shards import Split

IGNORE = -100  # a target that counts for nothing; PyTorch's cross_entropy skips it by default
PADDING = 0  # any id will do: no real position sees it, and its target is IGNORE

RowKind = Literal["window", "packed", "padded"]


@dataclass(frozen=True)
class Row:
    """One row, all parts (T,) int64.

    tokens     ids; PADDING after a short row's end
    targets    the id one ahead, IGNORE where nothing is to be learned
    segments   positions with different numbers must not see each other; None: all may
    """

    tokens: np.ndarray
    targets: np.ndarray
    segments: np.ndarray | None = None


class Rows(Protocol):
    """A split cut into rows; `epoch` moves the cuts where a layout can (None: validation)."""

    n_rows: int  # the same in every epoch

    def row(self, i: int, epoch: int | None, /) -> Row:
        """Row i (in [0, n_rows)) of an epoch."""


def make_rows(
    split: Split,
    kind: RowKind,
    seq_len: int,
    *,
    stride: int = 0,
    jitter: bool = True,
    seed: int = 0,
) -> Rows:
    """Cut a split into training rows.

    stride   of "window" only: positions from one row's start to the next; 0 takes seq_len
    jitter   move the cuts of "window" and "packed" by an offset drawn for each epoch
    raises   ConfigError for impossible settings, DataError for text shorter than one row
    """
    if seq_len < 1:
        raise ConfigError(f"data.seq_len = {seq_len} must be at least 1.")
    if stride < 0 or (stride and kind != "window"):
        raise ConfigError(
            f'data.stride = {stride}: only data.rows = "window" has a stride, of at least 1 '
            "(0 takes seq_len)."
        )
    if kind == "padded":
        return PaddedRows(split, seq_len)
    _require_tokens(split, seq_len)
    if kind == "packed":
        return PackedRows(split, seq_len, jitter, seed)
    return WindowRows(split, seq_len, stride or seq_len, jitter, seed)


def make_validation_rows(split: Split, kind: RowKind, seq_len: int) -> Rows:
    """Cut a split so that each of its targets stands in exactly one row, from the beginning on."""
    if kind == "padded":
        return PaddedRows(split, seq_len)
    _require_tokens(split, 1)
    return PackedRows(split, seq_len) if kind == "packed" else WholeRows(split, seq_len)


class WindowRows:
    """Full rows, `stride` apart, from an offset that is drawn for each epoch.

    With an offset below `stride`, fewer than 2 * stride tokens at the two ends of the text stay
    unread in an epoch; other epochs read them.
    """

    def __init__(self, split: Split, seq_len: int, stride: int, jitter: bool, seed: int) -> None:
        self._split, self._seq_len, self._stride, self._seed = split, seq_len, stride, seed
        last_start = split.n_tokens - seq_len - 1
        self._n_offsets = min(stride, last_start + 1) if jitter else 1
        self.n_rows = (last_start - (self._n_offsets - 1)) // stride + 1

    def row(self, i: int, epoch: int | None, /) -> Row:
        """Row i of an epoch; every position has a target."""
        offset = 0 if epoch is None else draw(self._n_offsets, self._seed, epoch)
        start = offset + i * self._stride
        ids = self._split.read(start, start + self._seq_len + 1)
        return Row(ids[:-1], ids[1:])


class WholeRows:
    """Rows side by side from position 0; the last one is filled up, so no target is left out."""

    def __init__(self, split: Split, seq_len: int) -> None:
        self._split, self._seq_len = split, seq_len
        self.n_rows = -(-(split.n_tokens - 1) // seq_len)

    def row(self, i: int, _epoch: int | None, /) -> Row:
        """Row i, the same in every epoch."""
        start = i * self._seq_len
        ids = self._split.read(start, min(start + self._seq_len + 1, self._split.n_tokens))
        return Row(_fill(ids[:-1], self._seq_len, PADDING), _fill(ids[1:], self._seq_len, IGNORE))


class PackedRows:
    """The running text in rows without gaps, each document a segment of its own.

    A document that a row's end cuts goes on in the next row as a new segment (it does not see
    its beginning there). So no token is lost, nothing is padded but the last row's end, and a row
    needs no index beyond the document ends on disk. Each training epoch turns the text like a
    ring by an offset below seq_len, so that the cuts fall elsewhere; the segments keep the two
    ends of the text apart.
    """

    def __init__(self, split: Split, seq_len: int, jitter: bool = False, seed: int = 0) -> None:
        self._split, self._seq_len, self._jitter, self._seed = split, seq_len, jitter, seed
        self.n_rows = -(-split.n_tokens // seq_len)

    def row(self, i: int, epoch: int | None, /) -> Row:
        """Row i of an epoch; a document's last token has no target."""
        n_tokens, T = self._split.n_tokens, self._seq_len
        offset = draw(T, self._seed, epoch) if self._jitter and epoch is not None else 0
        start = i * T + offset
        stop = min(start + T, n_tokens + offset)
        ids = self._read_ring(start, stop + 1)
        starts = self._document_starts(start, stop + 1) - start  # in (0, stop - start]
        targets = ids[1:].copy()
        targets[starts - 1] = IGNORE
        segments = np.zeros(T, dtype=np.int64)
        segments[starts[starts < T]] = 1
        if stop - start < T:
            segments[stop - start] = 1  # the padding sees only itself
        return Row(_fill(ids[:-1], T, PADDING), _fill(targets, T, IGNORE), np.cumsum(segments))

    def _read_ring(self, start: int, stop: int) -> np.ndarray:
        n_tokens = self._split.n_tokens
        if start >= n_tokens:
            return self._split.read(start - n_tokens, stop - n_tokens)
        if stop <= n_tokens:
            return self._split.read(start, stop)
        return np.concatenate(
            (self._split.read(start, n_tokens), self._split.read(0, stop - n_tokens))
        )

    def _document_starts(self, start: int, stop: int) -> np.ndarray:
        """Where documents start in (start, stop), on the ring, as positions from 0 to 2n."""
        n_tokens = self._split.n_tokens
        inside = self._split.ends_within(start, min(stop, n_tokens + 1))
        if stop <= n_tokens:
            return inside
        wrapped = self._split.ends_within(max(0, start - n_tokens), stop - n_tokens) + n_tokens
        return np.concatenate((inside, wrapped))


class PaddedRows:
    """One document per row; one longer than seq_len + 1 goes on in further rows.

    Holds the number of rows up to each document: 8 bytes a document, as large as the document
    ends on disk. A document of one token has nothing to predict and makes no row.
    """

    def __init__(self, split: Split, seq_len: int) -> None:
        self._split, self._seq_len = split, seq_len
        pieces = -(-(split.document_lengths() - 1) // seq_len)
        self._rows_up_to = np.cumsum(pieces, out=pieces)
        self.n_rows = int(self._rows_up_to[-1])
        if not self.n_rows:
            raise DataError("no document has two tokens, so there is nothing to predict.")

    def row(self, i: int, _epoch: int | None, /) -> Row:
        """Row i, the same in every epoch."""
        T = self._seq_len
        document = int(np.searchsorted(self._rows_up_to, i, side="right"))
        before = int(self._rows_up_to[document - 1]) if document else 0
        start, stop = self._split.document_span(document)
        start += (i - before) * T
        ids = self._split.read(start, min(start + T + 1, stop))
        return Row(_fill(ids[:-1], T, PADDING), _fill(ids[1:], T, IGNORE))


def _fill(ids: np.ndarray, length: int, value: int) -> np.ndarray:
    if len(ids) == length:
        return ids
    row = np.full(length, value, dtype=np.int64)
    row[: len(ids)] = ids
    return row


def _require_tokens(split: Split, seq_len: int) -> None:
    if split.n_tokens < seq_len + 1:
        raise DataError(
            f"{split.shards[0].path.parent} holds {split.n_tokens} tokens, but one row needs "
            f"{seq_len + 1} (seq_len and one to predict): the text is shorter than one row. Lower "
            f"data.seq_len to at most {max(1, split.n_tokens - 1)}, or prepare more text."
        )
