"""Documents that say the same: equal ones, and similar ones by MinHash and banded hashing.

    texts --write_signatures--> one file for each shard --find_clusters--> who stays for whom

A signature file has one record of fixed size for each text. From these, pairs that may be similar
are found by hashing bands of coarse values (LSH; Leskovec, Rajaraman and Ullman, "Mining of massive
datasets", chapter 3.4), then judged by the fine values. Whatever grows with the number of
documents, save 40 bytes for each, is on disk: it is cut into partitions, and one is in memory at
a time. The result depends on the texts and their order alone, not on shards or partitions.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import write_whole
from scratchlm.cleaning.minhash import N_COARSE, N_FINE, SKETCH, grouped, similarities, sketch

_HEADER = b"scratchlm signatures 1\n".ljust(64, b"\0")
_EQUAL = np.dtype([("key", "<u8"), ("more", "<u8"), ("document", "<u8")])
_BAND = np.dtype([("key", "<u8"), ("document", "<u8")])
_PAIR = np.dtype("<u8")  # first << 32 | second
_MAX_DOCUMENTS = 1 << 32

_RECALL = 0.97  # of pairs at the threshold itself that become candidates, at least
_NEIGHBOURS = 16  # in a bucket: each document is paired with so many before it, and with the first
_BLOCK = 4096  # records, or pairs, at a time: 2 x 8 MB of fine values
_MAX_FILES = 512  # open at a time

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """How similar is too similar, and which document stays."""

    threshold: float = 0.8  # shared / all 5-character shingles; 1: only equal documents
    keep: Literal["first", "longest"] = "first"  # of documents that say the same
    partition_mb: int = 64  # of band keys that are sorted at a time; takes about 5 times this

    def __post_init__(self) -> None:
        if not 0.1 <= self.threshold <= 1:
            raise ConfigError(
                f"threshold = {self.threshold} is not from .1 to 1: it is the part of all "
                "shingles that two documents share. Near-duplicates share .8 and more."
            )
        if self.keep not in ("first", "longest"):
            raise ConfigError(f"keep = {self.keep!r} is neither 'first' nor 'longest'.")
        if self.partition_mb < 1:
            raise ConfigError(f"partition_mb = {self.partition_mb} is not at least 1.")


def write_signatures(texts: Iterable[str], path: Path) -> int:
    """Write the record of each text of a shard, whole or not at all; returns how many."""
    n = 0
    # glibc hands small freed memory back to the system, and gets it again page by page, until a
    # larger piece was freed once: 24 to 63 thousand texts of 350 characters a second, measured.
    np.empty(1 << 24, np.uint8)
    with write_whole(path) as file:
        file.write(_HEADER)
        for group in grouped(texts):
            file.write(sketch(group).tobytes())
            n += len(group)
    return n


class SignatureFiles:
    """The records of all shards, numbered through in the order of the files.

    raises   DataError for a file that is foreign, cut or of another version
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [Path(path) for path in paths]
        self.starts = np.cumsum([0, *map(_count, self.paths)], dtype=np.int64)
        if len(self) >= _MAX_DOCUMENTS:
            raise DataError(f"{len(self)} documents are too many: 2**32 - 1 can be compared.")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All in order, up to 4,096 at a time: their numbers (n,) int64, and their records."""
        for path, start, end in zip(self.paths, self.starts, self.starts[1:]):
            with open(path, "rb") as file:
                file.seek(len(_HEADER))
                for first in range(int(start), int(end), _BLOCK):
                    records = np.fromfile(file, SKETCH, min(_BLOCK, int(end) - first))
                    yield np.arange(first, first + len(records), dtype=np.int64), records

    def fine(self, numbers: np.ndarray) -> np.ndarray:
        """The fine values of some documents: (n,) ascending to (n, N_FINE) uint8."""
        values = np.empty((len(numbers), N_FINE), np.uint8)
        offset = len(_HEADER) + SKETCH.fields["fine"][1]  # type: ignore[index]
        cuts = np.searchsorted(numbers, self.starts)
        for path, start, low, high in zip(self.paths, self.starts, cuts, cuts[1:]):
            if low == high:
                continue
            with open(path, "rb", buffering=0) as file:
                for row in range(low, high):
                    file.seek(offset + int(numbers[row] - start) * SKETCH.itemsize)
                    file.readinto(values[row].data)
        return values

    def similarities(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Estimate the similarity of each pair of documents: (n,) int64 twice to (n,) float32."""
        numbers, places = np.unique(np.concatenate((first, second)), return_inverse=True)
        fine = self.fine(numbers)
        return similarities(fine[places[: len(first)]], fine[places[len(first) :]])


