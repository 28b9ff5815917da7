"""The benchmark of a machine: rows, their table, and that an interruption keeps what there is."""

import json

import pytest

from scratchlm.cli import bench as command
from scratchlm.cli.main import main
from scratchlm.model.config import ModelConfig
from scratchlm.recipes import bench as benchmark

TINY = ModelConfig("llama", 100, 32, 2, 32, 2)


def test_rows_of_training_and_writing(monkeypatch):
    shapes = {"llama288": benchmark.Shape(TINY, rows=2, gpu_rows=2)}
    monkeypatch.setattr(benchmark, "SHAPES", shapes)
    monkeypatch.setattr(benchmark, "SEQUENCES", (3,))
    train, write = benchmark.bench(seconds=0.05, device="cpu")
    assert (train.work, train.n, write.work, write.n) == ("train", 2, "write", 3)
    for row in (train, write):
        assert row.tokens_per_s > 0
        assert 0 < row.mfu < 1
        assert row.peak_memory is None or row.peak_memory > 10_000_000


def test_an_interrupted_benchmark_prints_and_keeps_what_it_has(monkeypatch, tmp_path, capsys):
    def two_rows(**_):
        yield benchmark.Row("train", "char", 10_770_816, 16, "bfloat16", 7254, 0.45, 1.1e12, None)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "bench_rows", two_rows)
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--device", "cpu", "--json", str(tmp_path / "rows.json")])
    assert ended.value.code == 130
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        "| train | char, 10.8M | 16 rows | bfloat16 | 7,254 | 45.0% of 1.10 TFLOP/s | not known |"
    )
    assert lines[-3].startswith("| work | model |")
    kept = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert kept["rows"][0]["tokens_per_s"] == 7254
    assert "PyTorch" in kept["versions"]
