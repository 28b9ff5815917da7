"""Addresses that were seen, in an amount of memory that is fixed: sorted runs of hashes."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scratchlm.base.errors import DataError
from scratchlm.base.files import write_whole

_HASH = np.dtype("<u8")
Hashes = NDArray[np.uint64]


class UrlSet(AbstractContextManager["UrlSet"]):
    """Which addresses were seen: exact, but for two that share a 64-bit hash (1 pair in 10^19).

        with UrlSet(folder) as seen:
            seen.add(["https://a.org/", "https://b.org/", "https://a.org/"])  # True True False

    folder   where hashes go that memory cannot hold, made when there are any. Nobody else may
             use it: what an earlier run left there is removed
    memory   bytes, over and above the addresses of one call, and the pages of mapped files, which
             the system takes back when it needs them
    """

    def __init__(self, folder: Path, memory: int = 1 << 28) -> None:
        self.folder, self.memory = folder, memory
        self._held: list[Hashes] = []  # in memory, longest first
        self._spilled: list[tuple[Path, Hashes]] = []  # mapped files, longest first
        self._n_files = 0
        for path in folder.glob("seen-*.run"):
            path.unlink()

    def __exit__(self, *_: object) -> None:
        """Forget everything and remove the files."""
        self._held.clear()
        while self._spilled:
            self._spilled.pop()[0].unlink()

    def _runs(self) -> list[Hashes]:
        return [*(run for _, run in self._spilled), *self._held]

    def __len__(self) -> int:
        return sum(map(len, self._runs()))

    def add(self, urls: Sequence[str]) -> list[bool]:
        """Add addresses; tells of each whether it was new, of equal ones only the first."""
        if not urls:
            return []
        texts = (url.encode("utf-8", "surrogatepass") for url in urls)
        digests = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
        values, firsts = np.unique(np.frombuffer(b"".join(digests), _HASH), return_index=True)
        is_new = np.ones(len(values), dtype=bool)
        for run in self._runs():
            at = np.minimum(np.searchsorted(run, values), len(run) - 1)
            is_new &= run[at] != values
        answer = np.zeros(len(urls), dtype=bool)
        answer[firsts[is_new]] = True
        if is_new.any():
            self._hold(values[is_new])
        return [bool(new) for new in answer]

    def _hold(self, run: Hashes) -> None:
        while self._held and len(self._held[-1]) <= 2 * len(run):
            run = _merged((self._held.pop(), run))
        self._held.append(run)
        # a quarter: merging them all takes as much again, and its sorting half as much
        if sum(held.nbytes for held in self._held) > self.memory // 4:
            self._spill()

    def _spill(self) -> None:
        """Move what is in memory to a file."""
        if self._held:
            self._keep([_merged(self._held)])
            self._held.clear()
        while len(self._spilled) > 1 and len(self._spilled[-2][1]) <= 2 * len(self._spilled[-1][1]):
            self._join()

    def _keep(self, blocks: Iterable[Hashes]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"seen-{self._n_files}.run"
        self._n_files += 1
        with open(path, "wb") as file:
            for block in blocks:
                block.tofile(file)
        self._spilled.append((path, np.memmap(path, _HASH, "r")))

    def _join(self) -> None:
        """Make one of the two shortest files, a block at a time."""
        (path, run), (other, other_run) = self._spilled.pop(), self._spilled.pop()
        self._keep(_merged_blocks(run, other_run, self.memory // 64 + 1))
        del run, other_run  # Windows removes no mapped file
        path.unlink()
        other.unlink()

    def save(self, path: Path) -> None:
        """Write the hashes as a sorted .npy file: the same bytes whatever the memory and order."""
        self._spill()
        while len(self._spilled) > 1:
            self._join()
        with write_whole(path) as file:
            np.save(file, self._spilled[0][1] if self._spilled else np.empty(0, _HASH))

    @classmethod
    def load(cls, path: Path, folder: Path, memory: int = 1 << 28) -> Self:
        """Go on with a copy of a saved file; DataError where it is damaged or another."""
        try:
            values = np.lib.format.open_memmap(path, mode="r")
        except (ValueError, EOFError) as bad:
            raise DataError(f"{path} is not a whole file of addresses seen ({bad}).") from None
        seen, size = cls(folder, memory), memory // 64 + 1
        sound = values.dtype == _HASH and values.ndim == 1
        starts = range(0, values.size if sound else 0, size)
        pairs = ((values[i : i + size], values[i + 1 : i + size + 1]) for i in starts)
        if not sound or not all((a[: len(b)] < b).all() for a, b in pairs):
            raise DataError(f"{path} is damaged, or holds something else than addresses seen.")
        if starts:
            seen._keep(values[i : i + size] for i in starts)
        return seen


def _merged(runs: Sequence[Hashes]) -> Hashes:
    merged = np.concatenate([np.asarray(run) for run in runs])
    merged.sort(kind="stable")  # what is sorted in stretches takes one pass for each two
    return merged


def _merged_blocks(a: Hashes, b: Hashes, size: int) -> Iterator[Hashes]:
    """Merge runs; hashes are spread evenly, so that `size` of the longer meet at most so many."""
    short, long = sorted((a, b), key=len)
    done = 0
    for start in range(0, len(long), size):
        block = long[start : start + size]
        end = len(short) if start + size >= len(long) else int(np.searchsorted(short, block[-1]))
        yield _merged((block, short[done:end]))
        done = end
