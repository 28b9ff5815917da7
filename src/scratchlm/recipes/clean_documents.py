"""Documents to documents worth training on: the verb `corpus clean`."""

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import beside, locked, make_parent, read_json, write_json, write_whole
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress, counted, in_bytes
from scratchlm.cleaning.boilerplate import merge_lines
from scratchlm.cleaning.language import UNKNOWN, languages
from scratchlm.cleaning.near_duplicates import Clusters, find_clusters
from scratchlm.cleaning.recipe import load_recipe
from scratchlm.corpus.clean import (
    CleanSettings,
    OverlapAction,
    common_runs,
    facts_path,
    finish_shard,
    judge_shard,
    survey_shard,
)
from scratchlm.corpus.clean_report import cluster_examples, report
from scratchlm.corpus.evaluation_texts import check_evaluation
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.stages import (
    COUNTS,
    Counts,
    Executor,
    Work,
    begun,
    counts_of,
    discard,
    in_order,
    keep_apart,
    run_stage,
    stage_facts,
    stage_of,
)
from scratchlm.corpus.store import ENDING, read_stored, write_documents
from scratchlm.report.facts import REPORT

_N_CLUSTERS = 20  # shown, with so many members each:
_N_MEMBERS = 3


@dataclass(frozen=True)
class CleanConfig:
    """What to keep."""

    recipe: str = "web"  # web, books, chat, code, simple, none, or a .toml file of yours
    lang: str = ""  # keep these languages only, by ISO 639-1: en,zh
    evaluation: tuple[Path, ...] = ()  # evaluation sets (.jsonl .json .csv .txt) not to be learned
    on_overlap: OverlapAction = "drop"  # what to do with a document that has a text of theirs
    limit: int = 0  # look at the first so many documents only; 0 takes all
    overwrite: bool = False  # replace a folder that this made before

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ConfigError(f"limit = {self.limit} must be at least 0.")
        if self.on_overlap == "report" and not self.evaluation:
            raise ConfigError("on_overlap = 'report' needs evaluation sets: name some.")


def clean_documents(
    folder: Path | str,
    out: Path | str,
    *,
    config: CleanConfig | None = None,
    scale: Scale | None = None,
) -> Counts:
    """Clean a folder of documents: one form, languages, rules of quality, duplicates, exams.

    folder   of .jsonl.zst files, such as `extract_documents` makes
    out      gets as many files, counts.json and report.json; a run that was interrupted goes on
    returns  what became of the documents, by reason
    raises   ConfigError, DataError
    """
    config, scale = config or CleanConfig(), scale or Scale()
    folder, out = Path(folder), Path(out)
    keep_apart(out, [folder, *config.evaluation])
    recipe = load_recipe(config.recipe)
    if config.lang:
        recipe = replace(recipe, languages=_codes(config.lang))
    _check_known(recipe.languages)
    check_evaluation(config.evaluation)
    shards, executor = _shards(folder), scale.executor()
    settings = CleanSettings(
        recipe, tuple(config.evaluation), config.on_overlap, config.limit, _made_of(shards)
    )
    work = beside(out, "work")
    with locked(out, beside(out, "lock")):
        if config.overwrite:
            discard(out)
            shutil.rmtree(work, ignore_errors=True)
        cleaning = _Cleaning(folder, out, work, settings, config, executor)
        with begun(out, stage_facts("clean", settings), work):
            counts = cleaning.run(shards)
        shutil.rmtree(work)
    kept = f"{counts.n_kept:,} of {counted(counts.n_in, 'document')}"
    say(f"kept {kept}, {in_bytes(counts.kept_bytes)} of {in_bytes(counts.in_bytes)}: {out}")
    if not counts.n_kept:
        warn(f"nothing is left: {out / COUNTS} says why. Another --recipe keeps more.")
    _tell_overlaps(out, config)
    return counts


def _tell_overlaps(out: Path, config: CleanConfig) -> None:
    found = read_json(out / REPORT)["overlap"] if config.evaluation else []
    told = "kept" if config.on_overlap == "report" else "dropped"
    for one in found:
        n = counted(one["n_documents"], "document")
        say(f"Text of {one['benchmark']} stands in {n}, {told}: see {out / REPORT}.")


def _shards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        fault = "is a file, and a folder is wanted" if folder.exists() else "does not exist"
        raise DataError(
            f"{folder} {fault}: one of {ENDING} files, as scratchlm corpus extract makes them."
        )
    shards = in_order(folder.iterdir())
    if not shards:
        raise DataError(f"{folder} holds no {ENDING} files: scratchlm corpus extract makes them.")
    return shards


def _made_of(shards: Sequence[Path]) -> str:
    """Stands for the documents that a run was begun with: the names and sizes of their files."""
    known = "".join(f"{path.name} {path.stat().st_size}\n" for path in shards)
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def _codes(lang: str) -> tuple[str, ...]:
    codes = tuple(code.strip() for code in lang.split(","))
    for code in codes:
        if not re.fullmatch("[a-z]{2,3}", code):
            raise ConfigError(f"lang = {lang!r} must name languages by ISO 639-1, such as en,zh.")
    return codes


