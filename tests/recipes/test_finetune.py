"""Fine-tuning end to end on a tiny model: every method, adapters, and going on exactly."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.checkpoint.folder import load_classifier, load_model, save_model
from scratchlm.cli.main import main
from scratchlm.data.rows import IGNORE
from scratchlm.examples.labels import Labelled
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.classify import TextClassifier, check_known
from scratchlm.recipes.export_model import export_model
from scratchlm.recipes.finetune import finetune, prepare_lesson
from scratchlm.recipes.finetune_config import (
    ClassifyConfig,
    DistillConfig,
    DpoConfig,
    SftConfig,
    read_finetune_config,
)
from scratchlm.recipes.load import load
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.training.metrics import read_metrics
from scratchlm.training.trainer import TrainConfig

WORDS = ["red", "green", "blue", "one", "two", "three", "cat", "dog", "红", "绿", "蓝", "你好"]
TRAIN = TrainConfig(micro_batch=8, steps=6, precision="float32", eval_every=3, save_every=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    tokenizer = train_tokenizer([(" ".join(WORDS) + " say\n") * 20], TokenizerConfig("bpe", 280))
    torch.manual_seed(0)
    model = Transformer(ModelConfig("llama", tokenizer.vocab_size, 128, 2, 32, 2))
    model.initialise()
    save_model(folder, model, tokenizer)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    drawn = [rng.choice(WORDS) for _ in range(120)]
    talks = [{"instruction": f"say {w} {i}", "output": f"{w} {w}"} for i, w in enumerate(drawn)]
    pairs = [
        {"prompt": f"say {w} {i}", "chosen": f"{w} {w}", "rejected": "no"}
        for i, w in enumerate(drawn)
    ]
    for name, records in (("talks", talks), ("pairs", pairs)):
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    kinds = ("animal" if w in ("cat", "dog") else "other" for w in drawn)
    rows = [f"{kind}\tsay {w} {i}\n" for i, (kind, w) in enumerate(zip(kinds, drawn))]
    (folder / "labels.tsv").write_text("".join(rows), encoding="utf-8")
    (folder / "text.txt").write_text((" ".join(WORDS) + "\n") * 60, encoding="utf-8")
    return folder


def sft(base: Path, data: Path, **changes) -> SftConfig:
    fields = {"lr": 3e-3, "epochs": 0, "train": TRAIN, **changes}
    return SftConfig(base, (data / "talks.jsonl",), **fields)


def losses(run: Path) -> list[float]:
    return [m["loss_nats"] for m in read_metrics(run) if "loss_nats" in m]


def test_a_model_learns_to_answer(base, data, tmp_path, capsys):
    config = sft(base, data, epochs=2.0)
    result = finetune(config, tmp_path / "chat", show=2)
    curve = losses(tmp_path / "chat")
    assert curve[-1] < 0.7 * curve[0]
    assert result.loss_nats == pytest.approx(curve[-1], abs=0.5)
    shown = capsys.readouterr().out
    assert shown.count("[wished for]") == shown.count("[after]") == 2
    model = load(tmp_path / "chat")
    assert model.template is not None
    end = model.tokenizer.special_tokens["<|im_end|>"]
    values = json.loads((tmp_path / "chat/model/generation_config.json").read_text("utf-8"))
    assert end in values["eos_token_id"]
    assert model.model.config.vocab_size == load_model(base).config.vocab_size + 2


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_goes_on_exactly(base, data, tmp_path, lora):
    config = sft(base, data, lora=lora, dropout=0.1, neftune=5.0)
    finetune(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000006")
    shutil.rmtree(tmp_path / "cut" / "model")
    finetune(config, tmp_path / "cut", resume="must")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    one, other = (load_model(tmp_path / run / "model") for run in ("whole", "cut"))
    assert all(map(torch.equal, one.parameters(), other.parameters()))


def test_an_adapter_goes_with_its_base_alone(base, data, tmp_path):
    finetune(sft(base, data, lora=True, lr=1e-2), tmp_path / "run")
    tokens = torch.randint(250, (1, 12))
    merged = load(tmp_path / "run").model(tokens)
    put_in = load(tmp_path / "run" / "adapter").model(tokens)
    torch.testing.assert_close(put_in, merged, rtol=0, atol=1e-5)
    settings = tmp_path / "run" / "adapter" / "adapter_config.json"
    values = json.loads(settings.read_text("utf-8"))
    other = tmp_path / "other"
    shutil.copytree(base, other)
    model = load_model(other)
    with torch.no_grad():
        model.blocks[0].ffn.up.weight.mul_(2)
    save_model(other, model, load(base).tokenizer)
    (tmp_path / "run" / "adapter" / "manifest.json").unlink()
    settings.write_text(json.dumps({**values, "base_model_name_or_path": str(other)}), "utf-8")
    with pytest.raises(CheckpointError, match=r"is an adapter of .*base.*and the model is another"):
        load(tmp_path / "run" / "adapter")
    settings.write_text(json.dumps({**values, "base_model_name_or_path": "gone"}), "utf-8")
    with pytest.raises(CheckpointError, match="adapter of gone, which is not there"):
        load(tmp_path / "run" / "adapter")
    with pytest.raises(ConfigError, match="is an adapter, without the weights that it changes"):
        export_model(tmp_path / "run" / "adapter", tmp_path / "x.gguf")


def test_four_bits_learn_too(base, data, tmp_path, caplog):
    caplog.set_level("INFO")
    config = sft(base, data, lora=True, lr=1e-2, quantise="nf4", epochs=1.0)
    finetune(config, tmp_path / "run")
    curve = losses(tmp_path / "run")
    assert curve[-1] < curve[0]
    assert load_model(tmp_path / "run" / "model").embedding.weight.dtype == torch.float32
    (told,) = (text for text in caplog.messages if text.startswith("model: "))
    config = sft(base, data, lora=True, lr=1e-2, epochs=1.0)
    finetune(config, tmp_path / "plain")
    assert told in caplog.messages[caplog.messages.index(told) + 1 :]  # 4 bits are counted as well
    assert "the embedding as a whole, for the template's new tokens" in told


@pytest.mark.parametrize("more", [{}, {"lora": True}, {"layers": 1, "pooling": "mean"}])
def test_classes_are_learned_and_tested(base, data, tmp_path, more, capsys):
    config = ClassifyConfig(
        base, (data / "labels.tsv",), lr=1e-2, test=0.2, epochs=3.0, train=TRAIN, **more
    )
    result = finetune(config, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "test.json").read_text("utf-8"))
    assert facts["classes"] == ["animal", "other"]
    assert sum(map(sum, facts["confusion"])) == facts["texts"] == 24
    assert len(facts["wrong"]) == round(24 * (1 - facts["accuracy"]))
    assert (tmp_path / "run" / "confusion.svg").read_text("utf-8").startswith("<svg")
    assert "precision" in capsys.readouterr().out
    assert result.held_out.accuracy >= 0.75
    model = load_classifier(tmp_path / "run" / "model")
    if "layers" in more:
        before = load_model(base)
        assert torch.equal(model.blocks[0].ffn.up.weight, before.blocks[0].ffn.up.weight)
        assert not torch.equal(model.blocks[1].ffn.up.weight, before.blocks[1].ffn.up.weight)
    classifier = TextClassifier.load(tmp_path / "run")
    alone = [classifier(text).probabilities for text in ("say cat 3", "say 红")]
    for one, other in zip(alone, classifier.all(["say cat 3", "say 红"])):
        assert one == pytest.approx(other.probabilities, abs=1e-6)
    assert main(["classify", str(tmp_path / "run"), "say dog 5", "say one"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["say dog 5", "say one"]


def test_a_label_that_the_model_does_not_know():
    with pytest.raises(DataError, match=r"f:3: the label 'bird' is unknown.*cat, dog"):
        check_known([Labelled("a", "cat", "f:2"), Labelled("b", "bird", "f:3")], ("cat", "dog"))


@pytest.mark.parametrize("lora", [False, True])
def test_pairs_are_told_apart(base, data, tmp_path, lora):
    config = DpoConfig(
        base, (data / "pairs.jsonl",), lr=3e-3, lora=lora, template="chatml", train=TRAIN
    )
    result = finetune(config, tmp_path / "run")
    steps = [m for m in read_metrics(tmp_path / "run") if "loss_nats" in m]
    assert steps[0]["loss_nats"] == pytest.approx(0.6931, abs=1e-3)
    assert steps[0]["reward_margin"] == pytest.approx(0, abs=1e-3)
    assert result.held_out.reward_accuracy == 1.0
    assert steps[-1]["reward_margin"] > 0.1


def test_a_student_comes_near_its_teacher(base, data, tmp_path):
    torch.manual_seed(5)
    student = Transformer(replace(load_model(base).config, n_layers=1))
    student.initialise()
    save_model(tmp_path / "small", student, load(base).tokenizer)
    config = DistillConfig(
        tmp_path / "small",
        (data / "text.txt",),
        lr=3e-3,
        teacher=base,
        share=1.0,
        seq_len=32,
        epochs=3.0,
        train=TRAIN,
    )
    finetune(config, tmp_path / "run")
    curve = losses(tmp_path / "run")
    assert curve[-1] < 0.8 * curve[0]


def test_other_examples_or_settings_are_refused(base, data, tmp_path):
    mine = tmp_path / "talks.jsonl"
    shutil.copy(data / "talks.jsonl", mine)
    config = replace(sft(base, data), data=(mine,))
    finetune(config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"begun with rank = 16, now it is 8"):
        finetune(replace(config, rank=8), tmp_path / "run")
    mine.write_text(mine.read_text("utf-8").replace("red", "rot"), encoding="utf-8")
    with pytest.raises(ConfigError, match="begun with other examples"):
        finetune(config, tmp_path / "run")
    stored = read_finetune_config(tmp_path / "run" / "config.toml")
    assert isinstance(stored, SftConfig)
    assert stored.seq_len == 128


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sft", "{base}", "--data", "{data}/none.json"], "none.json"),
        (["sft", "{base}", "--data", "{data}/labels.tsv"], "labels.tsv"),
        (["sft", "{base}/no", "--data", "{data}/talks.jsonl"], "does not exist"),
        (["sft", "{base}", "--data", "{data}/talks.jsonl", "--seq-len", "999"], "longer than"),
        (["sft", "{base}", "--data", "{data}/talks.jsonl", "--template", "x"], "--template x"),
        (["sft", "{base}", "--data", "{data}/talks.jsonl", "--quantise", "nf4"], "set lora"),
        (
            ["dpo", "{base}", "--data", "{data}/pairs.jsonl", "--long", "cut"],
            "one answer of a pair",
        ),
        (["distill", "{base}", "--data", "{data}/text.txt"], "--teacher"),
        (["sft", "{base}", "--data", "{data}/talks.jsonl", "--show", "-1"], "--show -1"),
        (["sft", "{base}", "--data", "{data}/talks.jsonl", "--lora", "--rank", "999"], "is wide"),
        (["classify", "{base}", "--data", "{data}/labels.tsv", "--layers", "9"], "model has 2"),
        (
            ["classify", "{base}", "--data", "{data}/labels.tsv", "--test", "0.95"],
            "nothing to learn",
        ),
    ],
)
def test_what_cannot_be_is_one_error(base, data, tmp_path, words, message, capsys):
    filled = [word.format(base=base, data=data) for word in words]
    assert main(["finetune", *filled, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "config.toml").exists()


def test_steps_follow_from_epochs(base, data):
    config, lesson = prepare_lesson(sft(base, data, epochs=1.5))
    assert config.train.steps == -(-3 * len(lesson.train) // 16)


def test_a_cut_conversation_may_lose_its_end(base, data):
    whole = prepare_lesson(sft(base, data))[1]
    longest = max(map(len, whole.train))
    _, lesson = prepare_lesson(sft(base, data, seq_len=longest - 2, long="cut"))
    assert lesson.fitted[0].long
    assert len(lesson.train) == len(whole.train)
    assert max(map(len, lesson.train)) == longest - 2


def test_answers_of_weight_zero_are_only_read(base, tmp_path):
    talk = [
        {"role": "user", "content": "say one"},
        {"role": "assistant", "content": "two two", "weight": 0},
        {"role": "user", "content": "say 红"},
        {"role": "assistant", "content": "红 红", "weight": 1},
    ]
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"messages": talk}) + "\n", encoding="utf-8")
    learned = learned_of(base, path)
    assert [text.strip() for text in learned] == ["红 红<|im_end|>"]
    for message in talk:
        message.pop("weight", None)
    path.write_text(json.dumps({"messages": talk}) + "\n", encoding="utf-8")
    assert len(learned_of(base, path)) == 2
    talk[1]["weight"] = 0.5
    path.write_text(json.dumps({"messages": talk}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"talk\.jsonl:1: message 2 .* has the weight 0\.5"):
        learned_of(base, path)


def learned_of(base: Path, path: Path) -> list[str]:
    """The stretches of targets of the only example."""
    _, lesson = prepare_lesson(SftConfig(base, (path,), validation=0.0))
    (example,) = lesson.train
    runs, last = [], None
    for at, target in enumerate(example.targets.tolist()):
        if target != IGNORE:
            runs = [*runs[:-1], [*runs[-1], target]] if last == at - 1 else [*runs, [target]]
            last = at
    return [lesson.tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize(("lr", "warned"), [(1e-12, True), (3e-3, False)])
def test_a_loss_that_stays_at_ln_2_is_told(base, data, tmp_path, lr, warned, caplog):
    train = replace(TRAIN, steps=25, micro_batch=4, eval_every=0)
    config = DpoConfig(base, (data / "pairs.jsonl",), lr=lr, epochs=0, train=train)
    finetune(config, tmp_path / "run")
    assert ("the loss has been 0.6931 nats" in caplog.text) == warned


def test_paths_may_be_texts(base, data):
    config = SftConfig(str(base), str(data / "talks.jsonl"))
    assert (config.model, config.data) == (base, (data / "talks.jsonl",))
    assert SftConfig(str(base), [str(data)]).data == (data,)


@pytest.mark.parametrize(
    ("lora", "d_model", "lr"),
    [(False, 192, 1.4e-3), (False, 32, 2e-3), (False, 2048, 5e-5), (True, 192, 5e-4)],
)
def test_the_usual_rate_is_higher_for_small_models(base, lora, d_model, lr):
    assert SftConfig(base, (), lora=lora).with_lr(d_model).lr == lr
    assert SftConfig(base, (), lora=lora, lr=0.1).with_lr(d_model).lr == 0.1


def test_changed_examples_are_told_before_the_steps_that_follow_from_them(base, data, tmp_path):
    own = shutil.copy(data / "talks.jsonl", tmp_path / "talks.jsonl")
    train = replace(TRAIN, steps=1)
    config = SftConfig(base, (own,), lr=1e-3, epochs=1.0, train=train)
    finetune(config, tmp_path / "run")
    lines = own.read_text("utf-8").splitlines(keepends=True)
    own.write_text("".join(lines[:60]), "utf-8")
    with pytest.raises(ConfigError, match="was begun with other examples"):
        finetune(config, tmp_path / "run")


def test_a_teacher_with_other_words_is_refused_before_anything_is_written(base, data, tmp_path):
    tokenizer = train_tokenizer(["other words " * 40], TokenizerConfig("bpe", 260))
    model = Transformer(ModelConfig("llama", tokenizer.vocab_size, 128, 2, 32, 2))
    model.initialise()
    save_model(tmp_path / "teacher", model, tokenizer)
    config = DistillConfig(base, (data / "text.txt",), teacher=tmp_path / "teacher", train=TRAIN)
    with pytest.raises(
        ConfigError, match=r"the teacher .* Take a teacher with the student's token"
    ):
        finetune(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.toml").exists()
