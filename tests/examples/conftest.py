"""What the tests of examples share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]


@pytest.fixture
def records_file(tmp_path: Path) -> Write:
    """Write records as JSON lines, one for each argument."""

    def write(*records: Any, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        lines = (json.dumps(record, ensure_ascii=False) for record in records)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def own_data() -> Path:
    """A few records of others, as its README.md tells."""
    return Path(__file__).parent / "data"
