"""Whole commands, as a newcomer types them, on small texts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import scratchlm
from scratchlm.base.config import read_toml
from scratchlm.recipes.quickstart import quickstart_config
from scratchlm.recipes.run_config import RunConfig
from scratchlm.training.metrics import read_metrics

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}


def run(*words: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scratchlm.cli.main", *map(str, words)]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=280
    )
    if ok:
        assert done.returncode == 0, done.stderr
    return done


def refused(*words: object) -> str:
    """The one error line of a command that must end with 2 and without a traceback."""
    done = run(*words, ok=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith("error:"))


def test_example_walks_the_whole_path():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "whole_path.py"],
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    stages = [line.split()[0] for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert stages == ["2", "4", "6", "7", "8", "9", "10", "11"]
    assert "ROMEO:" in done.stdout


def test_quickstart_config_is_the_one_in_configs():
    assert read_toml(RunConfig, ROOT / "configs" / "fast.toml") == quickstart_config()


def test_quickstart_ends_with_samples_losses_and_what_to_try(tmp_path):
    done = run("quickstart", "--steps", 12, "--out", tmp_path / "q")
    assert done.stdout.count("--- sample") == 2
    assert "nats per token" in done.stdout
    assert "bits per byte" in done.stdout
    assert str(tmp_path / "q" / "model") in done.stdout
    assert done.stdout.count("  scratchlm ") == 3
    again = run("quickstart", "--steps", 12, "--out", tmp_path / "q")
    assert "--- sample 2" in again.stdout
    model = scratchlm.load(tmp_path / "q")
    assert len(model.generate("ROMEO:", max_new_tokens=5, temperature=0)) == 5


def test_build_takes_a_folder_of_chinese_and_explains_itself(tmp_path):
    folder = tmp_path / "我的 文本"
    folder.mkdir()
    poem = "床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。\n\n"
    (folder / "詩.txt").write_text(poem * 200, encoding="gb18030")
    (folder / "more.jsonl").write_text(
        "\n".join(json.dumps({"text": poem + str(i)}, ensure_ascii=False) for i in range(50)),
        encoding="utf-8",
    )
    done = run("build", folder, "--out", tmp_path / "out", "--steps", 20)
    for word in ("text:", "tokenizer:", "model:", "GB18030"):
        assert word in done.stderr, word
    assert done.stdout.strip() == str(tmp_path / "out" / "model")
    written = run("generate", tmp_path / "out", "--prompt", "床前", "--max-new-tokens", 8)
    assert written.stdout.startswith("床前")


def write_config(tmp_path: Path, **changes: object) -> Path:
    settings = {
        "text.paths": ["bundled:shakespeare"],
        "tokenizer.kind": "char",
        "data.seq_len": 32,
        "model.n_layers": 1,
        "model.d_model": 16,
        "model.n_heads": 2,
        "model.max_seq_len": 32,
        "train.steps": 2,
        "train.eval_batches": 1,
        **changes,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    path = tmp_path / "config.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_pretrain_overrides_resumes_and_extends(tmp_path):
    config = write_config(tmp_path)
    out = tmp_path / "run"
    run("pretrain", config, "--out", out, "--train.steps", 3, "--model.d-model", 32)
    assert read_toml(RunConfig, out / "config.toml").model.d_model == 32
    done = run("pretrain", config, "--out", out, "--train.steps", 5, "--model.d-model", 32)
    assert "after step 3" in done.stderr
    steps = [m["step"] for m in read_metrics(out) if "loss_nats" in m]
    assert steps == [1, 2, 3, 4, 5]
    assert (out / "loss.svg").is_file()
    message = refused("pretrain", config, "--out", out, "--model.d-model", 16)
    assert "model.d_model = 32, now it is 16" in message
    message = refused("pretrain", config, "--out", out, "--resume", "never")
    assert "holds a run" in message
    other = tmp_path / "other"
    done = run("pretrain", config, "--out", other, "--init", out)  # a run stands for its model
    assert "the shape of" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_a_run_refuses_a_second_process_and_says_how_to_go_on(tmp_path):
    config = write_config(tmp_path, **{"train.steps": 100_000})
    out = tmp_path / "run"
    command = [sys.executable, "-m", "scratchlm.cli.main", "pretrain", config, "--out", out]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as first:
        while not read_metrics(out):
            assert first.poll() is None
            time.sleep(0.05)
        assert f"process {first.pid}" in refused("pretrain", config, "--out", out)
        first.send_signal(signal.SIGINT)
        printed, said = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert f"The run is saved in {out}, and the same command goes on with it." in said
    assert printed == ""
    assert "try it" not in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.n_heads": 3}, "model.n_heads = 3 does not divide model.d_model = 16"),
        ({"data.seq_len": 64}, "data.seq_len = 64 is longer than model.max_seq_len = 32"),
        ({"train.stepz": 3}, "unknown setting train.stepz. Did you mean steps?"),
        ({"text.paths": ["nowhere/"]}, "nowhere does not exist"),
        ({"train.micro_batch": 100000}, "fewer than one batch of 100000"),
        ({"model.vocab_size": 10}, "model.vocab_size = 10 is smaller than the tokenizer's 65"),
        ({"train.track": ["nothing"]}, "'nothing' is not one of tensorboard, wandb, swanlab"),
        ({"optim.lr": 1e38, "optim.grad_clip": 0.0}, "was not taken"),
    ],
)
def test_bad_settings_of_a_run_are_refused(tmp_path, changes, message):
    out = tmp_path / "run"
    config = write_config(tmp_path, **{"train.steps": 6, **changes})
    assert message in refused("pretrain", config, "--out", out)
    assert not (out / "model").exists()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("mine", encoding="utf-8")
    message = refused("pretrain", write_config(tmp_path), "--out", texts)
    assert "is no run, but holds a.txt: it is left alone" in message
    assert [path.name for path in texts.iterdir()] == ["a.txt"]


def test_one_path_in_python_is_one_path(tmp_path):
    poem = tmp_path / "p.txt"
    poem.write_text("床前明月光，疑是地上霜。\n" * 40, encoding="utf-8")
    tokenizer = scratchlm.train_tokenizer(str(poem), scratchlm.TokenizerConfig(kind="char"))
    assert tokenizer.vocab_size == 13
    prepared = scratchlm.prepare(str(poem), tmp_path / "data", "gpt2")
    assert set(prepared.splits) == {"train", "val"}


def test_a_cuda_device_that_is_not_there_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    config = write_config(tmp_path)
    message = refused("pretrain", config, "--out", tmp_path / "run", "--device", "cuda:1")
    assert "device = 'cuda:1' is not on this machine, which has 1 x cpu" in message
