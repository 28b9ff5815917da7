"""`finetune`: a model and examples -> a model that answers, classifies or does better.

RUN/config.toml     every setting, resolved
RUN/run.json        program, machine, device, hashes of tokenizer and examples
RUN/metrics.jsonl   one line a step
RUN/checkpoints/    model folders, or adapters, with the training state beside them
RUN/loss.svg        the loss curve
RUN/model/          the result, a model folder like any other
RUN/adapter/        with LoRA: what was learned, as peft has it
RUN/test.json       of a classifier: how it did on texts that it never saw; confusion.svg
"""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from scratchlm.base import device as devices
from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import locked, read_json
from scratchlm.base.log import say
from scratchlm.checkpoint.folder import (
    load_classifier,
    load_model,
    load_tokenizer,
    read_model_config,
)
from scratchlm.model.config import ModelConfig
from scratchlm.recipes.answers import answer_all, side_by_side
from scratchlm.recipes.classify import TextClassifier
from scratchlm.recipes.finetune_config import (
    FREE,
    ClassifyConfig,
    DistillConfig,
    FinetuneConfig,
    read_finetune_config,
)
from scratchlm.recipes.finetune_job import FinetuneJob
from scratchlm.recipes.labelled_test import show_scores, write_test
from scratchlm.recipes.lessons import Lesson, make_lesson
from scratchlm.recipes.load import find_model
from scratchlm.recipes.pretrain import LOCK, Resume, check_run_folder
from scratchlm.recipes.run_config import CONFIG, check_same
from scratchlm.recipes.training_run import RunResult, run_job
from scratchlm.training.parallel import Processes, join, own_device, share_of_step

MOST_TOKENS = 1024  # of an example, where nobody says


def finetune(
    config: FinetuneConfig,
    out: Path | str,
    *,
    resume: Resume = "auto",
    device: str | None = None,
    show: int = 0,
) -> RunResult:
    """Fine-tune a model as `config` says and leave it in OUT/model.

    config   SftConfig, ClassifyConfig, DpoConfig or DistillConfig
    resume   "auto" goes on where OUT stopped, or begins; "never" refuses an OUT that holds a run;
             "must" refuses one that holds none
    device   "cpu", "cuda:1", "mps"; None takes the best that is there
    show     so many held-out questions are answered before and after, and printed
    raises   ConfigError, DataError, CheckpointError: settings, examples, folders; NonFiniteError
             and OutOfMemoryError from the training itself
    """
    began, out = time.monotonic(), Path(out)
    if show < 0:
        raise ConfigError(f"--show {show} must not be negative.")
    check_run_folder(out, resume)
    chosen, why = devices.choose_device(own_device(device))
    say(f"device: {chosen} ({why})")
    base = find_model(config.model)
    with (
        join(config.parallel, chosen) as processes,
        locked(out, out / LOCK) if processes.is_first else nullcontext(),
    ):
        with processes.first_alone():
            goes_on = check_run_folder(out, resume)
            before = _settings_of(out) if goes_on else None
            config, lesson = _prepare(config, base, processes, before)
            if before is not None:
                check_same(before, _without_steps(config, before), out, FREE)
                _check_examples(lesson, out)
        config = processes.agree(config)  # its precision was measured
        job = FinetuneJob(config, base, lesson, out, processes)
        result = run_job(job, out, processes, began, goes_on=goes_on)
    if processes.is_first and not result.interrupted:
        _show(job, result.model, chosen, show)
    return result


def _show(job: FinetuneJob, model: Path, device: torch.device, n: int) -> None:
    """What the loss does not tell: a test on texts never seen; answers before and after."""
    lesson = job.lesson
    if lesson.class_names and lesson.test:
        classifier = TextClassifier(load_classifier(model, device=device), lesson.tokenizer)
        scores = write_test(job.out, classifier, lesson.test, job.out.name)
        show_scores(scores, lesson.class_names)
    if lesson.speaker and (asked := lesson.held_out[:n]):
        template = lesson.speaker.template
        before, after = (
            answer_all(one, lesson.tokenizer, template, asked, what=f"answering, {when}")
            for one, when in (
                (job.first_model(device), "before"),
                (load_model(model, device=device), "after"),
            )
        )
        side_by_side(asked, before, after)


