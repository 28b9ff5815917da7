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
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from scratchlm import __version__
from scratchlm.base import device as devices
from scratchlm.base.config import read_toml, to_dict, write_toml
from scratchlm.base.errors import ConfigError
from scratchlm.base.files import replace_folder, sha256_of, write_json, write_manifest, write_text
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.base.runtime import describe_machine
from scratchlm.checkpoint.folder import (
    FORMAT,
    VERSION,
    load_model,
    read_model_config,
    write_model_files,
)
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.corpus import bundled
from scratchlm.data.loader import DataConfig, Loader, SourceConfig, open_splits
from scratchlm.data.shards import is_shards_folder
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.prepare import prepare
from scratchlm.recipes.run_config import CONFIG, RunConfig, check_same
from scratchlm.recipes.run_hooks import RunHooks
from scratchlm.recipes.tokenizer import train as train_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.curve import draw_loss_curve
from scratchlm.training.metrics import Metrics, cut_metrics, read_metrics
from scratchlm.training.stop import NonFiniteError, explain_out_of_memory
from scratchlm.training.trainer import Trainer

Resume = Literal["auto", "never", "must"]


@dataclass(frozen=True)
class PretrainResult:
    """What a run came to.

    model          the model folder
    reason         why it ended: "all steps done", "Ctrl-C", ...
    interrupted    a signal ended it: the same call goes on
    loss_nats      held-out loss of that model, nats per token; None without evaluations
    bits_per_byte  the same in bits per byte of text
    seconds        spent in training steps, by this process
    """

    model: Path
    reason: str
    interrupted: bool
    step: int
    loss_nats: float | None
    bits_per_byte: float | None
    seconds: float


def pretrain(
    config: RunConfig,
    out: Path | str,
    *,
    resume: Resume = "auto",
    init: Path | str | None = None,
    device: str | None = None,
) -> PretrainResult:
    """Train a model as `config` says and leave it in OUT/model.

    resume   "auto" goes on where OUT stopped, or begins; "never" refuses an OUT that holds a run;
             "must" refuses one that holds none
    init     a model folder to begin from: its weights and shape, its tokenizer for text
    device   "cpu", "cuda:1", "mps"; None takes the best that is there
    raises   ConfigError, DataError, CheckpointError: settings, text, folders; NonFiniteError and
             OutOfMemoryError from the training itself
    """
    out = Path(out)
    chosen, why = devices.choose_device(device)
    say(f"device: {chosen} ({why})")
    goes_on = _goes_on(out, resume)
    before = read_toml(RunConfig, out / CONFIG) if goes_on else None
    data, tokenizer = _open_data(config, out, Path(init) if init else None)
    config = _resolve(config, tokenizer, chosen, before, Path(init) if init else None)
    if before is not None:
        check_same(before, config, out)
    run = _Run(config, data, out, tokenizer, chosen)
    train = config.train
    with explain_out_of_memory(train.micro_batch, train.accumulate, config.data.seq_len):
        run.start(goes_on, Path(init) if init else None)
    return run.finish()


