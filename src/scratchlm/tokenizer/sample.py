"""Text to learn from: a stream of documents, cut into blocks, sampled within a bound of bytes."""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator

from scratchlm.base.errors import DataError
from scratchlm.base.log import say
from scratchlm.tokenizer.surrogates import refuse_surrogates

Progress = Callable[[int], None]

_BLOCK = 32_768  # characters: so that one document of any length is a small piece of work


def blocks(texts: Iterable[str], progress: Progress | None = None) -> Iterator[str]:
    """The texts as pieces of at most 32,768 characters, cut after a line end where there is one.

    progress   called with the bytes of text read so far
    raises     DataError where all texts together are empty, or one has a lone surrogate
    """
    n_bytes = 0
    for text in texts:
        start = 0
        while start < len(text):
            end = _cut(text, start)
            block, start = text[start:end], end
            refuse_surrogates(block)
            yield block
            n_bytes += _size(block)
            if progress:
                progress(n_bytes)
    if not n_bytes:
        raise DataError("there is no text to train a tokenizer on: every document is empty.")


def _cut(text: str, start: int) -> int:
    end = start + _BLOCK
    if end >= len(text):
        return len(text)
    return text.rfind("\n", start, end) + 1 or end


def sample(pieces: Iterable[str], max_bytes: int) -> list[str]:
    """An even sample of at most `max_bytes` bytes, in the order of the stream; all if it fits.

    Every piece draws a number from a fixed seed and the smallest numbers stay, so that the
    sample depends on the text alone. Memory: `max_bytes` and one piece.
    """
    draw = random.Random(0).random
    kept: list[tuple[float, int, str]] = []  # a heap: the largest number first
    n_kept = n_read = 0
    for order, piece in enumerate(pieces):
        heapq.heappush(kept, (-draw(), order, piece))
        n_read += _size(piece)
        n_kept += _size(piece)
        while n_kept > max_bytes and len(kept) > 1:
            n_kept -= _size(heapq.heappop(kept)[2])
    if n_kept < n_read:
        say(
            f"The tokenizer learns from an even sample of {n_kept / 1e6:.0f} of "
            f"{n_read / 1e6:.0f} MB (tokenizer.max_text_bytes)."
        )
    return [piece for _, _, piece in sorted(kept, key=lambda entry: entry[1])]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
