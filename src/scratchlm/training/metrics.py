"""What is measured: JSON lines in `metrics.jsonl`, the source of truth; trackers copy them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from scratchlm.base.errors import ConfigError, MissingExtraError
from scratchlm.base.files import write_whole

METRICS = "metrics.jsonl"
TRACKERS = ("tensorboard", "wandb", "swanlab")


class Tracker(Protocol):
    """Somebody else's place for curves."""

    def log(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


class NoMetrics:
    """The metrics of a process that writes none, since another one of the same run does."""

    def log(self, step: int, **values: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Metrics:
    """The metrics of one run: appends lines, and cuts those that a resumed run will write again.

    run       its folder
    trackers  names out of TRACKERS that get a copy
    config    the run's settings, told to the trackers
    """

    def __init__(self, run: Path, trackers: tuple[str, ...], config: dict[str, Any]) -> None:
        self.path = run / METRICS
        self.trackers = [_open_tracker(name, run, config) for name in trackers]
        self._file = open(self.path, "a", encoding="utf-8", newline="\n")  # noqa: SIM115

    def log(self, step: int, **values: Any) -> None:
        """Append one line: `step` steps are done, and what was measured."""
        line = {"step": step, **values}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float))}
        for tracker in self.trackers:
            tracker.log(step, numbers)

    def close(self) -> None:
        """Flush everything."""
        self._file.close()
        for tracker in self.trackers:
            tracker.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics; a last line that a kill cut short is left out."""
    path = run / METRICS
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def cut_metrics(run: Path, step: int) -> None:
    """Keep only the lines up to `step`: the run goes on from there and writes the rest again."""
    kept = [line for line in read_metrics(run) if line["step"] <= step]
    with write_whole(run / METRICS, text=True) as file:
        for line in kept:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _open_tracker(name: str, run: Path, config: dict[str, Any]) -> Tracker:
    makers: dict[str, Callable[[Path, dict[str, Any]], Tracker]] = {
        "tensorboard": _TensorBoard,
        "wandb": _Wandb,
        "swanlab": _SwanLab,
    }
    if name not in makers:
        raise ConfigError(f"train.track = {name!r} is not one of {', '.join(TRACKERS)}.")
    return makers[name](run, config)


class _TensorBoard:
    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("tensorboard", "tensorboard", "train.track") from None
        self._writer = SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("config", f"```\n{json.dumps(config, indent=2)}\n```")

    def log(self, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Weights & Biases; WANDB_MODE=offline keeps everything on disk."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingExtraError("wandb", "wandb", "train.track") from None
        self._run = wandb.init(
            project="scratchlm", name=run.name, dir=str(run), config=config, resume="allow"
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _SwanLab:
    """SwanLab; SWANLAB_MODE=offline keeps everything on disk."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        try:
            import swanlab
        except ImportError:
            raise MissingExtraError("swanlab", "swanlab", "train.track") from None
        self._run = swanlab.init(
            project="scratchlm",
            experiment_name=run.name,
            logdir=str(run / "swanlab"),
            config=config,
        )
        self._finish = swanlab.finish

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._finish()