def _goes_on(out: Path, resume: Resume) -> bool:
    """Whether OUT holds a run that goes on; refuses what `resume` rules out."""
    holds_run = (out / CONFIG).is_file()
    if resume == "must" and not holds_run:
        raise ConfigError(f"{out} holds no run to resume. Use --resume auto to begin one.")
    if resume == "never" and holds_run:
        raise ConfigError(f"{out} holds a run. Use --resume auto to go on, or another --out.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file. Give a folder as --out.")
    if not holds_run and out.is_dir():
        others = sorted(p.name for p in out.iterdir() if not p.name.startswith((".data", "data")))
        if others:
            raise ConfigError(
                f"{out} is no run, but holds {', '.join(others[:3])}: it is left alone. Give a new "
                "or empty folder as --out."
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
            tokenizer = train_tokenizer(
                paths,
                config.tokenizer,
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
    """Fill in what the tokenizer, the machine, --init or the run so far decide."""
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


class _Run:
    """One process's part of a run: the loaders, the trainer and what hangs on it."""

    def __init__(
        self,
        config: RunConfig,
        data: DataConfig,
        out: Path,
        tokenizer: Tokenizer,
        device: torch.device,
    ) -> None:
        self.config, self.out, self.tokenizer, self.device = config, out, tokenizer, device
        self.data = data
        train = config.train
        splits = open_splits(data, "train", tokenizer_hash=tokenizer.hash)
        self.batches = Loader(splits, data, train.micro_batch)
        self.validation = None
        if train.eval_every and all((s.path / "val").is_dir() for s in data.sources):
            held_out = open_splits(data, "val", tokenizer_hash=tokenizer.hash)
            self.validation = Loader(held_out, data, train.micro_batch, train=False)
        self.store = CheckpointStore(out, keep_last=train.keep_last)

    def start(self, goes_on: bool, init: Path | None) -> None:
        """Make the model, or take it from --init or the newest checkpoint; say what the run is."""
        newest = self.store.newest() if goes_on else None
        config = self.config
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.train.seed)
        origin = newest or init
        if origin:
            model = load_model(origin, device=self.device, dtype="float32")
            model.set_dropout(config.model.dropout)
        else:
            model = Transformer(config.model)
            model.initialise()
            model.to(self.device)
        self.model = model
        state = self.store.load(newest) if newest else None
        write_toml(self.out / CONFIG, config)
        cut_metrics(self.out, state["trainer"]["step"] if state else 0)
        write_json(self.out / "run.json", self._facts(init))
        self.metrics = Metrics(self.out, config.train.track, to_dict(config))
        self.hooks = RunHooks(self)
        self.trainer = Trainer(
            model,
            self.batches.batches,
            config.train,
            config.optim,
            config.schedule,
            seq_len=config.data.seq_len,
            hooks=self.hooks.pairs(),
        )
        if state:
            self.trainer.load_state_dict(state["trainer"])
            self.hooks.load_state_dict(state["hooks"])
            say(f"resuming from {newest} after step {self.trainer.step}")
        else:
            say(f"model: {config.model.family}, {model.n_parameters():,} parameters")

    def finish(self) -> PretrainResult:
        """Train, then put the best checkpoint's model into RUN/model."""
        begin = time.perf_counter()
        try:
            steps = self.config.train.steps
            shown = Progress("training", steps, unit="steps", start=self.trainer.step)
            with shown as self.hooks.progress:
                reason = self.trainer.run()
        except NonFiniteError as bad:
            raise self._with_saved_batch(bad) from None
        finally:
            self.metrics.close()
        seconds = time.perf_counter() - begin - self.hooks.seconds
        model = self.out / "model"
        source = self.store.best() or self.store.newest()
        assert source is not None, "the last step's hooks save a checkpoint"
        replace_folder(model, lambda partial: self._write_result(source, partial))
        title = (
            f"{self.out.name}: {self.config.model.family}, {self.model.n_parameters():,} weights"
        )
        write_text(self.out / "loss.svg", draw_loss_curve(read_metrics(self.out), title))
        best = self.hooks.best
        return PretrainResult(
            model,
            reason,
            self.trainer.interrupted,
            self.trainer.step,
            best.loss_nats if best else None,
            best.bits_per_byte if best else None,
            seconds,
        )

    def _write_result(self, source: Path, folder: Path) -> None:
        for path in source.iterdir():
            if path.is_file() and not path.name.startswith(("state.", "manifest.")):
                shutil.copyfile(path, folder / path.name)
        write_manifest(folder, FORMAT, VERSION, step=self.trainer.step, run=self.out.name)

    def write_checkpoint(self, folder: Path) -> None:
        """The model's files of a checkpoint: what the store calls to fill its folder."""
        write_model_files(folder, self.model, self.tokenizer)

    def _with_saved_batch(self, bad: NonFiniteError) -> NonFiniteError:
        """Keep the batch of the step that was not taken, as ids and as text."""
        folder = self.out / "nonfinite"
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{bad.step + 1:08}.json"
        rows = [row.tolist() for batch in bad.micro_batches for row in batch.tokens]
        write_json(path, [{"tokens": row, "text": self.tokenizer.decode(row)} for row in rows])
        bad.args = (f"{bad.args[0]} The batch is kept in {path}.",)
        return bad

    def _facts(self, init: Path | None) -> dict[str, Any]:
        return {
            "scratchlm": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": describe_machine(),
            "device": str(self.device),
            "parameters": self.model.n_parameters(),
            "tokenizer": {"kind": self.tokenizer.kind, "sha256": self.tokenizer.hash},
            "data": {str(s.path): sha256_of(s.path / "manifest.json") for s in self.data.sources},
            "init": str(init) if init else None,
        }
