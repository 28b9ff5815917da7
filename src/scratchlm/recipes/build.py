"""`build`: any text -> a tokenizer and a model folder, with choices that it explains."""

import dataclasses
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from scratchlm.base import device as devices
from scratchlm.base.config import read_toml
from scratchlm.base.duration import duration, next_time
from scratchlm.base.errors import ConfigError
from scratchlm.base.log import say
from scratchlm.corpus import bundled
from scratchlm.corpus.read import find_files
from scratchlm.recipes.choose import READINGS, Choice, Kind, choose, look_at
from scratchlm.recipes.pretrain import Resume, check_run_folder, pretrain
from scratchlm.recipes.probe import step_seconds
from scratchlm.recipes.run_config import CONFIG, RunConfig, TextConfig
from scratchlm.recipes.sources import DOCUMENTS, as_text
from scratchlm.recipes.training_run import RunResult
from scratchlm.training.clock import Clock
from scratchlm.training.optimizers import ScheduleConfig

BUDGETS = {"cpu": "10m", "mps": "20m", "cuda": "30m"}  # where none is given
SHORTEST = 10.0  # seconds: below, start-up and saving leave nothing for training


def build(
    paths: str | Path | Sequence[str | Path],
    out: Path | str,
    *,
    budget: str = "",
    until: str = "",
    tokenizer: Kind = "auto",
    steps: int = 0,
    seed: int = 1337,
    resume: Resume = "auto",
    device: str | None = None,
    began: float | None = None,
) -> RunResult:
    """Train a tokenizer and a model on files and folders; the model folder is OUT/model.

    paths      of any kind that `extract_documents` reads; what is no plain text becomes documents
               in OUT/documents first
    budget     how long all of it may take: "20m", "2h"; "" takes ten minutes on a CPU, or less
               where the text is soon learned
    until      instead, when it shall have ended: "18:00", "2026-11-21 18:00"
    tokenizer  "auto" takes characters for a very small text, and byte-level BPE for any other
    steps      so many, instead of as many as the time allows
    seed       of the first weights and the order of the text
    resume     as in `pretrain`; a run goes on with what was chosen for it, whatever this machine
               would choose now
    began      `time.monotonic()` from which the budget counts; None: now
    raises     DataError for text that cannot be read or is too short; ConfigError for a time that
               is none
    """
    began = began or time.monotonic()
    check_run_folder(Path(out), resume)
    if resume == "never" or not (Path(out) / CONFIG).is_file():  # before a folder is extracted
        _check(budget, until, steps, seed)
        _seconds_left(budget, until, devices.choose_device(device)[0].type, began)
    choice = choose_for(
        as_text(paths, Path(out) / DOCUMENTS),
        out,
        budget=budget,
        until=until,
        tokenizer=tokenizer,
        steps=steps,
        seed=seed,
        resume=resume,
        device=device,
        began=began,
    )
    return pretrain(choice.config, out, resume=resume, device=device, began=began)


def choose_for(
    paths: str | Path | Sequence[str | Path],
    out: Path | str,
    *,
    budget: str = "",
    until: str = "",
    tokenizer: Kind = "auto",
    steps: int = 0,
    seed: int = 1337,
    resume: Resume = "auto",
    device: str | None = None,
    began: float | None = None,
) -> Choice:
    """What `build` trains, said with its reasons; nothing is written."""
    _check(budget, until, steps, seed)
    text = TextConfig(tuple(str(path) for path in bundled.listed(paths)))
    if resume != "never" and (Path(out) / CONFIG).is_file():
        config = _choices_of(Path(out), budget, until, tokenizer, steps)
        return Choice(dataclasses.replace(config, text=text))
    chosen, _ = devices.choose_device(device)
    until, seconds = _seconds_left(budget, until, chosen.type, began)
    facts = look_at(find_files(bundled.resolve_all(paths)))
    choice = choose(facts, chosen, seconds, tokenizer=tokenizer, step_seconds=step_seconds)
    for reason in choice.reasons:
        if not (steps and reason.startswith(("length:", "expected:"))):  # of another length
            say(reason)
    config = _length(choice, budget, until, steps, BUDGETS[chosen.type])
    config = config.replace("train", seed=seed).replace("data", seed=seed)
    return dataclasses.replace(choice, config=dataclasses.replace(config, text=text))


def _check(budget: str, until: str, steps: int, seed: int) -> None:
    if sum(map(bool, (budget, until, steps))) > 1:
        raise ConfigError("budget, until and steps exclude each other: give one of them.")
    for name, value in (("steps", steps), ("seed", seed)):
        if value < 0:
            raise ConfigError(f"{name} = {value} must be at least 0.")


def _seconds_left(
    budget: str, until: str, device_type: str, began: float | None
) -> tuple[str, float]:
    """`until` with its day, and the seconds up to then, or of the budget or the usual one."""
    if until:
        until = next_time(until, datetime.now().astimezone()).isoformat(timespec="minutes")
    return until, _seconds(budget or ("" if until else BUDGETS[device_type]), until, began)


def _seconds(budget: str, until: str, began: float | None) -> float:
    """That are left.

    raises   ConfigError for less than SHORTEST
    """
    clock = Clock.of(ScheduleConfig(), began or time.monotonic(), budget, until)
    assert clock is not None  # there is a usual budget
    seconds = clock.left
    if seconds < SHORTEST:
        given = f"until {until}" if until else f"a budget of {budget}"
        raise ConfigError(
            f"{given} leaves {duration(max(0.0, seconds))} for preparing and training: give "
            f"{duration(SHORTEST)} or more."
        )
    return seconds


def _length(choice: Choice, budget: str, until: str, steps: int, usual: str) -> RunConfig:
    """The settings with their end: by time, or by steps."""
    config = choice.config
    if steps:
        return config.replace("train", steps=steps, eval_every=max(25, steps // 6))
    if budget or until:
        return config.replace("train", budget=budget, until=until)
    enough = int(choice.steps * READINGS / max(choice.readings, 1e-9))
    if enough >= choice.steps:
        return config.replace("train", budget=usual)
    say(
        f"ends after {enough:,} steps, {duration(enough * choice.step_s)}: {READINGS} readings "
        "teach what there is; give a budget for another time"
    )
    return config.replace("train", steps=enough, eval_every=max(10, enough // 6))


def _choices_of(run: Path, budget: str, until: str, tokenizer: Kind, steps: int) -> RunConfig:
    """The settings of a run that goes on, with what the caller asks for now."""
    say(f"{run} holds a run, which goes on with the settings chosen for it")
    config = read_toml(RunConfig, run / CONFIG)
    if tokenizer != "auto":
        config = config.replace("tokenizer", kind=tokenizer)
    if steps:
        return config.replace("train", steps=steps, budget="", until="")
    if budget:
        return config.replace("train", budget=budget, until="")
    if until and not config.train.until.partition("T")[2].startswith(until):
        then = next_time(until, datetime.now().astimezone()).isoformat(timespec="minutes")
        return config.replace("train", budget="", until=then)
    return config