def _count(path: Path) -> int:
    with open(path, "rb") as file:
        header = file.read(len(_HEADER))
    n, rest = divmod(path.stat().st_size - len(_HEADER), SKETCH.itemsize)
    if header != _HEADER or rest:
        raise DataError(
            f"{path} is not a whole file of signatures of this version. Delete it, so that it "
            "is made again from its shard."
        )
    return n


def choose_bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many coarse values: as long as find 97 % of pairs at the threshold.

    A pair of similarity j agrees in one of b bands of r values with 1 - (1 - j**r)**b.
    """
    for n_rows in range(N_COARSE, 1, -1):
        n_bands = N_COARSE // n_rows
        if 1 - (1 - threshold**n_rows) ** n_bands >= _RECALL:
            return n_bands, n_rows
    return N_COARSE, 1


def band_keys(coarse: np.ndarray, n_bands: int, n_rows: int) -> np.ndarray:
    """One 64-bit key for each band: (n, N_COARSE) uint32 to (n, n_bands) uint64.

    Each value is mixed in by one round of splitmix64 (prng.di.unimi.it), so any bit of the key
    may choose the partition.
    """
    values = coarse[:, : n_bands * n_rows].reshape(-1, n_bands, n_rows)
    keys = np.broadcast_to(np.arange(n_bands, dtype=np.uint64), values.shape[:2]).copy()
    for row in range(n_rows):
        keys += values[:, :, row]
        keys += np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(30)
        keys *= np.uint64(0xBF58476D1CE4E5B9)
        keys ^= keys >> np.uint64(27)
        keys *= np.uint64(0x94D049BB133111EB)
        keys ^= keys >> np.uint64(31)
    return keys


class _Spill:
    """Entries on disk in partitions, each in the order in which it came."""

    def __init__(self, path: Path, dtype: np.dtype, n_expected: int, n_at_once: int) -> None:
        self.dtype = dtype
        self.n_at_once = n_at_once
        self.n = 0
        self.n_parts = min(_MAX_FILES, max(1, -(-n_expected // n_at_once)))
        self.paths = [path.with_name(f"{path.name}-{i:03d}") for i in range(self.n_parts)]
        self.files = [open(part, "wb") for part in self.paths]  # noqa: SIM115

    def add(self, entries: np.ndarray, keys: np.ndarray) -> None:
        """Write each entry to the partition that the upper half of its 64-bit key says."""
        parts = (keys >> np.uint64(32)) * np.uint64(self.n_parts) >> np.uint64(32)
        order = np.argsort(parts, kind="stable")
        cuts = np.searchsorted(parts[order], np.arange(self.n_parts + 1, dtype=np.uint64))
        for file, low, high in zip(self.files, cuts, cuts[1:]):
            file.write(entries[order[low:high]].tobytes())
        self.n += len(entries)

    def close(self) -> None:
        for file in self.files:
            file.close()

    def read(self) -> Iterator[np.ndarray]:
        """Each partition whole; its file is deleted behind it."""
        self.close()
        for path in self.paths:
            yield np.fromfile(path, self.dtype)
            path.unlink()

    def read_in_chunks(self) -> Iterator[np.ndarray]:
        """As `read`, but a partition that came out larger than expected in several pieces."""
        self.close()
        for path in self.paths:
            with open(path, "rb") as file:
                while len(entries := np.fromfile(file, self.dtype, self.n_at_once)):
                    yield entries
            path.unlink()


@dataclass(frozen=True, slots=True)
class _Search:
    """The steps of `find_clusters`; root[i] leads, step by step, to the first of i's cluster."""

    files: SignatureFiles
    root: np.ndarray  # (N,) int64, changed in place
    folder: Path
    settings: DuplicateSettings
    tell: Progress

    def spill(self, name: str, dtype: np.dtype, n_expected: int) -> _Spill:
        n_at_once = (self.settings.partition_mb << 20) // dtype.itemsize
        return _Spill(self.folder / name, dtype, n_expected, n_at_once)

    def join_equal(self) -> np.ndarray:
        """Point each document at the first that is equal; returns the lengths, (N,) int64."""
        lengths = np.zeros(len(self.files), np.int64)
        spill = self.spill("equal", _EQUAL, len(self.files))
        for numbers, records in self.files.blocks():
            entries = np.empty(len(numbers), _EQUAL)
            entries["key"], entries["more"] = records["exact"].T
            entries["document"] = numbers
            lengths[numbers] = records["length"]
            spill.add(entries, entries["key"])
            self.tell("equal documents", int(numbers[-1]) + 1, len(self.files))
        for entries in spill.read():
            entries = entries[np.lexsort((entries["more"], entries["key"]))]  # stable: in order
            new = np.ones(len(entries), bool)
            new[1:] = np.diff(entries["key"]) | np.diff(entries["more"])
            documents = entries["document"].astype(np.int64)
            self.root[documents] = documents[new][np.cumsum(new) - 1]
        return lengths

    def spill_bands(self) -> _Spill:
        """The band keys of each document that has letters and is not equal to an earlier one."""
        n_bands, n_rows = choose_bands(self.settings.threshold)
        spill = self.spill("bands", _BAND, len(self.files) * n_bands)
        for numbers, records in self.files.blocks():
            used = (self.root[numbers] == numbers) & (records["length"] > 0)
            entries = np.empty((int(used.sum()), n_bands), _BAND)
            entries["key"] = band_keys(records["coarse"][used], n_bands, n_rows)
            entries["document"] = numbers[used, None]
            spill.add(entries.ravel(), entries["key"].ravel())
            self.tell("hashing bands", int(numbers[-1]) + 1, len(self.files))
        return spill

    def spill_pairs(self, bands: _Spill) -> _Spill:
        """Pairs of documents with equal keys; a bucket of n yields at most 17 n pairs."""
        pairs = self.spill("pairs", _PAIR, bands.n)
        scale = (_MAX_DOCUMENTS - 1) // max(1, len(self.files))  # numbers to all of 32 bits
        for done, entries in enumerate(bands.read()):
            order = np.argsort(entries["key"], kind="stable")
            keys, documents = entries["key"][order], entries["document"][order]
            for first, second in _bucket_pairs(keys, documents):
                spread = first * np.uint64(scale) << np.uint64(32)
                pairs.add(first << np.uint64(32) | second, spread)
            self.tell("sorting bands", done + 1, bands.n_parts)
        return pairs

    def join_similar(self, pairs: _Spill) -> None:
        """Judge the candidates; those that are similar enough get one root."""
        done = 0
        for chunk in pairs.read_in_chunks():
            unique = np.unique(chunk)
            for at in range(0, len(unique), _BLOCK):
                first = (unique[at : at + _BLOCK] >> np.uint64(32)).astype(np.int64)
                second = (unique[at : at + _BLOCK] & np.uint64(0xFFFFFFFF)).astype(np.int64)
                apart = _roots(self.root, first) != _roots(self.root, second)
                first, second = first[apart], second[apart]
                alike = self.files.similarities(first, second) >= self.settings.threshold
                _join(self.root, first[alike], second[alike])
            done += len(chunk)
            self.tell("comparing", done, pairs.n)


