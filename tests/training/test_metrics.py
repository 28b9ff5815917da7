"""The metrics file and its copies in other people's trackers, run for real, offline."""

import json

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.training.metrics import Metrics, cut_metrics, read_metrics


def test_lines_survive_a_kill_in_mid_line_and_are_cut_for_a_resume(tmp_path):
    metrics = Metrics(tmp_path, (), {})
    for step in range(1, 6):
        metrics.log(step, loss_nats=1 / step, sample="床前明月光")
    metrics.close()
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 6, "loss_na')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    cut_metrics(tmp_path, 3)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert json.loads(lines[1]) == {"step": 2, "loss_nats": 0.5, "sample": "床前明月光"}


def test_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'wanbd' is not one of tensorboard, wandb, swanlab"):
        Metrics(tmp_path, ("wanbd",), {})


def log_some(tmp_path, tracker):
    metrics = Metrics(tmp_path, (tracker,), {"train": {"steps": 3}})
    for step in (1, 2, 3):
        metrics.log(step, loss_nats=3.0 / step, sample="not a number")
    metrics.close()


def test_tensorboard_gets_a_copy(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log_some(tmp_path, "tensorboard")
    events = reading.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = events.Scalars("loss_nats")
    assert [(e.step, e.value) for e in curve] == [(1, 3.0), (2, 1.5), (3, 1.0)]


@pytest.mark.slow
def test_wandb_gets_a_copy_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_some(tmp_path, "wandb")
    files = [path.stat().st_size for path in tmp_path.rglob("*.wandb")]
    assert files
    assert files[0] > 0


@pytest.mark.slow
def test_swanlab_gets_a_copy_offline(tmp_path, monkeypatch):
    pytest.importorskip("swanlab")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    log_some(tmp_path, "swanlab")
    assert any(path.is_file() for path in (tmp_path / "swanlab").rglob("*"))