def _check_known(codes: Sequence[str]) -> None:
    if codes and (strange := set(codes) - {UNKNOWN, *(known := languages())}):
        raise ConfigError(
            f"the language {', '.join(sorted(strange))} is none that can be told: every document "
            f"would go. Known are {' '.join(known)}, and {UNKNOWN} for those that cannot be told."
        )


@dataclass(frozen=True)
class _Cleaning:
    """One run: its passes, and what is decided between them."""

    folder: Path
    out: Path
    work: Path
    settings: CleanSettings
    config: CleanConfig
    executor: Executor

    def run(self, shards: Sequence[Path]) -> Counts:
        """Do all passes, those apart that an interrupted run has finished."""
        recipe = self.settings.recipe
        if self.settings.limit:
            shards = [self._first_documents(shards)]
        counts = self._pass("judge", judge_shard, shards)
        judged = in_order((self.work / "judge").iterdir())
        if recipe.boilerplate:
            lines = [facts_path(shard, "lines") for shard in judged]
            merge_lines(lines, self.work / "lines.npy", recipe.boilerplate.table_mb)
        clusters = self._survey(judged, counts.n_kept)

        def last(finished: Counts) -> Counts:
            whole = counts.then(finished)
            write_json(self.out / REPORT, self._report(whole, judged, clusters))
            return whole

        return run_stage(
            "clean", finish_shard, judged, self.out, self.settings, self.executor, last=last
        )

    def _pass(self, name: str, work: Work, shards: Sequence[Path], ending: str = ENDING) -> Counts:
        folder = self.work / name
        if stage_of(folder) == name:
            return counts_of(folder)
        return run_stage(name, work, shards, folder, self.settings, self.executor, ending=ending)

    def _first_documents(self, shards: Sequence[Path]) -> Path:
        """A shard of the first so many documents."""
        path = self.work / f"first{ENDING}"
        make_parent(path)
        if not path.is_file():
            documents = (document for shard in shards for document in read_stored(shard))
            with write_documents(path) as write:
                for document in islice(documents, self.settings.limit):
                    write(document)
        return path

    def _survey(self, judged: Sequence[Path], n_documents: int) -> Clusters | None:
        """Which documents say the same, and what evaluation sets share with everybody."""
        duplicates, evaluation = self.settings.recipe.duplicates, self.settings.evaluation
        if not duplicates and not evaluation:
            return None
        self._pass("survey", survey_shard, judged, ".signatures")
        surveyed = [self.work / "survey" / facts_path(one, "signatures").name for one in judged]
        if evaluation:
            counted = (facts_path(path, "npy") for path in surveyed)
            with write_whole(self.work / "common.npy") as file:
                np.save(file, common_runs(evaluation, counted))
        if not duplicates:
            return None
        with Progress("compare", n_documents, unit="documents") as shown:

            def tell(step: str, n: int, of: int) -> None:  # each step goes through all of them
                shown.update(n_documents * n // max(1, of), note=step)

            clusters = find_clusters(surveyed, self.work, duplicates, tell)
            shown.update(n_documents)
        self._write_fates(judged, clusters)
        return clusters

    def _write_fates(self, judged: Sequence[Path], clusters: Clusters) -> None:
        exact = np.empty((len(clusters.leader), 2), np.uint64)
        for numbers, records in clusters.files.blocks():
            exact[numbers] = records["exact"]
        members = np.flatnonzero(~clusters.stays)
        is_equal = (exact[members] == exact[clusters.leader[members]]).all(axis=1)
        fates = np.zeros(len(exact), np.uint8)
        fates[members] = np.where(is_equal, 1, 2)
        wanted = np.array(sorted(_shown_numbers(clusters)), np.int64)
        starts = clusters.files.starts
        for shard, start, end in zip(judged, starts, starts[1:]):
            path = self.work / "fates" / facts_path(shard, "npz").name
            make_parent(path)
            here = wanted[(wanted >= start) & (wanted < end)] - start
            with write_whole(path) as file:
                np.savez(file, fates=fates[start:end], wanted=here)

    def _report(
        self, counts: Counts, judged: Sequence[Path], clusters: Clusters | None
    ) -> dict[str, Any]:
        finished = [self.work / "finished" / facts_path(one, "json").name for one in judged]
        facts = [read_json(path) for path in finished]
        before = []
        if (stage := stage_of(self.folder)) is not None:
            before = [(stage, counts_of(self.folder))]
        shown: dict[str, Any] = {"n": 0, "n_documents": 0, "examples": []}
        if clusters:
            starts = clusters.files.starts.tolist()
            excerpts = {
                start + int(number): one
                for start, shard in zip(starts, facts)
                for number, one in shard["excerpts"].items()
            }
            leaders = clusters.leader[~clusters.stays]
            n = len(np.unique(leaders))
            largest = list(clusters.largest(_N_CLUSTERS))
            shown = cluster_examples(largest, n, n + len(leaders), excerpts)
        return report(
            self.config.recipe,
            counts,
            [read_json(facts_path(shard, "json")) for shard in judged],
            facts,
            clusters.stays if clusters else None,
            shown,
            before,
        )


def _shown_numbers(clusters: Clusters) -> Iterator[int]:
    for one in clusters.largest(_N_CLUSTERS):
        yield one.leader
        yield from one.members[:_N_MEMBERS].tolist()
