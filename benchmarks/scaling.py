"""The table of runs behind `build --budget`: held-out loss by model, length, text and tokenizer.

    python benchmarks/scaling.py --code code.txt --jobs 2

Every run is one line of results/scaling.json; lines that are there are not run again, so that the
table can grow. `python benchmarks/scaling.py --fit` prints the rule that fits them, as
recipes/scaling.py has it. Times are of --jobs runs side by side, with one thread each: no figures.
"""

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common import ROOT, Settings, start
from process import MeasurementError, call
from scratchlm.base.errors import ConfigError
from scratchlm.base.files import read_json, write_json

TABLE = ROOT / "benchmarks" / "results" / "scaling.json"


@dataclass(frozen=True)
class Trial:
    """One run of the table; `text` is a name of `TEXTS`."""

    text: str
    kind: str
    vocab_size: int
    n_layers: int
    d_model: int
    steps: int
    seq_len: int = 256
    rows: int = 4
    weight_decay: float = 0.1
    dropout: float = 0.0
    seed: int = 1

    @property
    def tokenizer(self) -> dict[str, Any]:
        """Fields of `TokenizerConfig`."""
        sized = {"vocab_size": self.vocab_size} if self.kind != "char" else {}
        return {"kind": self.kind, **sized}


def trials() -> list[Trial]:
    """What the table holds, the most telling first."""
    S, Z, C = "shakespeare", "tang", "code"
    return [
        Trial(Z, "bpe", 2048, 4, 192, 1600),
        Trial(Z, "char", 0, 4, 192, 1600),
        Trial(C, "bpe", 4096, 4, 192, 1600),
        Trial(C, "bpe", 4096, 2, 128, 1600),
        Trial(Z, "bpe", 4096, 4, 192, 1600),
        Trial(S, "bpe", 2048, 2, 128, 1600),
        Trial(S, "bpe", 2048, 4, 192, 1600),
        Trial(C, "bpe", 4096, 5, 256, 1600),
        Trial(S, "bpe", 2048, 4, 192, 4800),
        Trial(C, "bpe", 4096, 4, 192, 400),
        Trial(C, "bpe", 4096, 2, 128, 400),
        Trial(S, "bpe", 2048, 2, 128, 400),
        Trial(S, "bpe", 2048, 4, 192, 400),
        Trial(S, "bpe", 2048, 4, 192, 4800, dropout=0.2),
        Trial(S, "bpe", 1024, 4, 192, 4800, dropout=0.2),
        Trial(Z, "bpe", 8192, 4, 192, 1600),
        Trial(C, "bpe", 4096, 6, 384, 1600),
        Trial(S, "bpe", 2048, 2, 128, 4800),
        Trial(Z, "bpe", 4096, 4, 192, 4800, dropout=0.2),
        Trial(C, "bpe", 4096, 4, 192, 4800),
        Trial(S, "char", 0, 4, 192, 4800, dropout=0.1),
        Trial(C, "bpe", 4096, 5, 256, 4800),
        Trial(Z, "bpe", 4096, 2, 128, 1600),
        Trial(S, "bpe", 2048, 5, 256, 1600),
        Trial(S, "bpe", 2048, 4, 192, 4800, dropout=0.4),
    ]


@dataclass(frozen=True)
class ScalingSettings(Settings):
    """What to run."""

    code: Path | None = None  # source code as one text file; its runs are left out without
    jobs: int = 2  # runs side by side, each with one thread
    data: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "scaling")  # shards
    fit: bool = False  # run nothing: print the rule that fits the table


def main(settings: ScalingSettings) -> None:
    """Run what is missing in the table, or fit it."""
    if settings.fit:
        from scaling_fit import report

        report(read_table())
        return
    texts = {"shakespeare": "bundled:shakespeare", "tang": "bundled:tang"}
    if settings.code is not None:
        texts["code"] = str(settings.code.resolve())
    done = [line["trial"] for line in read_table()]
    todo = [t for t in trials() if t.text in texts and asdict(t) not in done]
    if not todo:
        raise ConfigError(f"{TABLE} holds all {len(done)} runs already.")
    lock = threading.Lock()
    how = settings.how(**({"OMP_NUM_THREADS": "1"} if settings.jobs > 1 else {}))

    def run(trial: Trial) -> None:
        folder = str(settings.data / f"{trial.text}-{trial.kind}-{trial.vocab_size}")
        with lock:
            facts = call(
                "scaling_ours:shards",
                {"text": texts[trial.text], "tokenizer": trial.tokenizer, "folder": folder},
                how,
            )
        size = {name: getattr(trial, name) for name in ("n_layers", "d_model", "seq_len", "rows")}
        rest = {name: getattr(trial, name) for name in ("steps", "seed", "weight_decay", "dropout")}
        arguments = {"data": folder, "tokenizer": trial.tokenizer, "size": size, **rest}
        try:
            measured = call("scaling_ours:learn", arguments, how)
        except MeasurementError as bad:
            print(f"{trial}: {bad}", flush=True)
            return
        line = {"trial": asdict(trial), **facts, **measured}
        print(f"{measured['bits_per_byte']:.4f} bits per byte: {trial}", flush=True)
        with lock:
            write_json(TABLE, {"runs": [*read_table(), line]})

    with ThreadPoolExecutor(settings.jobs) as pool:
        list(pool.map(run, todo))


def read_table() -> list[dict[str, Any]]:
    """The lines of the table, in the order in which they ended."""
    if not TABLE.is_file():
        return []
    runs: list[dict[str, Any]] = read_json(TABLE, ConfigError)["runs"]
    return runs


if __name__ == "__main__":
    start(main, ScalingSettings, __doc__)
