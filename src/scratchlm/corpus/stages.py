"""A stage of the corpus: a function from shard to shard, on as many workers as there are.

    OUT/00000.jsonl.zst ...     what the stage made of each shard
    OUT/.done/00000.json        a shard is done: what it was made of, and its counts
    OUT/counts.json             in = kept + dropped, by reason
    OUT/manifest.json           last: the folder is whole

A stage that was killed does the shards anew that have no mark, and no others. What comes out does
not depend on how many workers there are, nor on the order in which they end.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from scratchlm.base.config import to_dict
from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import MANIFEST, beside, read_json, write_json, write_manifest
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.corpus.store import ENDING

FORMAT = "scratchlm documents"
VERSION = 1
COUNTS = "counts.json"
_DONE = ".done"


@dataclass
class Counts:
    """What became of documents, and of their text in bytes.

    dropped   by reason, and in `dropped_bytes` their bytes as they came in
    kept_bytes  as they go out; what was cut from documents that stay is in neither
    """

    n_in: int = 0
    n_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    in_bytes: int = 0
    kept_bytes: int = 0
    dropped_bytes: Counter[str] = field(default_factory=Counter)

    def keep(self, in_bytes: int, kept_bytes: int) -> None:
        """Count a document that stays."""
        self.n_in += 1
        self.n_kept += 1
        self.in_bytes += in_bytes
        self.kept_bytes += kept_bytes

    def drop(self, reason: str, in_bytes: int = 0) -> None:
        """Count a document that goes; of what could not be read nobody knows the bytes."""
        self.n_in += 1
        self.in_bytes += in_bytes
        self.dropped[reason] += 1
        self.dropped_bytes[reason] += in_bytes

    def add(self, other: "Counts") -> None:
        """Count what another one has counted."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def then(self, later: "Counts") -> "Counts":
        """Both passes over the same documents as one: the later saw what the first one kept."""
        return Counts(
            self.n_in,
            later.n_kept,
            self.dropped + later.dropped,
            self.in_bytes,
            later.kept_bytes,
            self.dropped_bytes + later.dropped_bytes,
        )

    def as_json(self) -> dict[str, Any]:
        """For files; the reasons by how often they were met."""
        # not `most_common`: of equals it has the one first that a worker happened to meet first
        order = sorted(self.dropped, key=lambda reason: (-self.dropped[reason], reason))
        n_bytes = {reason: self.dropped_bytes[reason] for reason in order}
        dropped = {reason: self.dropped[reason] for reason in order}
        return {**asdict(self), "dropped": dropped, "dropped_bytes": n_bytes}

    @classmethod
    def of_json(cls, values: Any) -> "Counts":
        """What `as_json` gave; raises KeyError or TypeError for anything else."""
        known = {one.name: values[one.name] for one in fields(cls)}
        for name in ("dropped", "dropped_bytes"):
            known[name] = Counter({str(reason): int(n) for reason, n in known[name].items()})
        return cls(**known)


# (a shard, where to write, settings) -> counts; a function of a module, so that workers find it
Work = Callable[[Path, Path, Any], Counts]


@dataclass(frozen=True)
class Job:
    """One shard of a stage."""

    work: Work
    shard: Path
    out: Path
    settings: Any

    def __call__(self) -> Counts:
        """Do it: the new shard is whole or absent."""
        return self.work(self.shard, self.out, self.settings)


class Executor(Protocol):
    """Who does the jobs: processes here, or a cluster."""

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Counts], None, None]:
        """Each job with its counts, as they end; whoever closes this ends what runs.

        raises   DataError naming the shard for a job that cannot be done
        """
        ...


def run_stage(
    name: str,
    work: Work,
    shards: Sequence[Path],
    out: Path,
    settings: Any,
    executor: Executor,
    *,
    ending: str = ENDING,
    last: Callable[[Counts], Counts] | None = None,
) -> Counts:
    """Make every shard of a folder, those apart that were done before, and say what became of all.

    name       of the stage, for the manifest and the progress
    settings   a dataclass: what `work` depends on besides the shard
    ending     of the files that `work` writes
    last       called when all shards are done, before the folder counts as whole; gets the counts
               and gives those that are to be stored
    raises     ConfigError for a folder that other settings, another stage or somebody else made
    """
    facts = stage_facts(name, settings)
    marks = out / _DONE
    claim(out, facts)
    total, jobs = Counts(), []
    for number, shard in enumerate(shards):
        job = Job(work, shard, out / f"{number:05}{ending}", settings)
        known = _counts_of(job, marks)
        if known is None:
            jobs.append(job)
        else:
            total.add(known)
    shown = Progress(name, len(shards), unit="shards", start=len(shards) - len(jobs))
    with shown, closing(executor.run(jobs)) as results:
        for job, counts in results:
            write_json(_mark(job, marks), {"made_of": _made_of(job.shard), **counts.as_json()})
            total.add(counts)
            shown.advance(1, note=f"{total.n_kept:,} of {total.n_in:,} documents kept")
    total = last(total) if last else total
    if total.n_in != total.n_kept + total.dropped.total():
        raise AssertionError(f"{name}: {total} does not add up")
    write_json(out / COUNTS, total.as_json())
    finish(out, facts)
    return total


