"""The tools that judge the code: formatted, linted, typed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "tool", ["ruff format --check", "ruff check", "mypy"], ids=lambda tool: tool.replace(" ", "-")
)
def test_tool_has_no_complaint(tool):
    pytest.importorskip(tool.split()[0], reason="a developer's tool: pip install -e '.[test]'")
    command = [sys.executable, "-m", *tool.split()]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert answer.returncode == 0, answer.stdout + answer.stderr
