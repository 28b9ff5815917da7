"""`pretrain`: text or shards -> a trained model folder, in a run folder that can go on exactly.

RUN/config.toml     every setting, resolved
RUN/run.json        program, machine, device, hashes of tokenizer and data
RUN/data/           shards and tokenizer, when the run began from text
RUN/metrics.jsonl   one line a step
RUN/checkpoints/    model folders with the training state beside them
RUN/loss.svg        the loss curve
RUN/model/          the result: the best of them, as a model folder
"""

import dataclasses
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import torch

from scratchlm.base import device as devices
from scratchlm.base.config import read_toml
from scratchlm.base.errors import ConfigError
from scratchlm.base.files import locked
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress
from scratchlm.checkpoint.folder import read_model_config
from scratchlm.corpus import bundled
from scratchlm.data.loader import DataConfig, SourceConfig
from scratchlm.data.shards import is_shards_folder
from scratchlm.native import ops
from scratchlm.native.library import describe as describe_kernels
from scratchlm.recipes.load import find_model
from scratchlm.recipes.prepare import prepare, training_part
from scratchlm.recipes.pretrain_job import PretrainJob
from scratchlm.recipes.run_config import CONFIG, RunConfig, check_same
from scratchlm.recipes.tokenizer import train as train_tokenizer
from scratchlm.recipes.training_run import RunResult, run_job
from scratchlm.tokenizer.config import LEARNED
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.parallel import Processes, join, own_device, share_of_step

LOCK = ".lock"  # in the run's folder, while a process trains there
Resume = Literal["auto", "never", "must"]


def pretrain(
    config: RunConfig,
    out: Path | str,
    *,
    resume: Resume = "auto",
    init: Path | str | None = None,
    device: str | None = None,
    began: float | None = None,
) -> RunResult:
    """Train a model as `config` says and leave it in OUT/model.

    resume   "auto" goes on where OUT stopped, or begins; "never" refuses an OUT that holds a run;
             "must" refuses one that holds none
    init     a model or run folder to begin from: its weights and shape, its tokenizer for text
    device   "cpu", "cuda:1", "mps"; None takes the best that is there
    began    `time.monotonic()` from which train.budget counts; None: now
    raises   ConfigError, DataError, CheckpointError: settings, text, folders; NonFiniteError and
             OutOfMemoryError from the training itself
    """
    began = began or time.monotonic()
    out = Path(out)
    check_run_folder(out, resume)
    chosen, why = devices.choose_device(own_device(device))
    say(f"device: {chosen} ({why})")
    if chosen.type == "cpu":
        say(f"kernels: {describe_kernels()}")
        if config.train.compile and ops.available(chosen):
            warn("train.compile leaves these kernels out, which are faster here: set it to false.")
    init = find_model(Path(init)) if init else None
    with (
        join(config.parallel, chosen) as processes,
        locked(out, out / LOCK) if processes.is_first else nullcontext(),
    ):
        return _pretrain(config, out, resume, init, processes, began)


def _pretrain(
    config: RunConfig,
    out: Path,
    resume: Resume,
    init: Path | None,
    processes: Processes,
    began: float,
) -> RunResult:
    """Begin the run in OUT or go on with it, to its end or a signal."""
    with processes.first_alone():
        share_of_step(config.train.micro_batch, config.train.accumulate, 0, processes.count)
        goes_on = check_run_folder(out, resume)
        before = read_toml(RunConfig, out / CONFIG) if goes_on else None
        data, tokenizer = _open_data(config, out, init)
        config = _resolve(config, tokenizer, processes.device, before, init)
        if before is not None:
            check_same(before, config, out)
    config = processes.agree(config)  # its precision was measured
    if processes.count > 1:
        say(f"processes: {processes.data} copies of the model x {processes.shard} that share one")
    job = PretrainJob(config, data, out, tokenizer, processes, init)
    return run_job(job, out, processes, began, goes_on=goes_on)


def check_run_folder(out: Path, resume: Resume) -> bool:
    """Whether OUT holds a run that goes on; refuses what `resume` rules out, and other folders.

    raises   ConfigError
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file. Name a folder for the run.")
    holds_run = (out / CONFIG).is_file()
    if resume == "must" and not holds_run:
        raise ConfigError(f'{out} holds no run to resume. With resume = "auto" one begins.')
    if resume == "never" and holds_run:
        raise ConfigError(
            f'{out} holds a run. With resume = "auto" it goes on; or name another folder.'
        )
    if not holds_run and out.is_dir():
        # of a run that was ended while it prepared its text
        ours = (LOCK, ".data", "data", ".documents", "documents")
        others = sorted(p.name for p in out.iterdir() if not p.name.startswith(ours))
        if others:
            raise ConfigError(
                f"{out} is no run, but holds {', '.join(others[:3])}: it is left alone. Name a new "
                "or empty folder."
            )
    return holds_run


def _open_data(config: RunConfig, out: Path, init: Path | None) -> tuple[DataConfig, Tokenizer]:
    """The data settings with their sources, and the tokenizer: prepares text when it must."""
    if config.data.sources:
        first = config.data.sources[0].path
        owner = init if init and (init / "tokenizer.json").is_file() else first
        return config.data, Tokenizer.load(owner)  # the shards are held against its hash
    folder = out / "data"
    if not is_shards_folder(folder):
        paths = bundled.resolve_all(config.text.paths)
        if init is not None:
            tokenizer = Tokenizer.load(init)
        else:
            learned = config.tokenizer.kind in LEARNED  # others must know all that there is
            tokenizer = train_tokenizer(
                paths,
                config.tokenizer,
                keep=training_part(paths, config.prepare) if learned else None,
                errors=config.prepare.errors,
                text_key=config.prepare.text_key,
                document_separator=config.prepare.document_separator,
            )
        with Progress("encoding") as progress:
            prepare(paths, folder, tokenizer, config=config.prepare, progress=progress.update)
    data = dataclasses.replace(config.data, sources=(SourceConfig(folder),))
    return data, Tokenizer.load(folder)


def _resolve(
    config: RunConfig,
    tokenizer: Tokenizer,
    device: torch.device,
    before: RunConfig | None,
    init: Path | None,
) -> RunConfig:
    """Fill in what the tokenizer, the machine, `init` or the run so far decide."""
    if init is not None:
        model = dataclasses.replace(read_model_config(init), dropout=config.model.dropout)
        config = dataclasses.replace(config, model=model)  # checks data.seq_len against it
        say(f"model: the shape of {init}, whatever [model] says")
    elif before is not None and not config.model.vocab_size:
        config = config.replace("model", vocab_size=before.model.vocab_size)
    elif not config.model.vocab_size:
        config = config.replace("model", vocab_size=tokenizer.vocab_size)
    if tokenizer.vocab_size > config.model.vocab_size:
        raise ConfigError(
            f"model.vocab_size = {config.model.vocab_size} is smaller than the tokenizer's "
            f"{tokenizer.vocab_size}. Leave it at 0, or give at least the tokenizer's size."
        )
    if config.train.precision == "auto":
        if before is not None:
            config = config.replace("train", precision=before.train.precision)
        else:
            dtype, why = devices.resolve_precision("auto", device)
            config = config.replace("train", precision=str(dtype).removeprefix("torch."))
            say(f"precision: {config.train.precision} ({why})")
    return config