def prepare_lesson(config: FinetuneConfig) -> tuple[FinetuneConfig, Lesson]:
    """What a run would learn from, and its settings with what the base decides; trains nothing."""
    base = find_model(config.model)
    shape = read_model_config(base)
    config = _with_seq_len(config, shape).with_lr(shape.d_model)
    if isinstance(config, ClassifyConfig) and config.layers > shape.n_layers:
        raise ConfigError(f"--layers {config.layers}: the model has {shape.n_layers}.")
    lesson = make_lesson(config, load_tokenizer(base, shape))
    if isinstance(config, DistillConfig):
        _check_teacher(config, lesson)
    return config.with_steps(len(lesson.train)), lesson


def _check_teacher(config: DistillConfig, lesson: Lesson) -> None:
    assert config.teacher is not None
    place = find_model(config.teacher)
    theirs = load_tokenizer(place, read_model_config(place))
    if theirs.pieces() != lesson.tokenizer.pieces():
        raise ConfigError(
            f"the teacher {place} has {theirs.vocab_size:,} ids, the student "
            f"{lesson.tokenizer.vocab_size:,}, or other ones: words are compared by their ids. "
            "Take a teacher with the student's tokenizer; one that has learned a chat template has "
            "its tokens too, so that the student must have learned it as well."
        )


def _prepare(
    config: FinetuneConfig, base: Path, processes: Processes, before: FinetuneConfig | None
) -> tuple[FinetuneConfig, Lesson]:
    train = config.train
    share_of_step(train.micro_batch, train.accumulate, 0, processes.count)
    config, lesson = prepare_lesson(replace(config, model=base))
    if train.precision == "auto":
        precision = before.train.precision if before else _precision(processes.device)
        config = replace(config, train=replace(config.train, precision=precision))
    say(
        f"{config.train.steps:,} steps of {train.micro_batch * train.accumulate} examples, "
        f"learning rate {config.lr:g}"
    )
    return config, lesson


def _precision(device: torch.device) -> devices.Precision:
    dtype, why = devices.resolve_precision("auto", device)
    name: devices.Precision = "bfloat16" if dtype == torch.bfloat16 else "float32"
    say(f"precision: {name} ({why})")
    return name


def _with_seq_len(config: FinetuneConfig, shape: ModelConfig) -> FinetuneConfig:
    if config.seq_len > shape.max_seq_len:
        raise ConfigError(
            f"--seq-len {config.seq_len} is longer than the model's context of "
            f"{shape.max_seq_len} tokens."
        )
    return replace(config, seq_len=config.seq_len or min(shape.max_seq_len, MOST_TOKENS))


def _settings_of(out: Path) -> FinetuneConfig:
    settings = read_finetune_config(out / CONFIG)
    if settings is None:
        raise ConfigError(f"{out} holds a run of pretraining. Name another folder.")
    return settings


def _without_steps(config: FinetuneConfig, before: FinetuneConfig) -> FinetuneConfig:
    """With the steps that a run began with, where these follow from the number of examples."""
    if not config.epochs:
        return config
    return replace(config, train=replace(config.train, steps=before.train.steps))


def _check_examples(lesson: Lesson, out: Path) -> None:
    """Refuse to go on with other examples than those that a run began with."""
    then = read_json(out / "run.json", CheckpointError).get("examples")
    if then != lesson.hash:
        raise ConfigError(
            f"{out} was begun with other examples: the files of --data, or the chat template, have "
            "changed since. Put them back, or begin a new run in another folder."
        )
