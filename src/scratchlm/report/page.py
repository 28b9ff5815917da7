"""A report as one HTML page that loads nothing, holds no script, and shows any text as text.

Three walls stand between the texts of the web and the reader: `readable` (report.py), jinja2's
escaping of everything, and a Content-Security-Policy that allows one style sheet, named by its
hash, and nothing else. So no element has a style attribute: sizes are attributes of SVG.
"""

import base64
import functools
import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from scratchlm.report.charts import chars_of, draw_histogram
from scratchlm.report.differences import CUT, differences
from scratchlm.report.facts import Leader, Match, Member, Report, Sample, readable
from scratchlm.report.flow import SHEETS, Gate, Picture, Terms, draw_flow
from scratchlm.report.words import Language, Words

MOST_BYTES = 2_000_000  # of a page
_PAGE = Path(__file__).parent / "template"
_ROOMS = ((480, 50), (240, 25), (120, 12), (60, 6))  # characters of a text, rows of a list
_MOST_LINES = 12  # of a text
_SAMPLES = 5  # documents of a rule, of a cluster, of an evaluation set
_NAME = 120  # characters of the longest name
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Flow:
    """The flow in one unit, "documents" or "bytes", drawn for a screen and for a telephone."""

    unit: str
    title: str
    pictures: tuple[Picture, ...]


def render(report: Report, folder: str, language: Language) -> str:
    """The page. Texts and lists are cut as far as it takes to stay below MOST_BYTES.

    folder   the name of the folder that the report is about
    """
    for chars, rows in _ROOMS:
        page = _template().render(_facts(report, readable(folder), Words(language), chars, rows))
        if len(page.encode()) < MOST_BYTES:
            return page
    raise AssertionError(f"{len(page):,} characters of a page that has cut everything")


def _template() -> jinja2.Template:
    return page_template(_PAGE, "report.html")


@functools.cache
def page_template(folder: Path, name: str) -> jinja2.Template:
    """The template of a page, which escapes everything; parts.html is there for all of them."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _PAGE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def page_style() -> str:
    """The style sheet that all pages have."""
    return (_PAGE / "report.css").read_text("utf-8")


def _facts(report: Report, folder: str, words: Words, chars: int, rows: int) -> dict[str, Any]:
    """Everything that report.html names."""
    style = page_style()
    rules = sorted(report.rules.items(), key=lambda item: -item[1].n_dropped)
    facts = {
        "r": report,
        "w": words,
        "folder": cut(folder, _NAME),
        "chars": chars,
        "rows": rows,
        "most_samples": _SAMPLES,
        "style": style,
        "policy": policy_of(style),
        "flows": _flows(report, words, min(chars, _NAME)),
        "histograms": [
            draw_histogram(code, report.lengths[code], words)
            for code, n in by_number({code: sum(n) for code, n in report.lengths.items()})
            if n
        ],
        "languages": sorted(report.languages.items(), key=lambda item: -item[1].n),
        "busy_rules": [one for one in rules if one[1].n_dropped],
        "idle_rules": [one for one in rules if not one[1].n_dropped],
        "most_dropped": max((rule.n_dropped for _, rule in rules), default=0),
        "closest": lambda documents: sorted(documents, key=lambda one: abs(one.score - 1)),
        "personal": by_number(report.personal),
        "by_number": by_number,
        "cut": lambda text, most=chars: cut(text, min(most, chars)),
        "differences": differences,
        "few": lambda items: items[:rows],
        "gauge_at": gauge_at,
        "columns": lambda found: [(cut(words.tongue(one.code), _NAME), "n") for one in found],
        "length_rows": lambda found: _length_rows([report.lengths[one.code] for one in found]),
        "linked": linked,
        "percent": percent,
        "places": places,
        "percentage": lambda part: words.share(round(10_000 * part), 10_000),
    }
    return {**facts, "sections": _sections(facts)}


def _sections(facts: dict[str, Any]) -> list[str]:
    """The sections that the page has, in their order."""
    report = facts["r"]
    optional = {
        "languages": facts["languages"],
        "lengths": facts["histograms"],
        "sources": report.sources,
        "rules": report.rules,
        "boilerplate": report.boilerplate,
    }
    order = (
        *("flow", "languages", "lengths", "sources", "rules", "clusters", "overlap", "personal"),
        "boilerplate",
    )
    return [name for name in order if optional.get(name, True)]


def _length_rows(columns: list[tuple[int, ...]]) -> list[tuple[str, str, list[int]]]:
    """The rows of a table: least and most characters, and the documents of each language."""
    rows = list(itertools.zip_longest(*columns, fillvalue=0))
    met = [i for i, row in enumerate(rows) if any(row)]
    return [(*chars_of(i), list(rows[i])) for i in range(met[0], met[-1] + 1)]


def policy_of(style: str) -> str:
    """The Content-Security-Policy of a page whose one style sheet is this text."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _flows(report: Report, words: Words, chars: int) -> list[Flow]:
    """The flow in documents, and in bytes where each stage says how many it kept."""
    gates = []
    for stage in report.stages:
        leaving: Counter[str] = Counter()
        for reason, n in stage.dropped.items():
            leaving[cut(words.reason(reason), chars)] += n
        gates.append(Gate(cut(words.stage(stage.name), chars), stage.n_in, stage.n_kept, leaving))
    terms = Terms(
        words.number,
        words.share,
        lambda n: words("other_reasons", n=words.number(n)),
        words("nothing_dropped"),
        words("flow_in", amount=words.documents(report.n_in)),
        words("flow_out", amount=words.documents(report.n_kept)),
    )
    flows = [_flow("documents", gates, terms, words)]
    if len(report.stages) > 1 and all(stage.n_bytes for stage in report.stages if stage.n_kept):
        flows.append(_flow_of_bytes(report, terms, words, chars))
    return flows


