"""Bytes of a mapped file, without its pages staying in memory."""

import mmap
from typing import Any

import numpy as np


def take(content: mmap.mmap, start: int, n_bytes: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """A copy of bytes of a mapped file.

    The system is told to read them all at once, and then that their pages are no longer needed:
    else they would count as memory until the file is closed.
    """
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    pages = first, start + n_bytes - first
    if n_bytes and hasattr(mmap, "MADV_WILLNEED"):
        content.madvise(mmap.MADV_WILLNEED, *pages)
    taken = np.frombuffer(content, np.uint8, n_bytes, start).copy()
    if n_bytes and hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED, *pages)
    return taken
