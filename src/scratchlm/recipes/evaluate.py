"""`evaluate`: what a model can do, in numbers with their intervals."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scratchlm import __version__
from scratchlm.base.device import choose_device
from scratchlm.base.errors import ConfigError, UserError
from scratchlm.base.files import read_json
from scratchlm.base.log import say, warn
from scratchlm.checkpoint.folder import is_classifier, load_tokenizer
from scratchlm.corpus.read import Document, find_files, read_documents
from scratchlm.evaluation.answers import answer_task
from scratchlm.evaluation.bits import bits_difference
from scratchlm.evaluation.choices import score_task
from scratchlm.evaluation.judge import Answer, Judge, read_key
from scratchlm.evaluation.likelihood import Scorer
from scratchlm.evaluation.overlap import Overlap, Passage, training_overlaps
from scratchlm.evaluation.perplexity import TextLoss, files_loss, text_loss
from scratchlm.evaluation.results import TaskResult
from scratchlm.evaluation.summarise import (
    compare_tasks,
    summarise_classes,
    summarise_judge,
    summarise_task,
    summarise_text,
)
from scratchlm.evaluation.summary import (
    Comparison,
    Evaluation,
    JudgeSummary,
    ModelFacts,
    ShownAnswer,
    TaskSummary,
)
from scratchlm.evaluation.task import Task
from scratchlm.evaluation.tasks import known_tasks, load_task
from scratchlm.examples.conversations import read_conversations
from scratchlm.examples.labels import read_labelled
from scratchlm.generation.engine import Engine
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.answers import answer_all, prompt_of
from scratchlm.recipes.classify import TextClassifier, check_known
from scratchlm.recipes.finetune import prepare_lesson
from scratchlm.recipes.finetune_config import read_finetune_config
from scratchlm.recipes.labelled_test import score_texts
from scratchlm.recipes.load import find_model, load_weights
from scratchlm.recipes.run_config import CONFIG as RUN_CONFIG
from scratchlm.recipes.templates import Speaker
from scratchlm.tokenizer.tokenizer import Tokenizer

RECORDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".toml")  # tasks; others are texts


@dataclass(frozen=True)
class EvaluateConfig:
    """What a model is asked."""

    tasks: tuple[str, ...] = ()  # of those that are known: blimp,lambada; or task files (.toml)
    folder: Path | None = None  # where the data of known tasks lie; none: here, as corpus get does
    data: tuple[Path, ...] = ()  # your own: records with choices or answers, labels, or texts
    limit: int = 0  # items of each subject of a task; 0: all
    seq_len: int = 0  # of texts: tokens of a window; 0 takes the model's context
    stride: int = 0  # of texts: tokens from one window to the next; 0 takes half a window
    overlap: bool = True  # look for the items in the text that the model was trained on
    judge: str = ""  # an OpenAI-compatible endpoint whose model scores free answers to --data
    judge_model: str = ""  # its name there
    judge_key: str = ""  # the environment variable that holds its key; "": it wants none
    judge_prompt: Path | None = None  # a file with {prompt}, {answer}, {reference}; none: the usual

    def __post_init__(self) -> None:
        for name in ("limit", "seq_len", "stride"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)} must not be negative.")
        if not self.tasks and not self.data:
            raise ConfigError(
                f"there is nothing to ask: give --tasks ({', '.join(known_tasks())}), or --data "
                "with a file of yours."
            )
        if bool(self.judge) != bool(self.judge_model):
            raise ConfigError("--judge and --judge-model belong together: give both.")


@dataclass
class _Asked:
    """One model, and what came of everything it was asked."""

    facts: ModelFacts
    results: dict[str, TaskResult] = field(default_factory=dict)
    losses: dict[str, TextLoss] = field(default_factory=dict)
    answers: tuple[str, ...] = ()


def evaluate(
    model: Path | str,
    config: EvaluateConfig,
    *,
    against: Path | str | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> Evaluation:
    """Ask a model what `config` says.

    model     a model folder or a run; a classifier is asked for the labels of `data`
    against   another model that is asked the same: with the differences, and how sure they are
    dtype     "float32", "bfloat16", "float16"; None: as the weights are stored
    raises    ConfigError, DataError, CheckpointError: tasks, files, models
    """
    start, place = time.perf_counter(), find_model(Path(model))
    where, _ = choose_device(device)
    if is_classifier(place):
        if against or config.tasks or config.judge:
            raise ConfigError(
                f"{place} is a classifier, which is asked for the labels of --data, and nothing "
                "else. Leave --tasks, --against and --judge out."
            )
        return _finished(_classified(place, config, device), start)
    tasks = [load_task(name, config.folder, limit=config.limit) for name in _names(config)]
    texts = [path for path in config.data if not config.judge and not _is_records(path)]
    tasks += [
        load_task(path, limit=config.limit)
        for path in config.data
        if not config.judge and _is_records(path)
    ]
    if config.judge:
        _judge_of(config)  # so that what is wrong is told before the answers are written
    asked = []
    for one in (place, find_model(Path(against)) if against else None):
        if one is not None:
            asked.append(_ask(one, config, tasks, texts, where, dtype))
    overlaps = _overlaps(place, tasks, texts) if config.overlap else {}
    return _finished(_evaluation(asked, tasks, overlaps, config), start)


def _names(config: EvaluateConfig) -> list[str]:
    """Names of tasks, also where they stand in one word: blimp,lambada."""
    return [name for word in config.tasks for name in word.split(",") if name]


def _is_records(path: Path) -> bool:
    return path.suffix.lower() in RECORDS or path.name.lower().endswith(".jsonl.gz")


def _ask(
    place: Path,
    config: EvaluateConfig,
    tasks: Sequence[Task],
    texts: Sequence[Path],
    device: torch.device,
    dtype: str | None,
) -> _Asked:
    model = load_weights(place, device=device, dtype=dtype)
    tokenizer = load_tokenizer(place, model.config)
    kept = str(model.embedding.weight.dtype).removeprefix("torch.")
    asked = _Asked(ModelFacts(str(place), model.n_parameters(), kept, str(device)))
    say(f"{place}: {model.n_parameters():,} parameters in {kept}, on {device}")
    windows: dict[str, Any] = {"seq_len": config.seq_len, "stride": config.stride}
    for task in tasks:
        say(f"{task.name}: {len(task.items):,} items")
        if task.about.kind == "text":
            asked.losses[task.name] = text_loss(model, tokenizer, _documents(task), **windows)
        elif task.about.kind == "answers":
            asked.results[task.name] = answer_task(Engine(model, tokenizer), task)
        else:
            asked.results[task.name] = score_task(Scorer(model, tokenizer), task)
    for path in texts:
        asked.losses[str(path)] = files_loss(model, tokenizer, [path], **windows)
    if config.judge:
        asked.answers = _free_answers(model, tokenizer, config)
    return asked


def _documents(task: Task) -> Iterable[Document]:
    return (Document(item.id, item.choices[0], item.place, {}) for item in task.items)


def _free_answers(
    model: Transformer, tokenizer: Tokenizer, config: EvaluateConfig
) -> tuple[str, ...]:
    talks = read_conversations(config.data)[: config.limit or None]
    speaker = Speaker.choose("auto", tokenizer)
    if speaker.n_new:
        raise ConfigError(
            "the model has no chat template, so it answers nothing: teach it to "
            "(scratchlm finetune sft)."
        )
    answers = answer_all(model, tokenizer, speaker.template, talks)
    return tuple(one.text.strip() for one in answers)


def _evaluation(
    asked: Sequence[_Asked],
    tasks: Sequence[Task],
    overlaps: dict[str, Overlap],
    config: EvaluateConfig,
) -> Evaluation:
    ours, theirs = asked[0], asked[1] if len(asked) > 1 else None
    judge, shown = _judged(ours, theirs, config) if config.judge else (None, ())
    return Evaluation(
        model=ours.facts,
        against=theirs.facts if theirs else None,
        tasks=tuple(
            summarise_task(task, ours.results[task.name], overlaps.get(task.name))
            for task in tasks
            if task.name in ours.results
        ),
        texts=tuple(
            summarise_text(name, loss, overlaps.get(name)) for name, loss in ours.losses.items()
        ),
        comparisons=tuple(_comparisons(ours, theirs)) if theirs else (),
        judge=judge,
        answers=shown,
    )


def _comparisons(ours: _Asked, theirs: _Asked) -> Iterable[Comparison]:
    for name, result in ours.results.items():
        yield from compare_tasks(result, theirs.results[name])
    for name, loss in ours.losses.items():
        other = theirs.losses[name]
        difference = bits_difference(other, loss)
        if difference and loss.bits_per_byte and other.bits_per_byte:
            bits = loss.bits_per_byte, other.bits_per_byte
            yield Comparison(name, "bits_per_byte", *bits, difference)


def _judged(
    ours: _Asked, theirs: _Asked | None, config: EvaluateConfig
) -> tuple[JudgeSummary, tuple[ShownAnswer, ...]]:
    """The verdicts on both models' answers; the summary is of ours."""
    talks = read_conversations(config.data)[: config.limit or None]
    judge = _judge_of(config)
    questions = [prompt_of(talk)[-1]["content"] for talk in talks]
    wished = [talk.messages[len(prompt_of(talk))]["content"] for talk in talks]

    def verdicts(one: _Asked) -> tuple[JudgeSummary, list[float | None]]:
        judged = judge.score(list(map(Answer, questions, one.answers, wished)))
        return summarise_judge(judged), [verdict.score for verdict in judged.verdicts]

    summary, scores = verdicts(ours)
    before: Sequence[str | None] = [None] * len(talks)
    scores_before: list[float | None] = [None] * len(talks)
    if theirs:
        other, scores_before = verdicts(theirs)
        before = theirs.answers
        say(f"the judge gives {theirs.facts.name} {other.score.value:.1f}")
    columns = questions, ours.answers, before, wished, scores, scores_before
    return summary, tuple(ShownAnswer(*row) for row in zip(*columns, strict=True))