def stage_facts(name: str, settings: Any) -> dict[str, Any]:
    """What the manifest says of a stage, and what must be the same when it goes on."""
    return {"stage": name, "settings": to_dict(settings)}


def claim(out: Path, facts: dict[str, Any]) -> None:
    """Make a folder a stage's own, or go on with it.

    raises   ConfigError for one that is finished, or that something else began
    """
    begun = out / _DONE / "stage.json"
    if (out / MANIFEST).is_file():
        shutil.rmtree(beside(out, "done"), ignore_errors=True)  # `finish` was killed at its end
        raise ConfigError(f"{out} exists. Name another folder, or give --overwrite.")
    if out.is_dir() and not begun.parent.exists() and (aside := beside(out, "done")).is_dir():
        os.replace(aside, begun.parent)  # `finish` was killed
    if begun.is_file():
        if read_json(begun, DataError) != json.loads(json.dumps(facts)):
            raise ConfigError(
                f"{out} was begun by another stage, or with other settings. Go on with those, name "
                "another folder, or give --overwrite."
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} holds something else. Name another folder.")
    begun.parent.mkdir(parents=True, exist_ok=True)
    write_json(begun, facts)


def keep_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write where something is read: to replace the folder would remove its own input.

    raises   ConfigError for an input that is `out`, or lies in it
    """
    place = out.resolve()
    for path in inputs:
        if path.resolve().is_relative_to(place):
            lies = "is" if path.resolve() == place else f"lies in {out},"
            raise ConfigError(
                f"{path}, which is to be read, {lies} the folder to make. Name another with --out."
            )


@contextmanager
def begun(out: Path, facts: dict[str, Any], work: Path) -> Iterator[None]:
    """`claim` a folder for the block that fills it, and give it up where nothing came of that.

    work    where the stage keeps what is not in `out`; goes with it
    raises  what `claim` does
    """
    claim(out, facts)
    try:
        yield
    except BaseException as error:
        if not any(map(_is_work, [*out.rglob("*"), *work.rglob("*")])):
            for folder in (out, work):
                shutil.rmtree(folder, ignore_errors=True)
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            say(f"{out} is not finished: the same command goes on where it stopped.")
        raise


def _is_work(path: Path) -> bool:
    is_mark = path.name == "stage.json" and path.parent.name == _DONE
    return path.is_file() and not is_mark and not path.name.endswith(".partial")


def finish(out: Path, facts: dict[str, Any]) -> None:
    """Let a folder count as whole: no marks any more, and nothing of workers that were killed.

    A kill at any moment leaves it whole, or with marks beside it, from which `claim` goes on.
    """
    for left in out.glob(".*.partial"):
        left.unlink()
    aside = beside(out, "done")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(out / _DONE, aside)
    write_manifest(out, FORMAT, VERSION, **facts)
    shutil.rmtree(aside)


def discard(out: Path) -> None:
    """Remove what a stage has made or begun, and never anything else, so that it starts anew."""
    if (out / _DONE / "stage.json").is_file() or stage_of(out) is not None:
        shutil.rmtree(out)
        shutil.rmtree(beside(out, "done"), ignore_errors=True)


def stage_of(folder: Path) -> str | None:
    """Which stage made a folder; None where it is not whole, or somebody else's."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_json(folder / MANIFEST)
    is_ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    return str(manifest.get("stage")) if is_ours else None


def counts_of(folder: Path) -> Counts:
    """What a finished stage has counted."""
    try:
        return Counts.of_json(read_json(folder / COUNTS))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(f"{folder / COUNTS} holds no counts: the folder was damaged.") from None


def _mark(job: Job, marks: Path) -> Path:
    return marks / f"{job.out.name.partition('.')[0]}.json"


def _counts_of(job: Job, marks: Path) -> Counts | None:
    """The counts of a shard that is done, of this very input; None where it is to be done."""
    mark = _mark(job, marks)
    if not mark.is_file() or not job.out.is_file():
        return None
    try:
        values = read_json(mark, DataError)
        return Counts.of_json(values) if values["made_of"] == _made_of(job.shard) else None
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _made_of(shard: Path) -> str:
    """Stands for the state of a file: its name, size and time of change."""
    facts = shard.stat()
    known = f"{shard.name} {facts.st_size} {facts.st_mtime_ns}"
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def in_order(shards: Iterable[Path]) -> list[Path]:
    """The files of a folder of documents, by their numbers."""
    return sorted(path for path in shards if path.name.endswith(ENDING))
