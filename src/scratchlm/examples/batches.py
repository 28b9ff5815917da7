"""Examples to batches: which of them make batch n follows from (seed, n) alone.

A batch has a fixed number of examples, whatever rows they lie in. So packed rows, padded rows and
any number of micro-batches take the same steps.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch

from scratchlm.base.errors import DataError
from scratchlm.data.loader import Batch
from scratchlm.data.order import mix, permute
from scratchlm.data.rows import IGNORE, PADDING
from scratchlm.examples.encode import Example


class ExampleLoader:
    """Batches of examples, each a pure function of its number.

    batch_size      examples of a batch over all ranks; rank r gets examples r, r + world_size, ...
    packed          several short examples share a row, each a segment of its own; False: one a row
    train = True    endless, each epoch in another order; epochs follow each other without a gap
    train = False   all of them once, in order
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        *,
        packed: bool = True,
        train: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not examples:
            raise DataError("there are no examples.")
        self._examples, self._batch_size, self._packed = examples, batch_size, packed
        self._train, self._seed = train, seed
        self._rank, self._world_size = rank, world_size
        self.n_batches = -(-len(examples) // batch_size)

    def batch(self, n: int) -> Batch:
        """Batch n, from 0 on: this rank's examples of it.

        raises   IndexError past the end when train = False
        """
        mine = self._places(n)[self._rank :: self._world_size]
        return lay_out([self._examples[i] for i in mine], packed=self._packed)

    def batches(self, start: int = 0, stop: int | None = None, every: int = 1) -> Iterator[Batch]:
        """Batches start to stop - 1.

        stop     None: endless in training, the end otherwise
        every    2 takes every second one, from `start` on
        """
        stop = self.n_batches if stop is None and not self._train else stop
        numbers = iter(range(start, stop, every)) if stop is not None else count(start, every)
        yield from map(self.batch, numbers)

    def _places(self, n: int) -> list[int]:
        first, n_examples = n * self._batch_size, len(self._examples)
        if not self._train:
            if not 0 <= n < self.n_batches:
                raise IndexError(f"there are {self.n_batches} batches; there is no batch {n}")
            return list(range(first, min(first + self._batch_size, n_examples)))
        epochs, places = np.divmod(np.arange(first, first + self._batch_size), n_examples)
        order = [
            permute(places[epochs == epoch], n_examples, mix(self._seed, epoch))
            for epoch in np.unique(epochs).tolist()
        ]
        return [int(i) for part in order for i in part]


def lay_out(examples: Sequence[Example], *, packed: bool) -> Batch:
    """Examples in rows, with as little padding as can be.

    packed    a row holds as many as fit into the longest one's length
    returns   segments number the parts of each row; padding is one more, without targets
    """
    if not examples:  # a rank that got none
        one = torch.full((1, 1), PADDING)
        return Batch(one, torch.full_like(one, IGNORE), torch.zeros_like(one))
    width = _rounded(max(map(len, examples)))
    rows = _pack(examples, width) if packed else [[example] for example in examples]
    shape = len(rows), width
    tokens, targets = np.full(shape, PADDING), np.full(shape, IGNORE)
    segments = np.zeros(shape, dtype=np.int64)
    for row, members in enumerate(rows):
        at = n_segments = 0
        for example in members:
            here = slice(at, at + len(example))
            tokens[row, here], targets[row, here] = example.tokens, example.targets
            own = 0 if example.segments is None else example.segments
            segments[row, here] = n_segments + own
            at, n_segments = here.stop, n_segments + example.n_segments
        segments[row, at:] = n_segments
    return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(segments))


def _pack(examples: Sequence[Example], width: int) -> list[list[Example]]:
    """First fit, longest first; what shares a row comes in the order of the batch."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(examples)), key=lambda i: (-len(examples[i]), i)):
        n = len(examples[i])
        row = next((r for r, left in enumerate(room) if left >= n), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(i)
        room[row] -= n
    return [[examples[i] for i in sorted(row)] for row in rows]


def _rounded(length: int) -> int:
    """A little more, so that there are few widths: oneDNN keeps a product for each."""
    unit = max(8, 1 << max(0, length.bit_length() - 4))
    return -(-length // unit) * unit
