"""Training states that cannot be lost: each is a model folder with the rest of the state beside.

    run/checkpoints/step-00000200/    config.json, model.safetensors, ...   loads like any model
                                      state.json, state.safetensors         the rest of the state
                                      state.best                            it was the best so far
                                      manifest.json                         written last

A kill, a full disk or a damaged file costs at most the checkpoint that was being written.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import read_manifest, replace_folder, restore_folder, write_manifest
from scratchlm.base.log import warn, warn_once
from scratchlm.checkpoint.folder import FORMAT, VERSION
from scratchlm.checkpoint.values import TREE, Packed, pack, read_values

_BEST = "state.best"  # empty; inside the folder, so that no kill can part the two


class CheckpointStore:
    """The checkpoints of one run, one folder a step; only one process may save at a time."""

    def __init__(self, run: Path, *, keep_last: int = 2) -> None:
        """Take the folder of a run, which need not exist yet.

        keep_last    how many stay, the best one apart; at least 2, so that damage to the newest
                     leaves one to go on from
        """
        if keep_last < 2:
            raise ConfigError(
                f"keep_last = {keep_last} must be at least 2: if the newest checkpoint is damaged, "
                "the one before it must still be there."
            )
        self.folder = Path(run) / "checkpoints"
        self.keep_last = keep_last

    def save(
        self,
        step: int,
        fill: Callable[[Path], None],
        state: dict[str, Any],
        *,
        best: bool = False,
    ) -> Path:
        """Write the checkpoint of a step, read it again, and only then remove old ones.

        fill      writes the model's files into the folder it is given (`write_model_files`)
        state     nested dicts, lists and tuples of tensors, numbers, text, bool and None
        best      it is the best so far, and stays until another one is
        returns   the checkpoint's folder
        raises    CheckpointError when the disk is full or fails; what was saved before stays
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._tidy()
        packed = pack(state)
        self._require_space(step, packed)
        folder = self.folder / _name(step)

        def fill_all(partial: Path) -> None:
            fill(partial)
            packed.write(partial)
            if best:
                (partial / _BEST).touch()
            write_manifest(partial, FORMAT, VERSION)

        try:
            replace_folder(folder, fill_all)
            read_manifest(folder, FORMAT, VERSION)
        except (OSError, SafetensorError) as bad:
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {bad}; "
                f"{_megabytes(shutil.disk_usage(self.folder).free)} are free. Earlier checkpoints "
                "are untouched: make room, and the same command goes on."
            ) from bad
        self._purge(step)
        return folder

    def newest(self) -> Path | None:
        """The latest checkpoint that is whole; each damaged one is passed over with a warning."""
        for folder in reversed(self._folders().values()):
            if _is_whole(folder):
                return folder
        return None

    def best(self) -> Path | None:
        """The latest checkpoint that was saved as the best and is whole."""
        for folder in reversed(self._folders().values()):
            if (folder / _BEST).is_file() and _is_whole(folder):
                return folder
        return None

    def load(self, folder: Path, *, verify: bool = True) -> dict[str, Any]:
        """The state that was saved, equal in every bit; tensors on the CPU.

        verify   False: `newest` or `best` has just read the folder and found it whole
        raises   CheckpointError naming the file that is missing or damaged
        """
        read_manifest(folder, FORMAT, VERSION, verify=verify)
        return read_values(folder)

    def _folders(self) -> dict[int, Path]:
        """All checkpoints, by step in order, damaged ones too."""
        found = {path.name: path for path in self.folder.glob("step-*")}
        for path in self.folder.glob(".step-*.retired"):  # killed while a step was saved again
            found.setdefault(path.name[1:].removesuffix(".retired"), path)
        steps = {step: path for name, path in found.items() if (step := _step(name)) is not None}
        return dict(sorted(steps.items()))

    def _tidy(self) -> None:
        """Remove what killed saves and removals left; put back what a kill left half replaced."""
        for path in self.folder.glob(".step-*"):
            name, _, rest = path.name[1:].partition(".")
            if rest == "retired":
                restore_folder(self.folder / name)
            shutil.rmtree(path, ignore_errors=True)

    def _require_space(self, step: int, packed: Packed) -> None:
        """Refuse to begin what cannot end: the tensors at least, or as much as it took before."""
        need = packed.n_bytes
        for folder in self._folders().values():
            need = max(need, sum(path.stat().st_size for path in folder.rglob("*")))
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise CheckpointError(
                f"disk full: the checkpoint of step {step} needs about {_megabytes(need)} in "
                f"{self.folder}, and {_megabytes(free)} are free. Earlier checkpoints are "
                "untouched: make room, and the same command goes on."
            )

    def _purge(self, step: int) -> None:
        """Remove the oldest up to `step`, all but the last few and the best."""
        folders = self._folders()
        later = [path.name for other, path in folders.items() if other > step]
        if later:
            warn_once(
                f"{self.folder} holds checkpoints of later steps than {step}, the one just saved: "
                f"{', '.join(later)}. They are damaged or of another course of this run, and a "
                "resumed run takes the latest that is whole: move them away."
            )
        until = [path for path in folders.values() if path.name not in later]
        best = [path for path in until if (path / _BEST).is_file()][-1:]
        for path in until[: -self.keep_last]:
            if path not in best:
                doomed = path.with_name(f".{path.name}.removed")
                os.replace(path, doomed)  # so that a kill leaves no half of it under its name
                shutil.rmtree(doomed, ignore_errors=True)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step(name: str) -> int | None:
    """The step of a checkpoint's folder; None for any other name."""
    digits = name.removeprefix("step-")
    return int(digits) if digits.isdecimal() and _name(int(digits)) == name else None


def _is_whole(folder: Path) -> bool:
    """Whether every file of a checkpoint is as it was written; says which one is not."""
    try:
        if TREE not in read_manifest(folder, FORMAT, VERSION)["files"]:
            raise CheckpointError(f"{folder} is a model folder without a training state.")
    except (CheckpointError, OSError) as bad:
        warn(f"the checkpoint {folder.name} is passed over: {bad}")
        return False
    return True


def _megabytes(n: int) -> str:
    return f"{n / 1e6:,.1f} MB"
