"""Files of any kind and web pages to documents: the verb `corpus extract`."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from scratchlm.base.files import MANIFEST, beside, locked, read_json
from scratchlm.base.log import say
from scratchlm.base.progress import counted, in_bytes
from scratchlm.corpus import bundled
from scratchlm.corpus.contents import Part
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.extract import FAILED, OLDER, ExtractConfig, ExtractSettings, extract_shard
from scratchlm.corpus.shards import find_sources, fingerprint, plan_shards, write_plan
from scratchlm.corpus.stages import (
    Counts,
    begun,
    discard,
    keep_apart,
    run_stage,
    stage_facts,
    stage_of,
)
from scratchlm.corpus.verdicts import write_verdicts
from scratchlm.extraction.libraries import versions

_N_REASONS = 5  # that are told; counts.json has all


def extract_documents(
    paths: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    config: ExtractConfig | None = None,
    scale: Scale | None = None,
    overwrite: bool = False,
) -> Counts:
    """Turn files and folders of any kind into a folder of documents.

    out         gets .jsonl.zst files, counts.json and failed/, which says of each document that
                gave no text why; a run that was interrupted goes on
    overwrite   replace a folder that this made before. What ran into a limit there, with the same
                settings and the same bytes, is left out without another trial
    returns     what became of the documents, members of archives among them, by reason
    raises      ConfigError, DataError
    """
    config, scale, out = config or ExtractConfig(), scale or Scale(), Path(out)
    given = bundled.resolve_all(paths)
    keep_apart(out, map(Path, given))
    files = find_sources(given, without=out)
    executor = scale.executor()
    settings = ExtractSettings(config, fingerprint(files), versions())
    work = beside(out, "work")
    with locked(out, beside(out, "lock")):
        if overwrite:
            _start_anew(out, work, settings)
        elif not out.is_dir() or not any(out.iterdir()):  # somebody has removed what was begun
            shutil.rmtree(work, ignore_errors=True)
        with begun(out, stage_facts("extract", settings), work / "verdicts"):
            # the first documents are those of one shard that holds all files
            shards = [[Part(file) for file in files]] if config.limit else plan_shards(files)
            plan = write_plan(work / "plan", shards)
            tidy = partial(_tidy, out)
            counts = run_stage("extract", extract_shard, plan, out, settings, executor, last=tidy)
        shutil.rmtree(work)
    _tell(counts, out)
    return counts


def _start_anew(out: Path, work: Path, settings: ExtractSettings) -> None:
    """Discard what an earlier run has made, but for its verdicts if it would find the same."""
    shutil.rmtree(work, ignore_errors=True)
    if stage_of(out) == "extract":
        before = read_json(out / MANIFEST)["settings"]
        now = json.loads(json.dumps(stage_facts("extract", settings)["settings"]))
        if {**before, "made_of": ""} == {**now, "made_of": ""}:
            write_verdicts(work / "verdicts" / OLDER, sorted((out / FAILED).glob("*.jsonl")))
    discard(out)


def _tidy(out: Path, counts: Counts) -> Counts:
    """Remove what workers that were killed have left among the lists of failures."""
    for left in (out / FAILED).glob(".*.partial"):
        left.unlink()
    with suppress(OSError):
        (out / FAILED).rmdir()  # nothing has failed
    return counts


def _tell(counts: Counts, out: Path) -> None:
    kept = f"{counts.n_kept:,} of {counted(counts.n_in, 'document')}"
    say(f"kept {kept}, {in_bytes(counts.kept_bytes)} of text: {out}")
    if counts.dropped:
        reasons = counts.dropped.most_common(_N_REASONS)
        told = ", ".join(f"{n:,} {reason}" for reason, n in reasons)
        rest = ", ..." if len(counts.dropped) > _N_REASONS else ""
        say(f"Left out: {told}{rest}. Each is listed in {out / FAILED}.")
