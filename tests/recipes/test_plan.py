"""What a run will take: numbers against real runs, hardware by name, advice that is true."""

import dataclasses
import itertools
import sys

import pytest
import torch

from scratchlm.base.errors import ConfigError
from scratchlm.cli.main import main
from scratchlm.cli.plan import rough
from scratchlm.data.loader import DataConfig, SourceConfig
from scratchlm.model.config import ModelConfig
from scratchlm.recipes import estimate
from scratchlm.recipes import plan as planning
from scratchlm.recipes.estimate import count_tokens
from scratchlm.recipes.hardware import HARDWARE, find_hardware
from scratchlm.recipes.plan import plan
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.probe import probe_training
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.training.trainer import TrainConfig


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("To be, or not to be: that is the question.\n" * 400, encoding="utf-8")
    return file


@pytest.fixture
def config(text):
    return RunConfig(
        text=TextConfig((str(text),)),
        tokenizer=TokenizerConfig(kind="char"),
        data=DataConfig(seq_len=64),
        model=ModelConfig("llama", 0, 64, 2, 64, 2),
        train=TrainConfig(steps=100, micro_batch=8, precision="float32", eval_every=50),
    )


def test_a_plan_from_a_probe_here(config):
    made = plan(config, device="cpu", probe_seconds=0.1)
    assert made.measured
    assert made.tokens == 100 * 8 * 64
    assert made.text.train == pytest.approx(0.9 * 43 * 400, abs=1)
    assert made.readings == pytest.approx(made.tokens / made.text.train)
    with torch.device("meta"):
        assert made.flops == made.tokens * planning.Transformer(made.config.model).flops_per_token(
            64
        )
    parts = made.parameters
    assert parts.embedding == made.config.model.vocab_size * 64
    assert parts.head == 64  # the last norm: the head is tied
    # Where other work takes the machine while the peak is measured, the share is above 1.
    again = (plan(config, device="cpu", probe_seconds=0.1).mfu for _ in range(4))
    assert any(0 < share < 1 for share in itertools.chain([made.mfu], again))
    assert made.times.total >= made.times.training == pytest.approx(100 * made.step_s)
    assert made.times.compilation == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the heap's holes were measured on Linux")
@pytest.mark.parametrize(
    ("family", "precision", "accumulate", "rows"),
    [("llama", "bfloat16", 1, 32), ("gpt2", "float32", 2, 16)],
)
def test_the_memory_is_that_of_the_measured_run(config, family, precision, accumulate, rows):
    config = dataclasses.replace(
        config,
        data=DataConfig(seq_len=256),
        model=ModelConfig(family, 2100, 256, 4, 128, 4),
        train=TrainConfig(micro_batch=rows, accumulate=accumulate, precision=precision),
    )
    made = plan(config, device="cpu", probe_seconds=0)
    step = made.memory.total - made.memory.saving  # the probe saves nothing
    # Which holes the heap has is chance, and they only add: 612 to 673 MB of the second model in
    # twenty runs, of 571 planned. So the least of three, 2 and 8 % away when written.
    measured = [
        made.probe_memory,
        *(plan(config, device="cpu", probe_seconds=0).probe_memory for _ in range(2)),
    ]
    assert step == pytest.approx(min(measured), rel=0.15)
    P = made.parameters.total
    assert made.memory.saving == 4 * P + made.memory.optimizer
    short = plan(config.replace("train", steps=10), device="cpu", probe_seconds=0)
    assert short.memory.saving == 0  # saved once, after the last step


def test_nothing_is_written(text, tmp_path, capsys):
    toml = tmp_path / "run.toml"
    toml.write_text(
        f'[text]\npaths = ["{text.as_posix()}"]\n[tokenizer]\nkind = "char"\n[data]\nseq_len = 64\n'
        "[model]\nmax_seq_len = 64\nn_layers = 1\nd_model = 32\nn_heads = 1\n",
        encoding="utf-8",
    )
    before = sorted(tmp_path.rglob("*"))
    options = ["--train.steps", "7", "--train.micro-batch", "2", "--train.precision", "float32"]
    run = ["pretrain", str(toml), "--out", str(tmp_path / "run"), "--dry-run", "--device", "cpu"]
    assert main(["plan", str(toml), "--on", "a100", *options]) == 0
    published = capsys.readouterr().out
    assert main([*run, *options]) == 0
    measured = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert "7 steps of 128" in published
    assert "from published rates, not measured" in published
    assert "7 steps of 128" in measured
    assert "measured here" in measured


