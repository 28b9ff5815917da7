"""What the stages of the corpus keep beside their documents, as those see it who read files."""

import json
from functools import lru_cache
from pathlib import Path

DOCUMENTS = ".jsonl.zst"  # what the stages write
_PACKED = 3.0  # times smaller than their text these are, where nobody has counted


def is_account(path: Path) -> bool:
    """Whether a stage keeps this file to account for what it did: it is no text to learn from."""
    folder = path.parent
    if path.name in ("journal.tsv", "urls.tsv"):  # of `corpus fetch`
        return (folder / "fetch.json").is_file()
    if folder.name != "failed" or next(folder.parent.glob(f"*{DOCUMENTS}"), None) is None:
        return False
    return (folder.parent / "counts.json").is_file() or (folder.parent / ".done").is_dir()


@lru_cache(maxsize=64)
def text_per_byte(folder: Path) -> float:
    """How many bytes of text a byte in a folder of documents is, by what its stage has counted."""
    packed = sum(path.stat().st_size for path in folder.glob(f"*{DOCUMENTS}"))
    try:
        n_bytes = json.loads((folder / "counts.json").read_text(encoding="utf-8"))["kept_bytes"]
        return float(n_bytes) / packed
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return _PACKED