def _overlaps(place: Path, tasks: Sequence[Task], texts: Sequence[Path]) -> dict[str, Overlap]:
    """What each set shares with the training text; {} where none of that is at hand."""
    sets = {task.name: [item.text for item in task.items] for task in tasks}
    for path in texts:
        sets[str(path)] = [document.text for document in read_documents(find_files([path]))]
    found = training_overlaps(sets, place, _learned(place))
    for name, overlap in found.items():
        if overlap.n_found:
            warn(
                f"{name}: {overlap.n_found:,} of {overlap.n_items:,} items share words with the "
                "text that the model was trained on, so its score says less"
            )
    return found


def _learned(place: Path) -> list[Passage] | None:
    """The examples that a fine-tuning run learned from, as text; None where there are none."""
    for run in (place, place.parent, place.parent.parent):
        config = read_finetune_config(run / RUN_CONFIG)
        if config is None:
            continue
        try:
            _, lesson = prepare_lesson(config)
        except (UserError, OSError) as bad:
            warn(f"the examples of {run} are not compared with the tasks: {bad}")
            return None
        if read_json(run / "run.json").get("examples") != lesson.hash:
            warn(f"the examples of {run} have changed, and are not compared with the tasks")
            return None
        decode = lesson.tokenizer.decode
        return [Passage(one.place, decode(one.tokens.tolist())) for one in lesson.train]
    return None


