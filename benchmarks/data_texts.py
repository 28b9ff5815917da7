"""The texts of the data benchmark: folders of one size, from whatever files are given."""

import json
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

N_LINES_FILES = 2  # files of JSON lines, for two processes of a peer that reads nothing else


def gather(
    paths: Sequence[str], mb: float, folder: str, lines: str, repeat: bool
) -> dict[str, Any]:
    """Write files of text into a folder, as many as have `mb` MB. The same documents go into files
    of JSON lines.

    paths    text in UTF-8, or .json whose strings are the text
    repeat   from the beginning again where there are not enough
    returns  "mb" of the folder, and of the files that were given
    """
    place, beside = Path(folder), Path(lines)
    place.mkdir(parents=True)
    beside.mkdir(parents=True)
    texts = {path: read_text(Path(path)) for path in paths}
    left, n_given = mb * 1e6, sum(len(text.encode()) for text in texts.values())
    written: list[list[str]] = [[] for _ in range(N_LINES_FILES)]
    for number, text in enumerate(cycle(texts.values()) if repeat else texts.values()):
        (place / f"{number:06d}.txt").write_text(text, encoding="utf-8", newline="")
        row = json.dumps({"text": text}, ensure_ascii=False)
        written[number % N_LINES_FILES].append(f"{row}\n")
        left -= len(text.encode())
        if left <= 0:
            break
    for number, rows in enumerate(written):
        (beside / f"{number}.jsonl").write_text("".join(rows), encoding="utf-8")
    return {"mb": mb - left / 1e6, "mb_given": n_given / 1e6}


def read_text(path: Path) -> str:
    """A file of text, or the strings of a .json."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(_strings(json.loads(text))) if path.suffix == ".json" else text


def _strings(value: Any) -> Iterator[str]:
    """Every text of a JSON value but ids, with an empty line before each object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield ""
        for key, item in value.items():
            if key != "id":
                yield from _strings(item)
