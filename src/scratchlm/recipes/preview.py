"""`preview`: what a model will see, of any run: rows of tokens, and whether they are as they must
be. Nothing is trained and no model is loaded.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scratchlm.base.config import read_toml
from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.base.files import read_json
from scratchlm.base.log import LOGGER
from scratchlm.data.loader import SourceConfig
from scratchlm.data.shards import is_shards_folder
from scratchlm.recipes.finetune import prepare_lesson
from scratchlm.recipes.finetune_config import read_finetune_config
from scratchlm.recipes.preview_checks import Findings
from scratchlm.recipes.preview_facts import Check, Preview, SplitName, Stock, Vocabulary
from scratchlm.recipes.preview_finetune import ExampleRows
from scratchlm.recipes.preview_pretrain import ShardRows, refuse_missing
from scratchlm.recipes.preview_rows import Stretch, amount_of, show_row
from scratchlm.recipes.preview_sample import prepared_sample
from scratchlm.recipes.run_config import CONFIG, RunConfig
from scratchlm.tokenizer.tokenizer import Tokenizer

_MOST_POSITIONS, _MOST_ROWS = 2_000_000, 2_000  # that are looked at: a second or two
_RUN = "run.json"


class _Source(Protocol):
    """Batches of one kind of training, and what must hold of them.

    n_batches    of an epoch; None for a mixture of sources
    horizon      so many batches are looked among
    accumulate   batches of a step
    """

    method: str
    tokenizer: Tokenizer
    n_batches: int | None
    horizon: int
    accumulate: int

    def rows(self, n: int) -> list[list[Stretch]]: ...
    def findings(self) -> Findings: ...
    def stock(self) -> Stock: ...
    def vocabulary(self) -> Vocabulary: ...
    def checks(self, found: Findings) -> list[Check]: ...


def preview(
    place: Path | str, *, rows: int = 2, batch: int = 0, split: SplitName = "train"
) -> Preview:
    """Look at what a run learns from, as its trainer gets it.

    place    a run folder, before, during or after training; or a TOML config, of pretraining or of
             fine-tuning
    rows     of the batch that are shown
    batch    which micro-batch, from 0 on
    split    what is trained on, or what is held out
    raises   ConfigError, DataError, CheckpointError: no run, no such batch, text or base that are
             gone, examples that the run itself refuses
    """
    place = Path(place)
    for name, value in (("rows", rows), ("batch", batch)):
        if value < 0:
            raise ConfigError(f"{name} = {value} must not be negative.")
    config, run = _find(place)
    with _warnings() as notes, _opened(config, run, split) as (source, said):
        if split == "val" and batch >= (source.n_batches or 0):
            raise ConfigError(
                f"batch = {batch}: what is held out makes {source.n_batches} batches, 0 to "
                f"{(source.n_batches or 0) - 1}."
            )
        there = source.rows(batch)
        found = _look(source, batch, there)
        shown = [show_row(i, row, source.tokenizer) for i, row in enumerate(there[:rows], 1)]
        return Preview(
            str(place),
            source.method,
            split,
            batch,
            batch // source.accumulate + 1 if split == "train" else None,
            source.n_batches,
            tuple(shown),
            amount_of(there),
            found.amount,
            len(found.batches),
            source.stock(),
            source.vocabulary(),
            tuple(source.checks(found)),
            (*said, *notes),
        )


def _look(source: _Source, batch: int, there: list[list[Stretch]]) -> Findings:
    """Look at the batch that is shown, and at others, evenly over the epoch."""
    found = source.findings()
    found.add(batch, there)
    amount = found.amount
    n = source.horizon
    n_positions = amount.tokens + amount.padding
    most = max(1, min(_MOST_POSITIONS // max(1, n_positions), _MOST_ROWS // max(1, amount.rows)))
    for other in np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist():
        if other != batch:
            found.add(other, source.rows(other))
    return found


def _find(place: Path) -> tuple[Path, Path | None]:
    """The config that a path means, and the run folder that it is in.

    raises   ConfigError for what is neither a run nor a config
    """
    if place.is_dir():
        if (place / CONFIG).is_file():
            return place / CONFIG, place
        if is_shards_folder(place):
            said = "holds prepared text, and no run: name a config whose data.sources has it"
        elif (place / "config.json").is_file() or (place / "adapter_config.json").is_file():
            said = f"is a model: name the run that made it, which has a {CONFIG}"
        else:
            said = f"is no run: it has no {CONFIG}"
        raise ConfigError(f"{place} {said}. Give a run folder, or a TOML config.")
    if not place.is_file():
        raise ConfigError(f"{place} does not exist. Give a run folder, or a TOML config.")
    began = place.name == CONFIG and (place.with_name(_RUN)).is_file()
    return place, place.parent if began else None


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What is warned of while examples are read, such as bad records: it belongs to the picture."""
    kept: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    try:
        yield kept
    finally:
        LOGGER.removeHandler(handler)


@contextmanager
def _opened(path: Path, run: Path | None, split: SplitName) -> Iterator[tuple[_Source, list[str]]]:
    """The batches of a run, and notes on where they are from."""
    began = _began(run)
    tuning = read_finetune_config(path)
    if tuning is not None:
        yield ExampleRows(*prepare_lesson(tuning), split, began), []
        return
    config = read_toml(RunConfig, path)
    if run is not None and is_shards_folder(run / "data"):
        config = replace(config, data=replace(config.data, sources=(SourceConfig(run / "data"),)))
    if config.data.sources:
        refuse_missing(config.data)
        tokenizer, made_with = _tokenizer(config, run, began)
        yield ShardRows(config, config.data, tokenizer, split, made_with), []
        return
    if began:
        raise DataError(
            f"{run}/data is gone, so what this run learned from cannot be shown. Put it back, or "
            "show the config that the run began with."
        )
    with prepared_sample(config) as (data, tokenizer, said):
        yield ShardRows(config, data, tokenizer, split, name="sample"), [said]


def _began(run: Path | None) -> dict[str, Any]:
    """What run.json says; {} before the run has begun."""
    if run is None or not (run / _RUN).is_file():
        return {}
    facts = read_json(run / _RUN, CheckpointError)
    if not isinstance(facts, dict):
        raise CheckpointError(f"{run / _RUN} is not what a run writes: it was damaged.")
    return facts


def _tokenizer(
    config: RunConfig, run: Path | None, began: dict[str, Any]
) -> tuple[Tokenizer, list[tuple[str, str]]]:
    """The tokenizer in use, and the SHA-256 of that of what else the run has.

    It is the result's, where there is one: with `--init` it need not be the first source's.
    """
    result = run / "model" if run is not None else None
    first = config.data.sources[0].path
    place = result if result is not None and (result / "tokenizer.json").is_file() else first
    sha = began.get("tokenizer", {}).get("sha256")
    return Tokenizer.load(place), [(_RUN, sha)] if sha else []
