"""Batches: which rows make batch n follows from (seed, n) alone, so a position is one number."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.data.order import Mixture, mix, permute
from scratchlm.data.rows import IGNORE, Row, RowKind, Rows, make_rows, make_validation_rows
from scratchlm.data.shards import Split, open_shards


@dataclass(frozen=True)
class SourceConfig:
    """One folder of shards, and its share of the training rows."""

    path: Path  # a folder that `prepare` made
    weight: float = 1.0  # share of the training rows, in proportion to the other sources


@dataclass(frozen=True)
class DataConfig:
    """What is trained on, how it is cut into rows, and in which order they come."""

    sources: tuple[SourceConfig, ...] = ()  # folders that `prepare` made, with weights
    seq_len: int = 256  # tokens in a row
    rows: RowKind = "window"  # cut the running text, pack documents, or pad each one
    stride: int = 0  # positions between the starts of two windows; 0 takes seq_len
    jitter: bool = True  # cut at other places in each epoch (window, packed)
    shuffle: bool = True  # a new order in each epoch; False reads the rows in order
    last_batch: Literal["drop", "keep"] = "drop"  # an epoch's last short batch, one source only
    seed: int = 0  # of the order and the cuts
    workers: int = 1  # threads that make batches ahead of time; 0 makes each when it is asked for

    def __post_init__(self) -> None:
        if self.rows not in get_args(RowKind):
            raise ConfigError(f"data.rows = {self.rows!r} is not one of {get_args(RowKind)}.")
        if self.workers < 0:
            raise ConfigError(f"data.workers = {self.workers} must be at least 0.")
        for source in self.sources:
            if not 0 < source.weight < float("inf"):
                raise ConfigError(
                    f"the weight {source.weight} of data source {source.path} must be above 0. "
                    "Leave a source out to read nothing of it."
                )


@dataclass(frozen=True)
class Batch:
    """What the model sees and what it is asked, all (B, T) int64.

    targets    one ahead of `tokens`; IGNORE where there is no loss
    segments   positions with different numbers must not see each other; None: all may
    """

    tokens: Tensor
    targets: Tensor
    segments: Tensor | None = None


def open_splits(
    config: DataConfig, split: str, *, tokenizer_hash: str | None = None, verify: bool = True
) -> list[Split]:
    """Open one split ("train" or "val") of every source, in the config's order.

    raises   ConfigError for a config without sources; what `open_shards` raises
    """
    if not config.sources:
        raise ConfigError("data.sources is empty: give at least one folder that `prepare` made.")
    return [
        open_shards(source.path, split, tokenizer_hash=tokenizer_hash, verify=verify)
        for source in config.sources
    ]


class Loader:
    """Batches of one split, each a pure function of its number.

    splits          one for each of config.sources, whose weights they get; without sources
                    in the config (tests, notebooks) all have the same weight
    train = True    endless: every epoch of a source reads its rows in another order; several
                    sources are mixed by weight and each keeps its own epoch
    train = False   the whole split once: source after source, in order, nothing left out

    batch_size      rows of a batch over all ranks; rank r gets rows r, r + world_size, ..., or one
                    row without targets where none is left: all ranks then do equal work
    n_rows          of an epoch, all sources together
    n_batches       of an epoch; None for a mixture, whose sources end their epochs apart
    """

    def __init__(
        self,
        splits: Sequence[Split],
        config: DataConfig,
        batch_size: int,
        *,
        train: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or (train and batch_size % world_size):
            raise ConfigError(
                f"a batch of {batch_size} rows cannot be dealt evenly to {world_size} processes. "
                f"Use a positive multiple of {world_size}."
            )
        self._config, self._batch_size, self._train = config, batch_size, train
        self._rank, self._world_size = rank, world_size
        self._rows = [self._cut(split, k) for k, split in enumerate(splits)]
        self.n_rows = sum(rows.n_rows for rows in self._rows)
        mixed = train and len(splits) > 1
        weights = [source.weight for source in config.sources] or [1.0] * len(splits)
        self._mixture = Mixture(weights) if mixed else None
        self.n_batches = None if mixed else self._count_batches()

    def _cut(self, split: Split, k: int) -> Rows:
        config = self._config
        if not self._train:
            return make_validation_rows(split, config.rows, config.seq_len)
        return make_rows(
            split,
            config.rows,
            config.seq_len,
            stride=config.stride,
            jitter=config.jitter,
            seed=mix(config.seed, k),
        )

    def _count_batches(self) -> int:
        if not self._train or self._config.last_batch == "keep":
            return -(-self.n_rows // self._batch_size)
        if self.n_rows < self._batch_size:
            raise DataError(
                f"the training text makes {self.n_rows} rows of {self._config.seq_len} tokens, "
                f"fewer than one batch of {self._batch_size}. Lower the batch size to at most "
                f'{self.n_rows}, lower data.seq_len or data.stride, set data.last_batch = "keep", '
                "or prepare more text."
            )
        return self.n_rows // self._batch_size

    def batch(self, n: int) -> Batch:
        """Batch n, from 0 on: this rank's rows of it, the same whenever it is asked for.

        raises   IndexError past the end when train = False
        """
        mine = self.places(n)[self._rank :: self._world_size]
        return _stack([self._rows[k].row(i, epoch) for k, epoch, i in mine], self._config.seq_len)

    def batches(self, start: int = 0, stop: int | None = None, every: int = 1) -> Iterator[Batch]:
        """Batches start to stop - 1, made ahead of time by the config's worker threads.

        stop     None: endless in training, the split's end otherwise
        every    2 takes every second one, from `start` on
        """
        stop = self.n_batches if stop is None and not self._train else stop
        numbers = iter(range(start, stop, every)) if stop is not None else count(start, every)
        if not self._config.workers:
            yield from map(self.batch, numbers)
            return
        pool = ThreadPoolExecutor(self._config.workers, thread_name_prefix="batches")
        try:
            waiting: deque[Future[Batch]] = deque(
                pool.submit(self.batch, n) for n in islice(numbers, 2 * self._config.workers)
            )
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(self.batch, n) for n in islice(numbers, 1))
        finally:
            pool.shutdown(cancel_futures=True)

    def places(self, n: int) -> list[tuple[int, int | None, int]]:
        """Where the rows of the whole batch n stand: (source, epoch, row); epoch None: validation.

        raises   IndexError past the end when train = False
        """
        if not self._train:
            return self._validation_places(n)
        return [
            (k, epoch, i)
            for k, (start, stop) in enumerate(self._training_spans(n))
            for epoch, i in self._in_order(k, np.arange(start, stop))
        ]

    def _training_spans(self, n: int) -> list[tuple[int, int]]:
        """For each source the span of its own endless sequence of rows that batch n takes."""
        if self._mixture is not None:
            before = self._mixture.counts(n * self._batch_size)
            return list(zip(before, self._mixture.counts((n + 1) * self._batch_size), strict=True))
        assert self.n_batches is not None
        epoch, k = divmod(n, self.n_batches)
        start, stop = k * self._batch_size, min((k + 1) * self._batch_size, self.n_rows)
        return [(epoch * self.n_rows + start, epoch * self.n_rows + stop)]

    def _in_order(self, k: int, sequence: np.ndarray) -> Iterator[tuple[int, int]]:
        """(epoch, row) of places in source k's endless sequence of rows."""
        n_rows = self._rows[k].n_rows
        epochs, places = np.divmod(sequence, n_rows)
        for epoch in np.unique(epochs).tolist():
            rows = places[epochs == epoch]
            if self._config.shuffle:
                rows = permute(rows, n_rows, mix(self._config.seed, k, epoch))
            yield from ((epoch, i) for i in rows.tolist())

    def _validation_places(self, n: int) -> list[tuple[int, int | None, int]]:
        """The n-th batch of all sources' rows in a line."""
        if not 0 <= n < (self.n_batches or 0):
            raise IndexError(f"the split has {self.n_batches} batches; there is no batch {n}")
        places: list[tuple[int, int | None, int]] = []
        first = n * self._batch_size
        last = min(first + self._batch_size, self.n_rows)
        for k, rows in enumerate(self._rows):
            places += [(k, None, i) for i in range(max(first, 0), min(last, rows.n_rows))]
            first, last = first - rows.n_rows, last - rows.n_rows
        return places


def _stack(rows: Sequence[Row], seq_len: int) -> Batch:
    """Rows as one batch; one without targets where a rank got none of a short batch."""
    if not rows:
        tokens = torch.zeros((1, seq_len), dtype=torch.int64)
        return Batch(tokens, torch.full_like(tokens, IGNORE))
    tokens = torch.from_numpy(np.stack([row.tokens for row in rows]))
    targets = torch.from_numpy(np.stack([row.targets for row in rows]))
    segments = [row.segments for row in rows if row.segments is not None]
    return Batch(tokens, targets, torch.from_numpy(np.stack(segments)) if segments else None)
