"""How fast models of other programs are imported, beside what the disk reads and writes.

    python benchmarks/imports.py --rounds 5 --priority

A random Llama of 134M parameters, SmolLM2's shape, in each format. `dd` reads the same file past
the cache, and writes as many zeros as the import writes, flushed; an import reads, writes, flushes,
and hashes what it wrote.
"""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, start
from process import call

COLUMNS = (
    Column("seconds", "seconds", ".2f", spread=True),
    Column("MB/s of the source", "mb_per_s", ".0f", spread=True),
    Column("MB of the source", "mb", ".0f"),
    Column("MB at most", "peak_memory_mb"),
)
FORMATS = ("gguf-f32", "gguf-f16", "gguf-q8_0", "gguf-q4_0", "llama2c", "folder")


@dataclass(frozen=True)
class ImportSettings(Settings):
    """Which formats."""

    rounds: int = 5
    formats: tuple[str, ...] = FORMATS


def main(settings: ImportSettings) -> None:
    """Measure everything and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        made = call(
            "imports_ours:make", {"folder": folder, "quick": settings.quick}, settings.how()
        )
        entries = []
        for name in settings.formats:
            paths = {"source": made["paths"][name], "out": str(Path(folder) / "out")}
            entries.append(Entry(name, "import", partial(_bring, settings, paths)))
            entries.append(Entry(name, "dd, reading", partial(_read, Path(made["files"][name]))))
            n_bytes = made["written"][name]
            entries.append(Entry(name, "dd, writing", partial(_write, Path(folder), n_bytes)))
        comparison = Comparison("mb_per_s", "import", "faster")
        Results("imports", settings, COLUMNS, comparison, facts=made["facts"]).measure(entries)


def _bring(settings: ImportSettings, paths: dict[str, str], _round: int) -> dict[str, Any]:
    return call("imports_ours:bring", paths, settings.how())


def _read(path: Path, _round: int) -> dict[str, Any]:
    return _dd(f"if={path}", "of=/dev/null", "iflag=direct")


def _write(folder: Path, n_bytes: int, _round: int) -> dict[str, Any]:
    out = folder / "zeros"
    found = _dd("if=/dev/zero", f"of={out}", f"count={-(-n_bytes >> 22)}", "conv=fsync")
    out.unlink()
    return found


def _dd(*words: str) -> dict[str, Any]:
    began = time.perf_counter()
    done = subprocess.run(["dd", "bs=4M", *words], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    (n_bytes,) = re.findall(r"^(\d+) bytes", done.stderr, re.MULTILINE)
    mb = int(n_bytes) / 1e6
    return {"seconds": seconds, "mb": mb, "mb_per_s": mb / seconds}


if __name__ == "__main__":
    start(main, ImportSettings, __doc__)
