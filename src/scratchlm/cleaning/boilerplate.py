"""Lines that stand all over a site: menus, footers, notices; no reader wants them twice."""

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from scratchlm.cleaning.quality import without_lines

_LETTER = re.compile(r"\w")


class LineCounts:
    """On how many pages of a site each line stands, in an amount of memory that is fixed.

    A count-min sketch (Cormode and Muthukrishnan, 2005) of two rows: a count is never too low, and
    hardly too high while there are fewer lines than cells (one in 8 bytes). The tables of several
    workers may be added up, in any order.
    """

    def __init__(self, n_bytes: int = 1 << 26) -> None:
        self.table = np.zeros((2, max(1, n_bytes // 8)), np.uint32)

    def add(self, host: str, text: str) -> None:
        """Count the lines of one page, each once."""
        lines = {line.strip() for line in text.split("\n")} | {""}  # "" counts the pages
        for row, cells in zip(self.table, self._cells(host, lines)):
            np.add.at(row, cells, 1)

    def pages(self, host: str, lines: Iterable[str]) -> NDArray[np.uint32]:
        """How many pages of the site hold each line; for "", how many pages it has."""
        first, second = self._cells(host, lines)
        return np.minimum(self.table[0, first], self.table[1, second])

    def _cells(self, host: str, lines: Iterable[str]) -> NDArray[np.int64]:
        keys = (f"{host}\n{line}".encode("utf-8", "surrogatepass") for line in lines)
        digests = b"".join(hashlib.blake2b(key, digest_size=16).digest() for key in keys)
        cells = np.frombuffer(digests, "<u8").reshape(-1, 2).T % np.uint64(self.table.shape[1])
        return cells.astype(np.int64)


def drop_boilerplate(
    text: str, host: str, counts: LineCounts, min_pages: int, share: float
) -> tuple[str, int]:
    """The text without the lines that stand all over its site, and how many those were.

    They stand on at least `min_pages` pages, and on a `share` of all pages of the host. A line
    without a letter or digit (a brace) stays.
    """
    lines = [line.strip() for line in text.split("\n")]
    n_pages, *pages = counts.pages(host, ["", *lines]).tolist()
    least = max(min_pages, share * n_pages)
    drops = [n >= least and bool(_LETTER.search(line)) for line, n in zip(lines, pages)]
    return without_lines(text, drops), sum(drops)
