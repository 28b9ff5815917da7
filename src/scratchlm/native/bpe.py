"""Byte-level BPE in compiled code: what tables of cuts and a list of merges make of a text."""

import ctypes
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlm.native import library as lib

MAX_IDS = (1 << 21) - 1  # ids are below; two of them and a rank share 64 bits in kernels/bpe.h
MAX_MERGES = (1 << 22) - 1
_N_CHARACTERS = 1 << 16
_NO_ID = (1 << 32) - 1
_MOST_CACHED = 4  # ids of a word that is kept
_CACHE_BITS = 17  # 8 MB for 262,144 words
_MANY_IDS = 1 << 20  # texts that may have more get a place of their own


def available() -> bool:
    """Whether the compiled code is there and not switched off."""
    return lib.library() is not None


@dataclass(frozen=True)
class Cuts:
    """How a text is cut into words, one table after the other.

    classes   (0x110000,) uint8, the class of each code point, below stride - 2; the two classes
              above are that of a character's second to last byte and that of the end
    tables    uint16, rows of `stride` entries: the place of the next row << 1 | whether a match
              ended before this character; row 0 is the end
    starts    (n,) uint16, the place of the row that each table begins with: there, inside a
              character, it ends
    """

    classes: np.ndarray
    tables: np.ndarray
    starts: np.ndarray
    stride: int


class Encoder:
    """Texts to ids. Several threads may use it at once.

    cuts     what is never merged across
    tokens   the bytes of each id; a byte that is none of them is left out of every text
    merges   (3, n) left id, right id and the id of both; the first is made first
    whole    ids that a word of their bytes becomes without merges
    """

    def __init__(
        self, cuts: Cuts, tokens: Sequence[bytes], merges: np.ndarray, whole: Sequence[int] = ()
    ) -> None:
        kernels = lib.library()
        assert kernels is not None, "the caller asked `available`"
        assert len(tokens) < MAX_IDS
        assert merges.shape[1] < MAX_MERGES
        self._kernels = kernels
        ids = {token: i for i, token in enumerate(tokens)}
        every_byte = [bytes([i]) for i in range(256)]
        n_merges, n_whole = merges.shape[1], len(whole)
        pair_bits, whole_bits = (max(4, (2 * n).bit_length()) for n in (n_merges, n_whole))
        # what the structure points to, so that it lives as long
        self._arrays = {
            "classes": cuts.classes,
            "tables": cuts.tables,
            "starts": cuts.starts,
            "merges": np.ascontiguousarray(merges, dtype=np.uint32),
            "byte_ids": np.array([ids.get(byte, _NO_ID) for byte in every_byte], dtype=np.uint32),
            "token_bytes": np.frombuffer(b"".join(tokens), dtype=np.uint8),
            "token_ends": np.cumsum([0, *map(len, tokens)], dtype=np.int64),
            "whole": np.array(whole, dtype=np.uint32),
            "pairs": np.zeros(1 << pair_bits, dtype=np.uint64),
            "whole_slots": np.zeros(1 << whole_bits, dtype=np.uint32),
            "characters": np.zeros((_N_CHARACTERS, 4), dtype=np.uint32),
            "joins": np.zeros((256, 4), dtype=np.uint64),
        }
        self._fixed = lib.Bpe(
            n_cuts=len(cuts.starts),
            stride=cuts.stride,
            n_merges=n_merges,
            n_whole=n_whole,
            longest_whole=max((len(tokens[i]) for i in whole), default=0),
            pair_bits=pair_bits,
            whole_bits=whole_bits,
            multiplier=secrets.randbits(64) | 1,  # drawn: no file has merges that all collide
            cache_bits=_CACHE_BITS,
            **{name: array.ctypes.data for name, array in self._arrays.items()},
        )
        kernels.run("bpe_index", self._fixed, 1)
        self._rooms: list[_Room] = []  # those that no thread is in

    def encode(self, text: bytes) -> np.ndarray:
        """The ids of a text that is valid UTF-8: (n_ids,) uint32."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room = _Room(self._fixed)
        n_most = len(text) + _MOST_CACHED
        ids = room.ids if n_most <= len(room.ids) else np.empty(n_most, dtype=np.uint32)
        arguments = room.arguments
        arguments.n, arguments.text = len(text), text
        if ids is not room.ids:
            arguments = lib.Bpe.from_buffer_copy(arguments)
            arguments.ids = ids.ctypes.data
        self._kernels.run("bpe_encode", arguments, 1)
        found = ids[: room.n_ids.value].copy()
        self._rooms.append(room)
        return found


class _Room:
    """What one thread works in: the words that it keeps, and place for the ids of a text."""

    def __init__(self, fixed: Any) -> None:
        self.cache = np.zeros(64 * ((1 << _CACHE_BITS) + 1), dtype=np.uint8)
        self.ids = np.empty(_MANY_IDS, dtype=np.uint32)
        self.n_ids = ctypes.c_long()
        self.arguments = lib.Bpe.from_buffer_copy(fixed)
        self.arguments.cache = self.cache.ctypes.data
        self.arguments.ids = self.ids.ctypes.data
        self.arguments.n_ids = ctypes.addressof(self.n_ids)
