"""What cleaning found, as the report shows it: `report.json`, from the facts of all shards."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scratchlm.cleaning.limits import PAPERS
from scratchlm.cleaning.near_duplicates import Cluster
from scratchlm.corpus.clean import EMPTY, FATES, NOTHING_LEFT, most_pages
from scratchlm.corpus.samples import N_SAMPLES, Sample, Samples, best_first
from scratchlm.corpus.stages import Counts
from scratchlm.report.facts import FORMAT, VERSION

_N_SOURCES = 50
_N_LINES = 30
_N_MATCHES = 10
_TOKENS = {"zh": (2.5, 4.0), "": (3.8, 5.0)}  # bytes of UTF-8 in a token: fewest and most, measured
_STAGES = ("normalise", "language", "quality", "boilerplate", "exact duplicates",
           "near duplicates", "overlap", "personal data")  # fmt: skip
_STAGE_OF = {
    EMPTY: "normalise",
    NOTHING_LEFT: "boilerplate",
    FATES[1]: "exact duplicates",
    FATES[2]: "near duplicates",
}


def stage_of(reason: str) -> str:
    """Which step of cleaning drops for a reason."""
    first = reason.partition(":")[0]
    return _STAGE_OF.get(reason) or (first if first in ("language", "overlap") else "quality")


def stages(
    counts: Counts, before: Sequence[tuple[str, Counts]], cut: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Each step with what came in, stayed and went.

    before   the stages that came first
    cut      by step: bytes that it took out of documents that stay
    """
    rows = [
        {"name": name, "n_in": one.n_in, "n_kept": one.n_kept, "n_bytes": one.kept_bytes,
         "dropped": one.as_json()["dropped"]}
        for name, one in before
    ]  # fmt: skip
    left, size = counts.n_in, counts.in_bytes
    for name in _STAGES:
        dropped = counts.as_json()["dropped"]
        reasons = {why: n for why, n in dropped.items() if stage_of(why) == name}
        n_in, left = left, left - sum(reasons.values())
        size -= sum(counts.dropped_bytes[why] for why in reasons) + cut.get(name, 0)
        row = {"name": name, "n_in": n_in, "n_kept": left, "dropped": reasons, "n_bytes": size}
        rows.append(row)
    return rows


def report(
    recipe: str,
    counts: Counts,
    judged: Sequence[Mapping[str, Any]],
    finished: Sequence[Mapping[str, Any]],
    stays: np.ndarray | None,
    clusters: Mapping[str, Any],
    before: Sequence[tuple[str, Counts]],
) -> dict[str, Any]:
    """Everything that the page shows.

    judged, finished   the facts of the first and the last pass, shard by shard
    stays              (n,) bool: whether a judged document is no duplicate; None: not looked for
    clusters           what `cluster_examples` gave
    """
    sizes = _added(finished, "language_bytes")
    n, languages = _added(finished, "languages"), {}
    for lang in sorted(sizes, key=lambda lang: (-sizes[lang], lang)):
        languages[lang] = {"n": n[lang], "n_bytes": sizes[lang]}
    sources = _added(judged, "sources")
    return {
        "format": FORMAT,
        "version": VERSION,
        "recipe": recipe,
        "stages": stages(counts, before, _added([*judged, *finished], "cut")),
        "languages": languages,
        "lengths": _lengths(finished),
        "sources": _sources(sources, finished),
        "n_sources": len(sources),
        "tokens": _tokens(sizes),
        "rules": _rules(counts, judged, stays),
        "clusters": clusters,
        "overlap": _overlaps(finished),
        "personal": dict(_added(finished, "personal").most_common()),
        "boilerplate": _boilerplate(finished),
    }


def _added(shards: Sequence[Mapping[str, Any]], key: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard[key])
    return total


