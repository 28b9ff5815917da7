"""What starts without torch, and how quickly the program answers."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "scratchlm"

TORCHLESS = [  # what is needed to get text, train tokenizers, make shards and watch runs
    *("base/*.py", "tokenizer/*.py", "web/*.py", "cleaning/*.py", "extraction/*.py"),
    *("report/*.py", "corpus/*.py", "data/*.py", "studio/*.py"),
    *("recipes/tokenizer.py", "recipes/prepare.py"),
    *("cli/main.py", "cli/command.py", "cli/tokenizer.py", "cli/prepare.py"),
]
NEED_TORCH = {SOURCE / "base" / "device.py", SOURCE / "data" / "loader.py"}
NO_TORCH = "import sys; sys.modules['torch'] = None\n"  # `import torch` now raises ImportError


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")


def test_data_can_be_prepared_on_a_machine_without_torch():
    paths = {path for pattern in TORCHLESS for path in SOURCE.glob(pattern)} - NEED_TORCH
    names = [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in sorted(paths)]
    answer = python(NO_TORCH + "\n".join(f"import scratchlm.{name}" for name in names))
    assert answer.returncode == 0, answer.stderr


def test_torch_can_be_made_absent():
    assert "torch" in python(NO_TORCH + "import torch").stderr


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_program_answers_at_once(option):
    assert (
        best_cpu_seconds(f"main([{option!r}])", setup="from scratchlm.cli.main import main") < 0.3
    )


def test_import_is_light():
    assert best_cpu_seconds("import scratchlm") < 0.05


def test_help_and_import_leave_the_heavy_libraries_alone():
    answer = python(
        "import scratchlm, sys; from scratchlm.cli.main import main; main(['--help'])\n"
        "print(sorted({'torch', 'numpy', 'tyro', 'rich', 'tokenizers'} & set(sys.modules)))"
    )
    assert answer.stdout.endswith("[]\n"), answer.stderr


def best_cpu_seconds(code: str, setup: str = "", tries: int = 5) -> float:
    """The least processor time of several tries, so that a busy machine does not fail the test.

    Counted from the start of the code: Python's own start is not ours to shorten.
    """
    timed = f"import time; start = time.process_time()\n{setup}\n{code}\n"
    answers = [python(timed + "print(time.process_time() - start)") for _ in range(tries)]
    assert all(answer.returncode == 0 for answer in answers), answers[0].stderr
    return min(float(answer.stdout.splitlines()[-1]) for answer in answers)