def _flow_of_bytes(report: Report, terms: Terms, words: Words, chars: int) -> Flow:
    """It begins with what the first stage kept: what came in before is not text yet."""
    gates = []
    for before, stage in itertools.pairwise(report.stages):
        lost = max(0, before.n_bytes - stage.n_bytes)
        name = cut(words.stage(stage.name), chars)
        gates.append(Gate(name, before.n_bytes, before.n_bytes - lost, {"": lost}))
    terms = replace(
        terms,
        amount=words.size,
        nothing=words("all_text_kept"),
        start=words("flow_in", amount=words.size(report.stages[0].n_bytes)),
        end=words("flow_out", amount=words.size(report.n_bytes)),
    )
    return _flow("bytes", gates, terms, words)


def _flow(unit: str, gates: list[Gate], terms: Terms, words: Words) -> Flow:
    title = words("chart_of_flow", start=terms.start, end=terms.end)
    return Flow(unit, title, tuple(draw_flow(gates, sheet, terms) for sheet in SHEETS))


def by_number(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The highest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def cut(text: str, most: int) -> str:
    """At most so many characters and a few lines without empty ones; what goes on ends in CUT."""
    lines = [line for line in text.split("\n") if line.strip()]
    left = "\n".join(lines[:_MOST_LINES])
    if len(lines) <= _MOST_LINES and len(left) <= most:
        return left
    return left[:most].rstrip() + CUT


def places(document: Sample | Leader | Member | Match) -> list[str]:
    """Where a document is from: its address and its id. A path stays out: the id ends like it,
    and a page that is sent about need not tell how folders are called.
    """
    is_path = "://" not in document.source and re.search(r"[/\\]", document.source)
    return list(dict.fromkeys([document.id] if is_path else [document.source, document.id]))


def linked(text: str) -> list[tuple[str, str]]:
    """A text in pieces, each with its address or ""; a link is a number of arXiv, nothing else."""
    pieces = _ARXIV.split(text)  # text, number, text, number, ... text
    pairs = itertools.zip_longest(pieces[::2], pieces[1::2], fillvalue="")
    found = []
    for before, number in pairs:
        found += [(before, ""), (f"arXiv:{number}", f"https://arxiv.org/abs/{number}")]
    return [(piece, link) for piece, link in found[:-1] if piece]


def percent(part: int, whole: int) -> str:
    """The width of a bar, 0 to 100; what is there can be seen."""
    return f"{max(100 * part / whole, 0.3):.2f}" if part and whole else "0"


def gauge_at(score: float) -> str:
    """Where a score stands on a scale from 4 to 56 whose middle is the limit.

    Twice beyond is as far from it as half of it; the ends are four times beyond, and a quarter.
    """
    doublings = math.log2(max(score, 0.25))
    return f"{30 + 13 * min(doublings, 2.0):.1f}"