def _lengths(finished: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    totals: dict[str, Counter[str]] = {}
    for shard in finished:
        for lang, lengths in shard["lengths"].items():
            totals.setdefault(lang, Counter()).update(lengths)
    return {
        lang: [total[str(power)] for power in range(max(map(int, total)) + 1)]
        for lang, total in sorted(totals.items(), key=lambda one: (-one[1].total(), one[0]))
    }


def _sources(n_in: Counter[str], finished: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    n_kept, sizes = _added(finished, "sources"), _added(finished, "source_bytes")
    largest = sorted(n_in, key=lambda name: (-sizes[name], -n_in[name], name))[:_N_SOURCES]
    return [
        {"name": name, "n_in": n_in[name], "n_kept": n_kept[name], "n_bytes": sizes[name]}
        for name in largest
    ]


def _tokens(sizes: Counter[str]) -> dict[str, Any]:
    """How many tokens a vocabulary of 8,000 to 50,000 makes of so many bytes in each language."""
    bounds = [(n, _TOKENS.get(lang, _TOKENS[""])) for lang, n in sizes.items()]
    return {
        "low": round(sum(n / most for n, (_, most) in bounds)),
        "high": round(sum(n / fewest for n, (fewest, _) in bounds)),
        "how": "2.5 to 4 bytes a token in Chinese, 3.8 to 5 in other languages",
    }


def _rules(
    counts: Counts, judged: Sequence[Mapping[str, Any]], stays: np.ndarray | None
) -> dict[str, Any]:
    samples, first = Samples(), 0
    for shard in judged:
        samples.add(shard["rules"], first)
        first += shard["n_kept"]
    rules = {}
    for rule in sorted(samples.kept.keys() | samples.dropped.keys()):
        kept = [
            one
            for one in best_first(samples.kept.get(rule, []))
            if one.score > 0 and (stays is None or stays[one.number])
        ][:N_SAMPLES]
        dropped = list(best_first(samples.dropped.get(rule, [])))[:N_SAMPLES]
        if kept or dropped:
            rules[rule] = {
                "n_dropped": counts.dropped[rule],
                "limit": _limits([*kept, *dropped]),
                "paper": PAPERS.get(rule.partition(":")[0], ""),
                "kept": [_shown(one) for one in kept],
                "dropped": [_shown(one) for one in dropped],
            }
    return rules


def _limits(samples: Sequence[Sample]) -> str:
    limits = sorted({(one.language, one.limit) for one in samples})
    if len({limit for _, limit in limits}) == 1:
        return f"{limits[0][1]:g}"
    return ", ".join(f"{lang}: {limit:g}" for lang, limit in limits)


def _shown(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "source": sample.source,
        "score": sample.score,
        "excerpt": sample.excerpt,
    }


def _overlaps(finished: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    n, examples = _added(finished, "n_overlaps"), Counter[str]()
    found: dict[str, list[dict[str, str]]] = {name: [] for name, _ in n.most_common()}
    for shard in finished:
        for name, shown in shard["overlap"].items():
            found[name] += shown[: _N_MATCHES - examples[name]]
            examples[name] = len(found[name])
    return [
        {"benchmark": name, "n_documents": n[name], "examples": shown}
        for name, shown in found.items()
    ]


def _boilerplate(finished: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    lines: dict[str, int] = {}
    for shard in finished:
        lines.update(shard["boilerplate"])
    shown = []
    for both, n_pages in most_pages(lines, _N_LINES).items():
        site, _, line = both.partition("\n")
        shown.append({"host": site, "line": line, "n_pages": n_pages})
    return shown


def cluster_examples(
    clusters: Sequence[Cluster], n: int, n_documents: int, shown: Mapping[int, dict[str, str]]
) -> dict[str, Any]:
    """The largest sets of documents that say the same.

    n, n_documents   sets of two and more, and documents in them
    shown            the excerpts, by number
    """
    examples = [
        {
            "size": len(one.members) + 1,
            "leader": shown[one.leader],
            "members": [
                {**shown[number], "similarity": float(similar)}
                for number, similar in zip(one.members.tolist(), one.similarities)
                if number in shown
            ],
        }
        for one in clusters
        if one.leader in shown
    ]
    return {"n": n, "n_documents": n_documents, "examples": examples}
