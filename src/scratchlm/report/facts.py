"""What became of a corpus: the file report.json that `clean` leaves in its folder.

It holds counts and samples; the page that is made of it is in page.py. Texts in it come
from the web, where everything occurs: each is made showable here, before anybody else sees it.
"""

import dataclasses
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from scratchlm.base.errors import DataError
from scratchlm.base.files import read_json

REPORT = "report.json"
FORMAT = "scratchlm corpus report"
VERSION = 1
_MOST_STAGES = 20  # clean has ten; so many still make a picture
_MOST_LENGTHS = 48  # no document has 2**48 characters
_MOST = 1 << 63

_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_NO_CHARACTERS = re.compile("[\x80-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_PICTURES = {i: 0x2400 + i for i in range(32) if chr(i) not in "\t\n"} | {127: 0x2421}


def readable(text: str) -> str:
    """A text that every browser shows as what it is.

    Control characters become their pictures (U+2400 for NUL), half surrogates U+FFFD; characters
    that turn the direction of writing are spelled out, or they would turn the page's own words.
    """
    if text.isprintable():  # has none of these, which are all control or format characters
        return text
    text = _LINE_ENDS.sub("\n", text).translate(_PICTURES)
    text = _DIRECTIONS.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)
    return _NO_CHARACTERS.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage did: n_in = n_kept + what was dropped, by reason.

    n_bytes   of the text that was kept
    """

    name: str
    n_in: int
    n_kept: int
    dropped: dict[str, int]
    n_bytes: int

    def __post_init__(self) -> None:
        if self.n_in != self.n_kept + sum(self.dropped.values()):
            raise DataError(f"stage {self.name!r} does not add up")


@dataclass(frozen=True, slots=True)
class Amount:
    """Documents kept, and the bytes of their text."""

    n: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """A host or a folder, and what became of its documents."""

    name: str
    n_in: int
    n_kept: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """How many tokens the text will have, between two estimates."""

    low: int
    high: int
    how: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A document as a rule saw it; `score` above 1 was dropped, near 1 is a close call."""

    id: str
    source: str
    score: float
    excerpt: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of quality: its limit, where it is from, the worst it kept, the best it dropped."""

    n_dropped: int
    limit: str
    paper: str
    kept: tuple[Sample, ...]
    dropped: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Leader:
    """The document of a cluster that stays."""

    id: str
    source: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Member:
    """A document that is nearly its leader; `similarity` is from 0 to 1."""

    id: str
    source: str
    excerpt: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """Documents that are nearly the same, of which one stays."""

    size: int
    leader: Leader
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Clusters:
    """All clusters, and a few of them as examples."""

    n: int = 0
    n_documents: int = 0
    examples: tuple[Cluster, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Words of an evaluation set, met in a document."""

    id: str
    source: str
    match: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """The documents that hold texts of one evaluation set."""

    benchmark: str
    n_documents: int
    examples: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was removed since it stands all over its site."""

    host: str
    line: str
    n_pages: int


@dataclass(frozen=True, slots=True)
class Report:
    """All of report.json; what is empty was not looked for, or not met.

    languages   by their codes
    lengths     by language: documents with 2**i to 2**(i+1) - 1 characters, for each i from 0
    sources     the largest of `n_sources`
    rules       by the reason that they give
    personal    by kind: how often it was masked
    """

    format: str
    version: int
    recipe: str
    stages: tuple[Stage, ...]
    languages: dict[str, Amount]
    tokens: Tokens
    lengths: dict[str, tuple[int, ...]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    n_sources: int = 0
    rules: dict[str, Rule] = field(default_factory=dict)
    clusters: Clusters = Clusters()
    overlap: tuple[Overlap, ...] = ()
    personal: dict[str, int] = field(default_factory=dict)
    boilerplate: tuple[Line, ...] = ()

    @property
    def n_in(self) -> int:
        """Documents at the beginning."""
        return self.stages[0].n_in

    @property
    def n_kept(self) -> int:
        """Documents at the end."""
        return self.stages[-1].n_kept

    @property
    def n_bytes(self) -> int:
        """Bytes of text at the end."""
        return self.stages[-1].n_bytes


def load_report(folder: Path) -> Report:
    """Read what `clean` left in its folder.

    raises   DataError for a folder without it, another version, or a damaged file: it names what
             is wrong in it
    """
    path = folder / REPORT
    if not path.is_file():
        raise DataError(
            f"{folder} has no {REPORT}: it is no folder that `scratchlm corpus clean` has made, or "
            "that one is not done yet. Make one: scratchlm corpus clean DOCS --out CLEAN"
        )
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(f"{path} is not a {FORMAT}.")
    if values.get("version") != VERSION:
        raise DataError(
            f"{path} has version {values.get('version')}; this program reads version {VERSION}. "
            "Use the scratchlm release that wrote it, or clean the documents again."
        )
    try:
        return _check(_build(Report, values, ""))
    except DataError as wrong:
        raise DataError(
            f"{path} is damaged ({wrong}). Clean the documents again: scratchlm corpus clean"
        ) from None


def _check(report: Report) -> Report:
    longest = max(map(len, report.lengths.values()), default=0)
    if longest > _MOST_LENGTHS:
        raise DataError(f"its lengths go up to 2**{longest} characters")
    if not 0 < len(report.stages) <= _MOST_STAGES:
        raise DataError(f"it has {len(report.stages)} stages, and 1 to {_MOST_STAGES} can be shown")
    return report


def _build(kind: Any, value: Any, at: str) -> Any:
    """A value of JSON as what a field's type says; `at` is its place, for messages."""
    origin, inner = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(kind, value, f"{at}." if at else "")
    if origin is tuple and isinstance(value, list):
        return tuple(_build(inner[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {readable(k): _build(inner[1], v, f"{at}[{k!r}]") for k, v in value.items()}
    if kind is str and isinstance(value, str):
        return readable(value)
    if kind is int and type(value) is int and 0 <= value < _MOST:
        return value
    if kind is float and type(value) in (int, float) and 0 <= value < _MOST:  # false for NaN
        return float(value)
    words = {str: "a text", int: "a count", float: "a number from 0 up", tuple: "a list"}
    raise DataError(f"{at} is not {words.get(origin or kind, 'an object')}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _dataclass(kind: Any, values: dict[str, Any], at: str) -> Any:
    hints = _hints(kind)
    if unknown := sorted(values.keys() - hints.keys()):
        raise DataError(f"{at}{unknown[0]} is unknown")
    for one in dataclasses.fields(kind):
        has_default = one.default is not one.default_factory  # both are MISSING where it has none
        if one.name not in values and not has_default:
            raise DataError(f"{at}{one.name} is missing")
    return kind(**{name: _build(hints[name], value, at + name) for name, value in values.items()})