def _classified(place: Path, config: EvaluateConfig, device: str | None) -> Evaluation:
    classifier = TextClassifier.load(place, device=device)
    summaries: list[TaskSummary] = []
    learned = (_learned(place) if config.overlap else None) or []
    known = {passage.text.strip() for passage in learned}
    for path in config.data:
        found = read_labelled([path], known=classifier.class_names)[: config.limit or None]
        check_known(found, classifier.class_names)
        if n := sum(item.text.strip() in known for item in found):
            warn(
                f"{path}: {n:,} of {len(found):,} texts are among those that the model was trained "
                "on, so its score says less"
            )
        scores, _ = score_texts(classifier, found)
        summaries.append(summarise_classes(str(path), classifier.class_names, scores))
    facts = ModelFacts(str(place), classifier.model.n_parameters(), "", device or "")
    return Evaluation(model=facts, tasks=tuple(summaries))


def _judge_of(config: EvaluateConfig) -> Judge:
    key = read_key(config.judge_key)
    if config.judge_prompt is None:
        return Judge(config.judge, config.judge_model, key)
    try:
        prompt = config.judge_prompt.read_text(encoding="utf-8")
    except UnicodeDecodeError as bad:
        raise ConfigError(f"{config.judge_prompt} is not UTF-8 at byte {bad.start}.") from None
    return Judge(config.judge, config.judge_model, key, prompt)


def _finished(evaluation: Evaluation, start: float) -> Evaluation:
    return replace(
        evaluation,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        program=__version__,
        seconds=time.perf_counter() - start,
    )
