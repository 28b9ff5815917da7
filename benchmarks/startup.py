"""How soon the program answers: help, import, and the first token of a 7M model.

    python benchmarks/startup.py --rounds 9 --peer-python PEERS/bin/python --priority

Each is a new process, timed from its start. The model is a random Llama in float32, 288 wide, with
8 layers and 4,096 ids; transformers continues the same prompt with the same folder.
"""

import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import Column, Comparison, Entry, Results, Settings, start
from process import call, run
from shapes import SHAPES

PROMPT = "Once upon a time"
N_TOKENS = 32
COLUMNS = (
    Column("s to the first output", "first_output_s", ".3f", spread=True),
    Column("s to the end", "seconds", ".3f", spread=True),
    Column("s of processor time", "cpu_seconds", ".3f"),
    Column("MB at most", "peak_memory_mb"),
)


@dataclass(frozen=True)
class StartupSettings(Settings):
    """How often to start."""

    rounds: int = 9  # how often every command is started; the sides take turns


def main(settings: StartupSettings) -> None:
    """Measure everything and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        facts = call("stand_ins:random_model", {"folder": model, **llama_7m()}, settings.how())
        scratchlm = [sys.executable, "-m", "scratchlm"]
        transformers = Path(__file__).with_name("startup_transformers.py")
        entries = [
            _entry(settings, "nothing", "python", [sys.executable, "-c", "pass"]),
            _entry(settings, "import", "ours", [sys.executable, "-c", "import scratchlm"]),
            _entry(settings, "help", "ours", [*scratchlm, "--help"]),
            _entry(settings, "generate", "ours", generate_command(model)),
            _entry(
                settings,
                "generate",
                "transformers",
                [str(settings.peer_python), str(transformers), model, PROMPT, str(N_TOKENS)],
            ),
        ]
        comparison = Comparison("first_output_s", "ours", "sooner", more_is_better=False)
        Results("startup", settings, COLUMNS, comparison, facts=facts).measure(entries)


def llama_7m() -> dict[str, Any]:
    """What `stand_ins.random_model` makes: the shape and the tokenizer of tinystories-llama."""
    shape = SHAPES["llama288"]
    model = {
        "family": shape.family,
        "n_layers": shape.n_layers,
        "d_model": shape.d_model,
        "n_heads": shape.n_heads,
        "n_kv_heads": shape.n_kv_heads,
        "d_ff": shape.d_ff,
        "max_seq_len": shape.seq_len,
    }
    return {"model": model, "tokenizer": {"kind": "sentencepiece-bpe", "vocab_size": 4096}}


def generate_command(model: str, n_tokens: int = N_TOKENS) -> list[str]:
    """`scratchlm generate`, greedy, on the CPU; what it prints first is its first token."""
    command = [sys.executable, "-m", "scratchlm", "generate", model, "--prompt", PROMPT]
    numbers = ["--max-new-tokens", str(n_tokens), "--temperature", "0"]
    return [*command, *numbers, "--no-echo", "--device", "cpu"]


def _entry(settings: StartupSettings, case: str, side: str, command: list[str]) -> Entry:
    return Entry(case, side, partial(_measure, settings, command))


def _measure(settings: StartupSettings, command: list[str], _round: int) -> dict[str, Any]:
    return run(command, settings.how()).numbers()


if __name__ == "__main__":
    start(main, StartupSettings, __doc__)
