"""Lines that stand all over a site: menus, footers, notices; no reader wants them twice.

pages --line_keys--> a file of entries for each shard --merge_lines--> LineCounts
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scratchlm.base.errors import ConfigError
from scratchlm.base.files import write_whole
from scratchlm.cleaning.quality import without_lines

_LETTER = re.compile(r"\w")
_ENTRY = np.dtype([("key", "<u8"), ("pages", "<u4")])
_BLOCK = 1 << 20  # entries at a time
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the second row's cells


@dataclass(frozen=True, slots=True)
class Boilerplate:
    """Which lines stand all over a site: ours, no paper; CCNet (arXiv:1911.00359) drops every."""

    min_pages: int = 5  # of the site hold the line
    share: float = 0.2  # of the site's pages hold it
    table_mb: int = 64  # of counts, whatever the size of the corpus: 8 bytes for each line

    def __post_init__(self) -> None:
        for name in ("min_pages", "table_mb"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least 1.")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share = {self.share} must be above 0 and at most 1.")


def line_keys(site: str, lines: Iterable[str]) -> NDArray[np.uint64]:
    """A number for each line of a site; "" stands for the site's pages."""
    key = hashlib.blake2b(site.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    encoded = (line.encode("utf-8", "surrogatepass") for line in lines)
    digests = (hashlib.blake2b(line, digest_size=8, key=key).digest() for line in encoded)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def page_keys(site: str, text: str) -> NDArray[np.uint64]:
    """The keys of one page: each of its lines once, and the one that counts pages."""
    return line_keys(site, {line.strip() for line in text.split("\n")} | {""})


def write_lines(keys: Sequence[NDArray[np.uint64]], path: Path) -> None:
    """Write the keys of a shard's pages with their counts, sorted; whole or not at all."""
    values, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *keys]), return_counts=True)
    entries = np.empty(len(values), _ENTRY)
    entries["key"], entries["pages"] = values, counts
    with write_whole(path) as file:
        entries.tofile(file)


def merge_lines(paths: Iterable[Path], out: Path, table_mb: int) -> None:
    """Add up the lines of all shards in a table of fixed size, which LineCounts reads."""
    table = np.zeros((2, max(1, (table_mb << 20) // 8)), np.uint32)
    for path in paths:
        with open(path, "rb") as file:
            while len(entries := np.fromfile(file, _ENTRY, _BLOCK)):
                for row, cells in zip(table, _cells(entries["key"], table.shape[1])):
                    np.add.at(row, cells, entries["pages"])
    with write_whole(out) as file:
        np.save(file, table)


class LineCounts:
    """On how many pages of a site each line stands.

    A count-min sketch (Cormode and Muthukrishnan, 2005) of two rows: a count is never too low, and
    hardly too high while there are fewer lines than cells. Processes that read it share its memory.
    """

    def __init__(self, path: Path) -> None:
        self.table = np.load(path, mmap_mode="r")

    def pages(self, site: str, lines: Iterable[str]) -> NDArray[np.uint32]:
        """How many pages of the site hold each line; for "", how many pages it has."""
        first, second = _cells(line_keys(site, lines), self.table.shape[1])
        return np.minimum(self.table[0, first], self.table[1, second])


def _cells(keys: NDArray[np.uint64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each key counts in the two rows of `n` cells."""
    second = (keys * _SPREAD) ^ (keys >> np.uint64(32))
    return (keys % np.uint64(n)).astype(np.int64), (second % np.uint64(n)).astype(np.int64)


def drop_boilerplate(
    text: str, site: str, counts: LineCounts, rule: Boilerplate
) -> tuple[str, dict[str, int]]:
    """The text without the lines that stand all over its site, and on how many pages each does.

    A line without a letter or digit (a brace) stays.
    """
    lines = [line.strip() for line in text.split("\n")]
    n_pages, *pages = counts.pages(site, ["", *lines]).tolist()
    least = max(rule.min_pages, rule.share * n_pages)
    drops = [n >= least and bool(_LETTER.search(line)) for line, n in zip(lines, pages)]
    dropped = {line: n for line, n, drop in zip(lines, pages, drops) if drop}
    return (without_lines(text, drops) if dropped else text), dropped
