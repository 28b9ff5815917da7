"""Other people's side of the data benchmark: the whole text in memory, ids to two files."""

import base64
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 1 << 18  # characters that a thread encodes at a time
GPT2_PATTERN = (  # as tiktoken's r50k_base has it
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
)


def encode_by_tiktoken(paths: Sequence[str], ranks: str, workers: int, out: str) -> dict[str, Any]:
    """As nanoGPT's prepare.py does it; with several workers, tiktoken's own threads."""
    import tiktoken  # only the peers' interpreter needs it

    lines = Path(ranks).read_text(encoding="ascii").split()
    merges = {base64.b64decode(token): int(rank) for token, rank in zip(lines[::2], lines[1::2])}
    gpt2 = tiktoken.Encoding(
        "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=merges, special_tokens={}
    )

    def ids_of(text: str) -> np.ndarray:
        if workers == 1:
            return np.array(gpt2.encode_ordinary(text), dtype=np.uint16)
        return _joined(gpt2.encode_ordinary_batch(list(_chunks(text)), num_threads=workers))

    return _encode(paths, ids_of, Path(out))


def encode_by_transformers(
    paths: Sequence[str], tokenizer: str, workers: int, out: str
) -> dict[str, Any]:
    """With a fast tokenizer, whose threads RAYON_NUM_THREADS = `workers` limits."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer)

    def ids_of(text: str) -> np.ndarray:
        encoded = words(list(_chunks(text)), add_special_tokens=False, return_attention_mask=False)
        return _joined(encoded["input_ids"])

    return _encode(paths, ids_of, Path(out)) | {"workers": workers}


def _encode(paths: Sequence[str], ids_of: Any, out: Path) -> dict[str, Any]:
    """Read, split, encode, write: what is timed."""
    start = time.perf_counter()
    text = "".join(Path(path).read_text(encoding="utf-8") for path in paths)
    out.mkdir(parents=True)
    n_train = int(len(text) * 0.9)
    n_tokens = 0
    for name, part in (("train", text[:n_train]), ("val", text[n_train:])):
        ids = ids_of(part)
        ids.tofile(out / f"{name}.bin")
        n_tokens += len(ids)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "n_bytes": len(text.encode()), "n_tokens": n_tokens}


def _chunks(text: str) -> Iterator[str]:
    """Pieces of a text that end with a line, so that hardly a token is cut."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + CHUNK) + 1 or len(text)
        yield text[start:end]
        start = end


def _joined(lists: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([np.array(ids, dtype=np.uint16) for ids in lists])
