"""Data sets by name: where each lies, and which files of a repository are data.

`data_sets.toml` holds those that scratchlm knows.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from scratchlm.base.config import from_dict, nearest
from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.log import warn
from scratchlm.base.progress import counted
from scratchlm.web.download import Server
from scratchlm.web.download_folder import RemoteFile
from scratchlm.web.hub import Listing, list_repository, parse_name
from scratchlm.web.modelscope import DEFAULT_REVISION, list_data_set

_DATA = re.compile(r"\.(parquet|jsonl|ndjson|json|csv|tsv|txt)(\.(gz|zst|xz|bz2))?$", re.IGNORECASE)
_ABOUT_DATA = re.compile(
    r"(dataset_infos?|dataset_dict|state|config)\.json|(readme|license|notice|requirements)\W.*",
    re.IGNORECASE,
)
_UNFIT = re.compile(r'^\.|[ .]$|[\\:*?"<>|\x00-\x1f\x7f]|^$')  # a part of a path, on some system
_SHOWN = 20  # names in an error
_URLS = Server(
    "its server",
    "",
    lambda _status, _code: "It is not there any more: the same data may lie on a hub.",
)


@dataclass(frozen=True)
class KnownUrl:
    """One file of a data set that is on no hub."""

    url: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class KnownData:
    """A data set that scratchlm knows: what `data_sets.toml` says of it."""

    license: str
    size: str
    en: str
    zh: str
    where: str = ""
    files: tuple[str, ...] = ()
    urls: tuple[KnownUrl, ...] = ()


@cache
def known_data() -> Mapping[str, KnownData]:
    """The data sets that scratchlm knows, by name."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {name: from_dict(KnownData, values) for name, values in tomllib.loads(text).items()}


@dataclass(frozen=True)
class Wanted:
    """What somebody asked for.

    name       a word for it that can be the name of a folder
    hub        "hf" or "ms"; "" for a data set at `urls`
    files      patterns; none: all data files of the subset
    license    as its makers state it; "" where nobody here knows
    """

    source: str
    name: str
    hub: str = ""
    repository: str = ""
    revision: str = ""
    subset: str = ""
    files: tuple[str, ...] = ()
    license: str = ""
    urls: tuple[KnownUrl, ...] = ()


def find_data(source: str, files: Sequence[str] = ()) -> Wanted:
    """Understand a name: a known one, or hf: or ms: with OWNER/NAME[:SUBSET][@REVISION].

    files    patterns that go before those of a known data set
    raises   ConfigError for what is neither
    """
    known = known_data().get(source)
    if known is None:
        return replace(_parse(source), files=tuple(files))
    return replace(
        Wanted(source, source) if known.urls else _parse(known.where),
        source=source,
        name=source,
        files=tuple(files) or known.files,
        license=known.license,
        urls=known.urls,
    )


def _parse(source: str) -> Wanted:
    found = re.fullmatch(r"(hf|ms):([^:@]+)(?::([^:@\s]+))?(@.+)?", source)
    named = parse_name(found[2] + (found[4] or "")) if found else None
    if found is None or named is None:
        raise ConfigError(
            f"{source!r} is no data set. Write hf:OWNER/NAME or ms:OWNER/NAME, with :SUBSET and "
            f"@REVISION behind it where they are wanted, or a known name."
            f"{nearest(source, set(known_data()))}"
        )
    repository, revision = named
    if found[1] == "ms" and not found[4]:
        revision = DEFAULT_REVISION
    subset = found[3] or ""
    folder = repository.split("/")[1] + re.sub(r"[^\w.-]", "-", f"-{subset}" if subset else "")
    return Wanted(source, folder, found[1], repository, revision, subset)


def list_files(wanted: Wanted, pauses: Sequence[float] | None = None) -> Listing:
    """Ask a hub for its files; pauses and errors as `list_repository` has them."""
    if wanted.hub == "hf":
        return list_repository("dataset", wanted.repository, wanted.revision, pauses)
    if wanted.hub == "ms":
        return list_data_set(wanted.repository, wanted.revision, pauses)
    files: dict[str, RemoteFile | None] = {}
    for one in wanted.urls:
        name = one.url.rpartition("/")[2]
        files[name] = RemoteFile(name, one.url, one.n_bytes, "sha256", one.sha256)
    known = "".join(one.sha256 for one in wanted.urls)
    commit = hashlib.sha256(known.encode()).hexdigest()[:40]
    return Listing(wanted.urls[0].url, _URLS, commit, files)


def choose_files(wanted: Wanted, listing: Listing) -> list[RemoteFile]:
    """The files that are data, of what was asked for.

    raises   DataError that says what there is, where nothing or more than one thing is meant
    """
    names = [name for name in listing.files if not any(map(_UNFIT.search, name.split("/")))]
    unfit = sorted(name for name in set(listing.files).difference(names) if _is_data(name))
    if unfit:
        warn(f"Passed over: {counted(len(unfit), 'file')} with no usable name, as {unfit[0]!r}.")
    if wanted.subset:
        names = _of_subset(wanted, listing, names)
    elif listing.subsets and not wanted.files:
        if not listing.default:
            raise DataError(
                f"{wanted.source} has several subsets. Name one, as in "
                f"hf:{wanted.repository}:{next(iter(listing.subsets))}. {_list(listing.subsets)}"
            )
        names = _matching(names, listing.subsets[listing.default])
    if wanted.files:
        chosen = [name for name in names if _is_wanted(name, wanted.files)]
    else:
        chosen = [name for name in names if _is_data(name)]
    if not chosen:
        what = " ".join(wanted.files) or ".parquet .jsonl .json .csv .tsv .txt, packed or not"
        cure = "Choose with --files"
        if wanted.hub == "hf":
            cure += ", or take the hub's own conversion, by @refs/convert/parquet"
        raise DataError(f"{wanted.source} has no files such as {what}. {_list(names)} {cure}.")
    return listing.take(sorted(chosen))


def _of_subset(wanted: Wanted, listing: Listing, names: Iterable[str]) -> list[str]:
    """The files of a subset that is declared, or else of a folder of that name."""
    declared = listing.subsets.get(wanted.subset)
    folders = (f"{wanted.subset}/**", f"data/{wanted.subset}/**")
    found = _matching(names, folders if declared is None else declared)
    if not found:
        there = listing.subsets or {name.rpartition("/")[0] for name in names if "/" in name}
        raise DataError(
            f"{wanted.source}: no files belong to such a subset. {_list(sorted(there))}"
        )
    return found


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    tests = [re.compile(_as_regex(pattern)) for pattern in patterns]
    return [name for name in names if any(test.fullmatch(name) for test in tests)]


def _as_regex(pattern: str) -> str:
    """A pattern of paths: ** is any folders, * and ? stay in one."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.removeprefix("./"))
    return "".join(parts.get(piece) or re.escape(piece) for piece in pieces)


def _is_wanted(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern has the whole path; one without a folder is looked for in all of them."""
    return bool(_matching([name], (p if "/" in p else f"**/{p}" for p in patterns)))


def _is_data(name: str) -> bool:
    last = name.rpartition("/")[2]
    return bool(_DATA.search(last)) and not _ABOUT_DATA.fullmatch(last)


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN:,} more" if len(every) > _SHOWN else ""
    return f"There are: {', '.join(every[:_SHOWN]) or 'none'}{more}."
