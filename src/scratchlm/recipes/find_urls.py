"""Dumps of links that people voted for, to lists of pages worth fetching: `corpus urls`."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import beside, locked, write_json, write_whole
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress, counted
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.stages import (
    COUNTS,
    Counts,
    begun,
    counts_of,
    discard,
    finish,
    keep_apart,
    run_stage,
    stage_facts,
    stage_of,
)
from scratchlm.web.dumps import ENDINGS, Reading
from scratchlm.web.url_set import UrlSet
from scratchlm.web.urls import Found, Rules, candidates, canonical, unseen

SEEN = "seen.npy"
_ENDING = ".jsonl"


@dataclass(frozen=True)
class UrlsConfig:
    """Which links are kept."""

    min_score: int = 3  # votes for less votes against, at least: WebText's (Radford et al. 2019)
    years: str = ""  # only these, by submission, UTC: 2016-2018 or 2016
    allow_nsfw: bool = False  # keep what is marked as for adults
    blocked_hosts: tuple[str, ...] = ()  # more hosts to leave out, with their subdomains
    known: Path | None = None  # a folder of earlier lists: what stands there is left out
    memory_mb: int = 256  # for addresses seen; what does not fit is sorted on the disk
    limit: int = 0  # read the first so many records of each dump only; 0 takes all
    overwrite: bool = False  # replace a folder that this made before

    def __post_init__(self) -> None:
        for name, least in (("memory_mb", 1), ("limit", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least {least}.")

    def rules(self) -> Rules:
        """As the web package knows them; raises ConfigError."""
        hosts = tuple(map(_host, self.blocked_hosts))
        return Rules(self.min_score, _years(self.years), self.allow_nsfw, hosts)


def _host(text: str) -> str:
    """A host as it stands in canonical addresses."""
    host = (canonical(f"https://{text}/") or "").removeprefix("https://").removesuffix("/")
    if not host or set(host) & set("/:?"):
        raise ConfigError(f"blocked_hosts: {text!r} is no host. Write it like example.org.")
    return host


def _years(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    first, dash, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or (dash and not last):
        raise ConfigError(f"years = {text!r} must be a year or two: 2016 or 2016-2018.")
    if int(last or first) < int(first):
        raise ConfigError(f"years = {text!r} ends before it begins.")
    return int(first), int(last or first)


@dataclass(frozen=True)
class _Settings:
    """What the lists depend on, beside the dumps."""

    rules: Rules
    limit: int
    known: str


def find_urls(
    paths: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    config: UrlsConfig | None = None,
    scale: Scale | None = None,
) -> Counts:
    """Write the pages that submissions point to, each once over all dumps, in their order.

    paths    dumps (.zst .xz .bz2 .gz or JSON lines), or folders of them, read by name
    out      gets NAME.jsonl for each dump (url, canonical, score, created, id), counts.json, and
             seen.npy for `known`; a run that was interrupted goes on
    returns  what became of the records, by reason; bytes are not counted
    raises   ConfigError, DataError
    """
    config, scale, out = config or UrlsConfig(), scale or Scale(), Path(out)
    given = [Path(path) for path in ([paths] if isinstance(paths, Path | str) else paths)]
    keep_apart(out, [*given, *([config.known] if config.known else [])])
    dumps, executor = _dumps(given), scale.executor()
    settings = _Settings(config.rules(), config.limit, str(config.known or ""))
    if config.known and not (config.known / SEEN).is_file():
        raise DataError(f"{config.known} holds no {SEEN}: name a folder that corpus urls made.")
    work = beside(out, "work")
    with locked(out, beside(out, "lock")):
        if config.overwrite:
            discard(out)
            shutil.rmtree(work, ignore_errors=True)
        with begun(out, facts := stage_facts("urls", settings), work):
            if stage_of(work) == "candidates":
                counts = counts_of(work)
            else:
                counts = run_stage(
                    "candidates", list_candidates, dumps, work, settings, executor, ending=_ENDING
                )
            counts = counts.then(_write_unseen(dumps, work, out, config))
            write_json(out / COUNTS, counts.as_json())
            finish(out, facts)
        for left in (work, beside(work, "done")):
            shutil.rmtree(left, ignore_errors=True)
    say(f"{counts.n_kept:,} addresses of {counted(counts.n_in, 'record')}: {out}")
    if not counts.n_kept:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.dropped.most_common(3))
        warn(f"no address was found ({reasons or 'there are no records'}).")
    return counts


def _dumps(paths: Sequence[Path]) -> list[Path]:
    if not paths:
        raise DataError("there is nothing to read: name a dump, or a folder of some.")
    dumps: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        if path.is_dir():
            found = (one for one in path.iterdir() if one.suffix.lower() in ENDINGS)
            dumps += sorted(found, key=lambda one: one.name)
        else:
            dumps.append(path)
    if not dumps:
        names = ", ".join(map(str, paths))
        raise DataError(f"there is no dump in {names}: no file ends in {' '.join(ENDINGS)}.")
    return dumps


def list_candidates(shard: Path, out: Path, settings: _Settings) -> Counts:
    """A dump's pages, some of them several times: a job of the first pass."""
    counts, reading = Counts(), Reading()
    with write_whole(out, text=True) as file:
        for page in candidates(shard, settings.rules, counts.dropped, reading, settings.limit):
            counts.n_kept += 1
            file.write(json.dumps(asdict(page), ensure_ascii=False) + "\n")
    counts.n_in = counts.n_kept + counts.dropped.total()
    return counts


def _write_unseen(dumps: Sequence[Path], work: Path, out: Path, config: UrlsConfig) -> Counts:
    """The second pass, in order: each page where it is met first."""
    counts, taken = Counts(), Counter[str]()
    memory, scratch = config.memory_mb << 20, beside(out, "seen")
    known = config.known and UrlSet.load(config.known / SEEN, scratch, memory)
    with known or UrlSet(scratch, memory) as seen, Progress("urls", len(dumps), "dumps") as shown:
        for number, dump in enumerate(dumps):
            name = dump.name.partition(".")[0]
            taken[name] += 1
            name += f"-{taken[name]}" if taken[name] > 1 else ""
            listed = work / f"{number:05}{_ENDING}"
            with write_whole(out / f"{name}{_ENDING}", text=True) as file:
                n_kept = 0
                for page in unseen(_read(listed, counts), seen):
                    n_kept += 1
                    file.write(json.dumps(asdict(page), ensure_ascii=False) + "\n")
            counts.n_kept += n_kept
            shown.advance(1, note=f"{counts.n_kept:,} addresses")
        counts.dropped["duplicate"] = counts.n_in - counts.n_kept
        seen.save(out / SEEN)
    shutil.rmtree(scratch, ignore_errors=True)
    return counts


def _read(path: Path, counts: Counts) -> Iterator[Found]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            counts.n_in += 1
            yield Found(**json.loads(line))
