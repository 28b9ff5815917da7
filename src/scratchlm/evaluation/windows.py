"""Documents cut into windows that slide over them, and windows put together into batches."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from scratchlm.data.rows import IGNORE, PADDING

_POOL = 16  # batches whose windows are put in order of length, so that little is padding


@dataclass(frozen=True, slots=True)
class Encoded:
    """A piece of a document: ids (n,), their text's bytes; `number` counts documents from 0."""

    ids: np.ndarray
    n_bytes: int
    number: int
    place: str
    ends: bool


@dataclass(frozen=True, slots=True)
class Window:
    """ids (n + 1,): n tokens and their targets, of which the last `n_scored` count.

    index    counts all windows from 0, `number` the documents
    """

    index: int
    ids: np.ndarray
    n_scored: int
    number: int
    place: str
    n_bytes: float  # of text that is done with it, for the progress


def cut_windows(
    pieces: Iterable[Encoded], prefix: list[int], seq_len: int, stride: int
) -> Iterator[Window]:
    """Cut each document into windows of `seq_len` tokens, `stride` apart, the last one shorter.

    pieces   a document's follow each other, the last one has `ends`
    prefix   what stands before each document
    """
    start = np.asarray(prefix, dtype=np.int64)
    held, scored = start, 1  # from the next window's beginning; its first target not counted yet
    index = 0
    for piece in pieces:
        held = np.concatenate((held, piece.ids))
        share = piece.n_bytes / max(1, len(piece.ids))
        while len(held) > seq_len:
            n_scored = seq_len + 1 - scored
            ids = held[: seq_len + 1]
            yield Window(index, ids, n_scored, piece.number, piece.place, share * n_scored)
            held, scored, index = held[stride:], seq_len + 1 - stride, index + 1
        if piece.ends:
            n_scored = len(held) - scored
            if n_scored > 0:
                yield Window(index, held, n_scored, piece.number, piece.place, share * n_scored)
                index += 1
            held, scored = start, 1


def batched(windows: Iterator[Window], rows: int, *, equal_lengths: bool) -> Iterator[list[Window]]:
    """Windows in batches whose rows are about as long; all just as long where that is asked for."""
    while pool := list(islice(windows, _POOL * rows)):
        pool.sort(key=lambda window: -len(window.ids))
        batch: list[Window] = []
        for window in pool:
            other = equal_lengths and batch and len(batch[0].ids) != len(window.ids)
            if len(batch) == rows or other:
                yield batch
                batch = []
            batch.append(window)
        yield batch


def rows_of(windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Tokens and targets of a batch, (B, T) int64 each; IGNORE where a target does not count.

    Shorter rows are filled up behind their ends, which no earlier token sees.
    """
    T = max(len(window.ids) for window in windows) - 1
    tokens = torch.full((len(windows), T), PADDING)
    targets = torch.full((len(windows), T), IGNORE)
    for i, window in enumerate(windows):
        n = len(window.ids) - 1
        ids = torch.from_numpy(window.ids.astype(np.int64))
        tokens[i, :n] = ids[:-1]
        targets[i, n - window.n_scored : n] = ids[n + 1 - window.n_scored :]
    return tokens, targets
