"""pretrain goes on while a checkpoint is written, and tells what went wrong with it."""

import threading
import time

import pytest

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.data.loader import DataConfig
from scratchlm.model.config import ModelConfig
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.training.metrics import read_metrics
from scratchlm.training.trainer import TrainConfig


@pytest.fixture
def config(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be: that is the question.\n" * 100, encoding="utf-8")
    return RunConfig(
        text=TextConfig((str(text),)),
        tokenizer=TokenizerConfig(kind="char"),
        data=DataConfig(seq_len=32),
        model=ModelConfig("llama", 0, 32, 1, 32, 2),
        train=TrainConfig(
            steps=200, micro_batch=2, precision="float32", eval_every=0, save_every=100
        ),
    )


def test_training_goes_on_while_a_checkpoint_is_written(config, tmp_path, monkeypatch):
    save, seen = CheckpointStore.save, []

    def slow(store, step, *arguments, **options):
        time.sleep(1)
        seen.append((step, len(read_metrics(tmp_path / "run")), threading.current_thread().name))
        return save(store, step, *arguments, **options)

    monkeypatch.setattr(CheckpointStore, "save", slow)
    result = pretrain(config, tmp_path / "run", device="cpu")
    assert result.step == 200
    (first, lines, thread), *_, (last, _, _) = seen
    assert (first, last) == (100, 200)
    assert lines > first  # steps were taken meanwhile
    assert thread.startswith("checkpoint")
    again = pretrain(config, tmp_path / "run", device="cpu", resume="must")
    assert again.step == 200


def test_a_checkpoint_that_fails_ends_the_run_with_its_reason(config, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise CheckpointError("the disk is full")

    monkeypatch.setattr(CheckpointStore, "save", full)
    with pytest.raises(CheckpointError, match="the disk is full"):
        pretrain(config, tmp_path / "run", device="cpu")
