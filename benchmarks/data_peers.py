"""Other people's side of the data benchmark."""

import base64
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 1 << 18  # characters that a thread encodes at a time
GPT2_PATTERN = (  # as tiktoken's r50k_base has it
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
)


def encode_by_tiktoken(folder: str, tokenizer: str, workers: int, out: str) -> dict[str, Any]:
    """As nanoGPT's prepare.py does it; with several workers, tiktoken's own threads.

    tokenizer   the file of ranks
    """
    import tiktoken  # only the peers' interpreter needs it

    lines = Path(tokenizer).read_text(encoding="ascii").split()
    merges = {base64.b64decode(token): int(rank) for token, rank in zip(lines[::2], lines[1::2])}
    gpt2 = tiktoken.Encoding(
        "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=merges, special_tokens={}
    )

    def ids_of(text: str) -> np.ndarray:
        if workers == 1:
            return np.array(gpt2.encode_ordinary(text), dtype=np.uint16)
        return _joined(gpt2.encode_ordinary_batch(list(_chunks(text)), num_threads=workers))

    return _encode(folder, ids_of, Path(out))


def encode_by_transformers(folder: str, tokenizer: str, workers: int, out: str) -> dict[str, Any]:
    """With a fast tokenizer, whose threads RAYON_NUM_THREADS = `workers` limits."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer)

    def ids_of(text: str) -> np.ndarray:
        encoded = words(list(_chunks(text)), add_special_tokens=False, return_attention_mask=False)
        return _joined(encoded["input_ids"])

    return _encode(folder, ids_of, Path(out)) | {"workers": workers}


def encode_by_datatrove(folder: str, tokenizer: str, workers: int, out: str) -> dict[str, Any]:
    """JSON lines through its DocumentTokenizer, unshuffled, a process for each worker."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    definition = Path(tokenizer) / "tokenizer.json"
    settings = json.loads(definition.with_name("tokenizer_config.json").read_text("utf-8"))
    start = time.perf_counter()
    step = DocumentTokenizer(
        out,
        tokenizer_name_or_path=str(definition),
        eos_token=settings.get("eos_token"),
        shuffle_documents=False,
    )
    steps = [JsonlReader(folder), step]
    place = Path(out).with_name("logs")
    LocalPipelineExecutor(steps, tasks=workers, workers=workers, logging_dir=str(place)).run()
    seconds = time.perf_counter() - start
    rows = [row for path in Path(folder).iterdir() for row in path.read_bytes().splitlines()]
    n_bytes = sum(len(json.loads(row)["text"].encode()) for row in rows)
    n_tokens = sum(path.stat().st_size // 2 for path in Path(out).glob("*.ds"))
    return {"seconds": seconds, "n_bytes": n_bytes, "n_tokens": n_tokens}


def _encode(folder: str, ids_of: Any, out: Path) -> dict[str, Any]:
    """Read, split, encode, write: the whole text in memory, ids to two files."""
    start = time.perf_counter()
    paths = sorted(Path(folder).iterdir())
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
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
