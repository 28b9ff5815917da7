"""What llama2.c's run.c does with its two files, in numpy: a second opinion on what we wrote.

It shares no line with our reader or our model, so that one mistake cannot hide in both.
"""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Formula:
    """A model.bin (version 0 or 2) and its tokenizer.bin, run as run.c runs them."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        self._data = memoryview(np.memmap(model, np.uint8, "r"))  # type: ignore[arg-type]
        magic, self._version = struct.unpack_from("<Ii", self._data, 0)
        if magic == 0x616B3432:
            *sizes, tied, self._group = struct.unpack_from("<7iBi", self._data, 8)
            self._at = 256
        else:
            sizes, self._version = list(struct.unpack_from("<7i", self._data, 0)), 0
            tied, self._group, self._at = sizes[5] > 0, 0, 28
        self.dim, self.hidden, self.layers, self.heads, self.kv, vocab, self.length = sizes
        self.vocab, self.tied = abs(vocab), bool(tied)
        self._load()
        self._pieces, self._scores = _read_pieces(tokenizer, self.vocab)

    def _load(self) -> None:
        d, n, kv = self.dim, self.layers, self.kv * self.dim // self.heads
        shapes = {
            "table": (1, self.vocab, d), "norm1": (n, d), "q": (n, d, d), "k": (n, kv, d),
            "v": (n, kv, d), "o": (n, d, d), "norm2": (n, d), "w1": (n, self.hidden, d),
            "w2": (n, d, self.hidden), "w3": (n, self.hidden, d), "last": (1, d),
        }  # fmt: skip
        order = list(shapes)
        if self._version == 2:
            norms = ["norm1", "norm2", "last"]
            order = [*norms, *(name for name in order if name not in norms)]
        self.w = {name: self._take(shapes[name]) for name in order}
        if self.tied:
            self.head = self.w["table"][0]
            return
        if self._version == 0:
            self._at += 4 * self.length * (d // self.heads)  # angles that nobody reads any more
        self.head = self._take((1, self.vocab, d))[0]

    def _take(self, shape: tuple[int, ...]) -> Array:
        """The next tensors of the file: `shape[0]` of them."""
        if not self._group or len(shape) == 2:
            return self._floats(int(np.prod(shape))).reshape(shape)
        found = []
        for _ in range(shape[0]):
            n = int(np.prod(shape[1:]))
            numbers = np.frombuffer(self._data, np.int8, n, self._at).astype(np.float32)
            self._at += n
            scales = self._floats(n // self._group)
            found.append((numbers.reshape(-1, self._group) * scales[:, None]).reshape(shape[1:]))
        return np.stack(found)

    def _floats(self, n: int) -> Array:
        values = np.frombuffer(self._data, np.float32, n, self._at)
        self._at += 4 * n
        return values

    def logits(self, ids: list[int]) -> Array:
        """(T,) ids -> (T, V) float32, by the formula of run.c: forward."""
        w, T, size = self.w, len(ids), self.dim // self.heads
        x = w["table"][0][ids]  # (T, D)
        turned = np.arange(T)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
        cos, sin = np.cos(turned)[:, None], np.sin(turned)[:, None]  # (T, 1, Dh/2)
        future = np.triu(np.full((T, T), -np.inf, np.float32), 1)
        for i in range(self.layers):
            y = _norm(x, w["norm1"][i])
            q = _turn((y @ w["q"][i].T).reshape(T, self.heads, size), cos, sin)
            k = _turn((y @ w["k"][i].T).reshape(T, self.kv, size), cos, sin)
            v = (y @ w["v"][i].T).reshape(T, self.kv, size)
            k, v = (np.repeat(one, self.heads // self.kv, axis=1) for one in (k, v))
            scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(size) + future
            mixed = np.einsum("hts,shd->thd", _softmax(scores), v).reshape(T, self.dim)
            x = x + mixed @ w["o"][i].T
            y = _norm(x, w["norm2"][i])
            gate = y @ w["w1"][i].T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ w["w3"][i].T)) @ w["w2"][i].T
        logits: Array = (_norm(x, w["last"][0]) @ self.head.T).astype(np.float32)
        return logits

    def ids(self, text: str) -> list[int]:
        """The ids of a text without begin token, by run.c: encode."""
        known = {piece: i for i, piece in reversed(list(enumerate(self._pieces)))}
        ids = [known[b" "]] if text else []
        for character in text:
            written = character.encode()
            ids += [known[written]] if written in known else [byte + 3 for byte in written]
        while True:
            pairs = [self._pieces[a] + self._pieces[b] for a, b in pairwise(ids)]
            ranked = [(self._scores[known[p]], -n) for n, p in enumerate(pairs) if p in known]
            if not ranked:
                return ids
            n = -max(ranked)[1]
            ids[n : n + 2] = [known[pairs[n]]]


def _read_pieces(path: Path, n: int) -> tuple[list[bytes], list[float]]:
    content, at = path.read_bytes(), 4
    pieces, scores = [], []
    for _ in range(n):
        score, size = struct.unpack_from("<fi", content, at)
        scores.append(score)
        pieces.append(content[at + 8 : at + 8 + size])
        at += 8 + size
    return pieces, scores


def _norm(x: Array, weight: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight


def _turn(x: Array, cos: Array, sin: Array) -> Array:
    """Pairs lie beside each other."""
    a, b = x[..., ::2], x[..., 1::2]
    return np.stack((a * cos - b * sin, a * sin + b * cos), axis=-1).reshape(x.shape)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
