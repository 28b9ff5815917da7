"""Cleaning in passes from shard to shard, and between them what only the whole corpus tells.

    docs/ --judge--> WORK/judge --survey--> WORK/survey; WORK/judge --finish--> clean/

What is not a document lies in WORK, the hidden folder beside clean/: judge/ and survey/ with the
facts of each shard beside it, lines.npy, common.npy, fates/ and finished/.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np

from scratchlm.base.files import beside, make_parent, write_json, write_whole
from scratchlm.cleaning.boilerplate import LineCounts, drop_boilerplate, page_keys, write_lines
from scratchlm.cleaning.language import language
from scratchlm.cleaning.near_duplicates import write_signatures
from scratchlm.cleaning.normalise import normalise, simplify
from scratchlm.cleaning.overlap import Benchmarks, Frequencies, Match
from scratchlm.cleaning.personal import mask
from scratchlm.cleaning.quality import judge
from scratchlm.cleaning.recipe import CleanRecipe
from scratchlm.corpus.evaluation_texts import evaluation_texts
from scratchlm.corpus.read import Document
from scratchlm.corpus.samples import Samples, excerpt
from scratchlm.corpus.stages import Counts
from scratchlm.corpus.store import n_bytes, read_stored, write_documents

EMPTY = "empty"
NOTHING_LEFT = "boilerplate: nothing left"
FATES = ("", "duplicate: equal", "duplicate: similar")  # by number in fates/
_FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "normal": normalise,
    "simple": simplify,
}
_EXAMPLES = 10  # of a kind, in a shard
_HOST = re.compile(r"(?:www\.)?([^:/?#]+)")

OverlapAction = Literal["drop", "report"]


@dataclass(frozen=True)
class CleanSettings:
    """What the passes depend on, beside the documents."""

    recipe: CleanRecipe
    evaluation: tuple[Path, ...] = ()  # files of evaluation sets, which must not be learned
    on_overlap: OverlapAction = "drop"
    limit: int = 0  # documents; 0 takes all
    made_of: str = ""  # stands for the files of documents


@dataclass
class Facts:
    """What the report shows of one shard; written beside it."""

    sources: Counter[str] = field(default_factory=Counter)  # documents that came in
    source_bytes: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    language_bytes: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Counter[str]] = field(default_factory=dict)  # language: log2 of characters
    personal: Counter[str] = field(default_factory=Counter)
    boilerplate: dict[str, int] = field(default_factory=dict)  # pages of "site, line end, line"
    overlap: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    n_overlaps: Counter[str] = field(default_factory=Counter)  # documents with one, by set
    cut: Counter[str] = field(default_factory=Counter)  # bytes of documents that stay, by step
    excerpts: dict[str, dict[str, str]] = field(default_factory=dict)  # by number in the shard

    def keep(self, document: Document, lang: str) -> None:
        """Count a document that stays."""
        size, power = n_bytes(document.text), str(max(0, len(document.text).bit_length() - 1))
        for counter, amount in ((self.languages, 1), (self.language_bytes, size)):
            counter[lang] += amount
        self.lengths.setdefault(lang, Counter())[power] += 1
        site = site_of(document)
        self.sources[site] += 1
        self.source_bytes[site] += size


def judge_shard(shard: Path, out: Path, settings: CleanSettings) -> Counts:
    """The first pass: one form, languages, rules of quality."""
    recipe, counts, samples = settings.recipe, Counts(), Samples()
    sources, cut = Counter[str](), Counter[str]()
    keys = []
    with write_documents(out) as write:
        for document in read_stored(shard):
            size, text = n_bytes(document.text), _FORMS[recipe.form](document.text)
            sources[site_of(document)] += 1
            if not text.strip():
                counts.drop(EMPTY, size)
                continue
            lang = language(text)
            if recipe.languages and lang not in recipe.languages:
                counts.drop(f"language: {lang}", size)
                continue
            judged = judge(text, lang, recipe.limits(lang))
            samples.see(document, judged, lang, -1 if judged.reason else counts.n_kept)
            if judged.reason:
                counts.drop(judged.reason, size)
                continue
            meta = {**document.meta, "language": lang}
            write(replace(document, text=judged.text, meta=meta))
            normal, left = n_bytes(text), n_bytes(judged.text)
            counts.keep(size, left)
            cut["normalise"] += size - normal
            cut["quality"] += normal - left
            if recipe.boilerplate:
                keys.append(page_keys(site_of(document), judged.text))
    if recipe.boilerplate:
        write_lines(keys, facts_path(out, "lines"))
    facts = {"n_kept": counts.n_kept, "sources": dict(sources), "rules": samples.as_json()}
    write_json(facts_path(out, "json"), {**facts, "cut": dict(cut)})
    return counts


def survey_shard(shard: Path, out: Path, settings: CleanSettings) -> Counts:
    """The second pass: signatures against duplicates, and how frequent evaluation texts are."""
    counts, frequencies = Counts(), None
    if settings.evaluation:
        frequencies = Frequencies(_benchmarks(settings.evaluation))
    lines = _line_counts(settings, out.parent.parent)

    def texts() -> Iterator[str]:
        for document in read_stored(shard):
            text = _without_boilerplate(document, lines, settings)[0]
            if frequencies:
                frequencies.add(text)
            counts.keep(n_bytes(text), n_bytes(text))
            yield text

    write_signatures(texts(), out)
    if frequencies:
        with write_whole(facts_path(out, "npy")) as file:
            np.save(file, frequencies.counts)
    return counts


def finish_shard(shard: Path, out: Path, settings: CleanSettings) -> Counts:
    """The last pass: boilerplate, duplicates and evaluation texts go, personal data is masked."""
    work, counts, facts = beside(out.parent, "work"), Counts(), Facts()
    fates, wanted = _fates(work, out)
    lines = _line_counts(settings, work)
    with write_documents(out) as write:
        for i, document in enumerate(read_stored(shard)):
            if i in wanted:
                facts.excerpts[str(i)] = _shown(document, excerpt=excerpt(document.text))
            size = n_bytes(document.text)
            text, dropped = _without_boilerplate(document, lines, settings)
            _note_boilerplate(facts, dropped, site_of(document))
            reason = NOTHING_LEFT if not text.strip() else FATES[fates[i]] if len(fates) else ""
            if not reason:
                reason = _overlap(replace(document, text=text), settings, work, facts)
            if reason:
                counts.drop(reason, size)
                continue
            left = n_bytes(text)
            facts.cut["boilerplate"] += size - left
            if settings.recipe.mask_personal_data:
                text, found = mask(text)
                facts.personal.update(found)
                facts.cut["personal data"] += left - n_bytes(text)
            document = replace(document, text=text)
            write(document)
            counts.keep(size, n_bytes(text))
            facts.keep(document, document.meta["language"])
    make_parent(_finished(work, out))
    write_json(_finished(work, out), vars(facts))
    return counts


def site_of(document: Document) -> str:
    """The host of a page, or the folder of a file: what shares its menus and footers."""
    address = str(document.meta.get("url") or document.source)
    if address.startswith(("http://", "https://")):
        host = _HOST.match(urlsplit_host(address))
        return host[1] if host else address
    return Path(document.source).parent.name or "."


def urlsplit_host(address: str) -> str:
    """The host of an address in lower case; "" where it is damaged."""
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def facts_path(out: Path, ending: str) -> Path:
    """What a pass writes beside the shard `out`."""
    return out.with_name(f"{out.name.partition('.')[0]}.{ending}")


def _finished(work: Path, out: Path) -> Path:
    return work / "finished" / facts_path(out, "json").name


def _fates(work: Path, out: Path) -> tuple[np.ndarray, set[int]]:
    """Of each document of a shard its place in FATES, and whose excerpts the report shows."""
    path = work / "fates" / facts_path(out, "npz").name
    if not path.is_file():
        return np.zeros(0, np.uint8), set()
    with np.load(path) as stored:
        return stored["fates"], set(stored["wanted"].tolist())


def _line_counts(settings: CleanSettings, work: Path) -> LineCounts | None:
    return LineCounts(work / "lines.npy") if settings.recipe.boilerplate else None


def _without_boilerplate(
    document: Document, lines: LineCounts | None, settings: CleanSettings
) -> tuple[str, dict[str, int]]:
    if lines is None or settings.recipe.boilerplate is None:
        return document.text, {}
    return drop_boilerplate(document.text, site_of(document), lines, settings.recipe.boilerplate)


def _note_boilerplate(facts: Facts, dropped: dict[str, int], site: str) -> None:
    facts.boilerplate.update({f"{site}\n{line}": n_pages for line, n_pages in dropped.items()})
    if len(facts.boilerplate) > 10 * _EXAMPLES:
        facts.boilerplate = most_pages(facts.boilerplate, _EXAMPLES)


def most_pages(lines: dict[str, int], n: int) -> dict[str, int]:
    """Of boilerplate lines those that stand on most pages."""
    return dict(sorted(lines.items(), key=lambda one: (-one[1], one[0]))[:n])


def _overlap(document: Document, settings: CleanSettings, work: Path, facts: Facts) -> str:
    """The reason to drop a document that has a text of an evaluation set; "" otherwise."""
    if not settings.evaluation:
        return ""
    matches = _rare_benchmarks(settings.evaluation, work / "common.npy").find(document.text)
    for name in sorted({match.benchmark for match in matches}):
        facts.n_overlaps[name] += 1
        if len(shown := facts.overlap.setdefault(name, [])) < _EXAMPLES:
            shown.append(_shown(document, match=_longest(matches, name)))
    if matches and settings.on_overlap == "drop":
        return f"overlap: {matches[0].benchmark}"
    return ""


def _longest(matches: list[Match], name: str) -> str:
    return excerpt(max((m.text for m in matches if m.benchmark == name), key=len))


def _shown(document: Document, **more: str) -> dict[str, str]:
    return {"id": document.id, "source": document.source, **more}


@lru_cache(maxsize=2)
def _benchmarks(paths: tuple[Path, ...]) -> Benchmarks:
    return Benchmarks.collect({path.name: evaluation_texts(path) for path in paths})


@lru_cache(maxsize=2)
def _rare_benchmarks(paths: tuple[Path, ...], common: Path) -> Benchmarks:
    """The evaluation sets without what very many documents say."""
    return _benchmarks(paths).without(np.load(common))


def common_runs(paths: tuple[Path, ...], counted: Iterator[Path]) -> np.ndarray:
    """Add up what the second pass counted: the runs of words that are no sign of an exam."""
    frequencies = Frequencies(_benchmarks(paths))
    for path in counted:
        frequencies.counts += np.load(path)
    return frequencies.common()
