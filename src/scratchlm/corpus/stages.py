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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import MANIFEST, read_json, write_json, write_manifest
from scratchlm.base.progress import Progress
from scratchlm.corpus.store import ENDING

FORMAT = "scratchlm documents"
VERSION = 1
COUNTS = "counts.json"
_DONE = ".done"


@dataclass
class Counts:
    """What became of documents.

    dropped   by reason
    n_bytes   of the text that was kept
    """

    n_in: int = 0
    n_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    n_bytes: int = 0

    def keep(self, n_bytes: int) -> None:
        """Count a document that stays."""
        self.n_in += 1
        self.n_kept += 1
        self.n_bytes += n_bytes

    def drop(self, reason: str) -> None:
        """Count a document that goes."""
        self.n_in += 1
        self.dropped[reason] += 1

    def add(self, other: "Counts") -> None:
        """Count what another one has counted."""
        self.n_in += other.n_in
        self.n_kept += other.n_kept
        self.dropped += other.dropped
        self.n_bytes += other.n_bytes

    def as_json(self) -> dict[str, Any]:
        """For files; the reasons by how often they were met."""
        return {**asdict(self), "dropped": dict(self.dropped.most_common())}

    @classmethod
    def of_json(cls, values: Any) -> "Counts":
        """What `as_json` gave; raises KeyError or TypeError for anything else."""
        counted = Counter({str(reason): int(n) for reason, n in values["dropped"].items()})
        return cls(int(values["n_in"]), int(values["n_kept"]), counted, int(values["n_bytes"]))


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

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Counts]]:
        """Each job with its counts, as they end.

        raises   DataError naming the shard for a job that cannot be done
        """
        ...


def run_stage(
    name: str, work: Work, shards: Sequence[Path], out: Path, settings: Any, executor: Executor
) -> Counts:
    """Make every shard of a folder, those apart that were done before, and say what became of all.

    name       of the stage, for the manifest and the progress
    settings   a dataclass: what `work` depends on besides the shard
    raises     ConfigError for a folder that other settings, another stage or somebody else made
    """
    facts = {"stage": name, "settings": asdict(settings)}
    marks = out / _DONE
    _check(out, facts)
    marks.mkdir(parents=True, exist_ok=True)
    write_json(marks / "stage.json", facts)
    total, jobs = Counts(), []
    for number, shard in enumerate(shards):
        job = Job(work, shard, out / f"{number:05}{ENDING}", settings)
        known = _counts_of(job, marks)
        if known is None:
            jobs.append(job)
        else:
            total.add(known)
    with Progress(name, len(shards), unit="shards", start=len(shards) - len(jobs)) as shown:
        for job, counts in executor.run(jobs):
            write_json(_mark(job, marks), {"made_of": _made_of(job.shard), **counts.as_json()})
            total.add(counts)
            shown.advance(1, note=f"{total.n_kept:,} of {total.n_in:,} documents kept")
    if total.n_in != total.n_kept + total.dropped.total():
        raise AssertionError(f"{name}: {total} does not add up")
    write_json(out / COUNTS, total.as_json())
    for path in marks.iterdir():
        path.unlink()
    marks.rmdir()
    write_manifest(out, FORMAT, VERSION, **facts)
    return total


def _check(out: Path, facts: dict[str, Any]) -> None:
    """Refuse a folder that is finished, or that something else began."""
    if (out / MANIFEST).is_file():
        raise ConfigError(f"{out} exists. Name another folder, or give --overwrite.")
    begun = out / _DONE / "stage.json"
    if not begun.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise ConfigError(f"{out} holds something else. Name another folder.")
        return
    if read_json(begun, DataError) != json.loads(json.dumps(facts)):
        raise ConfigError(
            f"{out} was begun by another stage, or with other settings. Go on with those, name "
            "another folder, or give --overwrite."
        )


def _mark(job: Job, marks: Path) -> Path:
    return marks / f"{job.out.name.removesuffix(ENDING)}.json"


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