def _bucket_pairs(
    keys: np.ndarray, documents: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each document with the `_NEIGHBOURS` before it in its bucket, then with the first."""
    for step in range(1, min(_NEIGHBOURS + 1, len(keys))):
        same = keys[step:] == keys[:-step]
        if not same.any():
            return  # no bucket is larger than this step
        yield documents[:-step][same], documents[step:][same]
    places = np.arange(len(keys))
    starts = np.maximum.accumulate(np.where(np.diff(keys, prepend=~keys[:1]) != 0, places, 0))
    far = places - starts > _NEIGHBOURS
    yield documents[starts[far]], documents[far]


def _roots(root: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Follow each document to the one that points at itself, and shorten the way."""
    found = documents
    while not np.array_equal(above := root[found], found):
        found = above
    root[documents] = found
    return found


def _join(root: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Union of each pair; the root of a set is always its smallest number."""
    while len(first):
        a, b = _roots(root, first), _roots(root, second)
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        apart = root[np.maximum(a, b)] != np.minimum(a, b)  # joined a still smaller one instead
        first, second = first[apart], second[apart]


def _longest(root: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The longest document of each set instead of its first one; the first of equal ones."""
    order = np.lexsort((-lengths, root))  # stable: in order
    best = np.empty(len(root), np.int64)
    best[root[order[::-1]]] = order[::-1]  # what is written last stays: the first in `order`
    return best[root]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Documents that say the same, by number.

    leader        the one that stays
    members       (n,) int64    the others, in order
    similarities  (n,) float32  of each to the leader: below the threshold where only a third
                                document connects the two; 0 for texts without letters
    """

    leader: int
    members: np.ndarray
    similarities: np.ndarray


@dataclass(frozen=True, slots=True)
class Clusters:
    """Who stays for whom; iterate for the clusters of two and more, by the leader's number.

    leader   (N,) int64  of each document the one that stays, itself if it does
    files    the signatures: similarities are read from them, `leader` needs them no more
    """

    leader: np.ndarray
    files: SignatureFiles

    @property
    def stays(self) -> np.ndarray:
        """(N,) bool: whether the document is kept."""
        return self.leader == np.arange(len(self.leader))

    def __iter__(self) -> Iterator[Cluster]:
        return map(self._read, self._groups())

    def largest(self, n: int) -> Iterator[Cluster]:
        """The n clusters with the most members; of equal ones those with the first leaders."""
        groups = self._groups()
        chosen = np.argsort([-len(group) for group in groups], kind="stable")[:n]
        return (self._read(groups[i]) for i in chosen)

    def _groups(self) -> list[np.ndarray]:
        """The members of each cluster without its leader, in order of the leaders."""
        members = np.flatnonzero(~self.stays)
        members = members[np.argsort(self.leader[members], kind="stable")]
        cuts = np.flatnonzero(np.diff(self.leader[members])) + 1
        return np.split(members, cuts) if len(members) else []

    def _read(self, members: np.ndarray) -> Cluster:
        leaders = self.leader[members]
        similar = [
            self.files.similarities(leaders[at : at + _BLOCK], members[at : at + _BLOCK])
            for at in range(0, len(members), _BLOCK)
        ]
        return Cluster(int(leaders[0]), members, np.concatenate(similar))


def find_clusters(
    paths: Sequence[Path],
    folder: Path,
    settings: DuplicateSettings,
    progress: Progress | None = None,
) -> Clusters:
    """Which documents say the same: any two that are similar, directly or over others, are one.

    paths     of `write_signatures`, in the order of the shards: the first document is the first
    folder    for a temporary folder, which takes 16 * bands bytes for each document (288 at
              threshold .8) and 8 for each pair that shares a band
    progress  told (stage, done, total)
    raises    DataError for a damaged signature file

    Memory: about 40 bytes for each document, five partitions and 100 MB.
    """
    files = SignatureFiles(paths)
    root = np.arange(len(files), dtype=np.int64)
    tell = progress or (lambda _stage, _done, _total: None)
    with tempfile.TemporaryDirectory(prefix="duplicates-", dir=folder) as scratch:
        search = _Search(files, root, Path(scratch), settings, tell)
        lengths = search.join_equal()
        if settings.threshold < 1:
            search.join_similar(search.spill_pairs(search.spill_bands()))
    for first in range(0, len(root), _BLOCK):
        _roots(root, np.arange(first, min(first + _BLOCK, len(root))))
    return Clusters(root if settings.keep == "first" else _longest(root, lengths), files)