def test_hardware_that_is_not_here(config):
    one, eight = plan(config, "a100"), plan(config, "a100x8")
    assert not one.measured
    assert one.probe_memory is None
    assert one.memory_limit == 80e9
    assert eight.matmul_flops == 8 * one.matmul_flops
    assert plan(config.replace("train", precision="auto"), "t4").config.train.precision == "float32"
    assert plan(config.replace("train", precision="auto"), "h200").config.train.precision == (
        "bfloat16"
    )
    with pytest.raises(ConfigError, match=r"NVIDIA T4 has none\. Use float16 or float32"):
        plan(config.replace("train", precision="bfloat16"), "t4")
    with pytest.raises(ConfigError, match="cannot be dealt evenly to 3 processes"):
        plan(config, "a100x3")


def test_names_of_hardware():
    assert find_hardware("H200").flops["bfloat16"] == 989.5e12
    assert find_hardware("rtx3090").count == 1  # not 3090 of something
    assert find_hardware("rtx3090x4").count == 4
    with pytest.raises(ConfigError, match=r"no hardware of that name.* Did you mean h200\?"):
        find_hardware("h201")
    with pytest.raises(ConfigError, match=r"There are: a10, a100,.*a100x8"):
        find_hardware("abacus")
    assert all(hardware.mfu(192) < hardware.mfu(768) for hardware in HARDWARE.values())


def test_advice_is_given_where_it_is_true(config):
    def advice(**train):
        return " ".join(plan(config.replace("train", **train), "a100").advice)

    assert "16 readings" in advice(steps=2000)
    assert "times; beyond" not in advice(steps=500)
    assert "of the text is read. A whole reading is --train.steps 30" in advice(steps=3)
    assert "does not fit" not in advice()


def test_what_does_not_fit_is_told_how(config):
    large = config.replace("model", d_model=1024, n_heads=16, n_layers=24)
    rows = 16384
    made = plan(large.replace("train", micro_batch=rows), "rtx4090")
    assert not made.fits
    words = made.advice[0].split()
    micro = int(words[words.index("--train.micro-batch") + 1])
    accumulate = int(words[words.index("--train.accumulate") + 1])
    assert micro * accumulate == rows
    fitting = large.replace("train", micro_batch=micro, accumulate=accumulate)
    assert plan(fitting, "rtx4090").fits
    huge = config.replace("model", d_model=8192, n_heads=64, n_layers=80)
    assert "take a smaller model" in plan(huge, "rtx4090").advice[0]


def test_tokens_are_counted_in_shards_and_estimated_in_text(config, text, tmp_path):
    tokenizer = train_tokenizer([text.read_text("utf-8")], TokenizerConfig(kind="char"))
    made = prepare([text], tmp_path / "data", tokenizer, config=PrepareConfig(split="tail"))
    data = DataConfig(sources=(SourceConfig(tmp_path / "data"),), seq_len=64)
    counted = count_tokens(dataclasses.replace(config, text=TextConfig(), data=data))
    estimated = count_tokens(config)
    assert counted.train == made.splits["train"].n_tokens
    assert counted.validation == made.splits["val"].n_tokens
    assert counted.vocab_size == estimated.vocab_size == tokenizer.vocab_size
    assert estimated.train == pytest.approx(counted.train, rel=0.01)


def test_a_long_text_is_estimated_from_its_beginning(config, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "SAMPLE_BYTES", 100_000)
    long = tmp_path / "long.txt"
    long.write_text("a b c d \n" * 30_000, encoding="utf-8")
    counted = count_tokens(
        config.replace("text", paths=(str(long),)).replace("tokenizer", kind="bpe", vocab_size=500)
    )
    assert counted.vocab_size == 500  # what the whole text may well fill
    assert "in the first 0.1 MB of 0.3" in counted.source
    assert 0 < counted.train < long.stat().st_size


def test_text_that_is_not_there_leaves_numbers_open(config):
    absent = config.replace("text", paths=("nowhere.txt",))
    with pytest.raises(ConfigError, match=r"nowhere\.txt is not there\. Set model\.vocab_size"):
        plan(absent, "h100")
    made = plan(absent.replace("model", vocab_size=100), "h100")
    assert made.readings is None
    assert any("nowhere.txt is not there" in note for note in made.notes)


def test_here_and_elsewhere_exclude_each_other(config):
    with pytest.raises(ConfigError, match="exclude each other"):
        plan(config, "h200", device="cpu")


def test_a_probe_that_fails_says_why(config):
    config = config.replace("model", vocab_size=100)
    with pytest.raises(ConfigError, match="cuda:77"):
        probe_training(config.replace("train", precision="bfloat16"), "cuda:77", 0.1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.031, "0.031 s"), (42, "42 s"), (720, "12.0 minutes"), (13_000, "3.6 hours"),
     (1_600_000, "18.5 days"), (6.6e7, "2.1 years")],
)  # fmt: skip
def test_times_for_people(seconds, words):
    assert rough(seconds) == words
