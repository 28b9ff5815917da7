"""Data sets of the internet into a folder, whole and verified: the verb `corpus get`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scratchlm.base.errors import ConfigError
from scratchlm.base.files import beside, locked, read_json, write_json
from scratchlm.base.log import say, warn
from scratchlm.base.progress import counted, in_bytes
from scratchlm.web.data_sets import Wanted, choose_files, find_data, list_files
from scratchlm.web.download import Unreachable
from scratchlm.web.download_folder import bring, whole_revision

_FACTS = ".source.json"  # what a folder was made for, and what is known of it
_ELSEWHERE = "name a folder on another disk with --out"


@dataclass(frozen=True)
class DataSet:
    """What lies in a folder.

    license   as the makers or the hub state it; "" where nobody does
    n_bytes   of the files
    """

    folder: Path
    source: str
    license: str
    n_files: int
    n_bytes: int


def get_data(source: str, out: Path | str | None = None, *, files: Sequence[str] = ()) -> DataSet:
    """Download a data set; what is missing or has changed since the last call, and nothing else.

    source   a name of `known_data`, or hf:OWNER/NAME or ms:OWNER/NAME, with :SUBSET (without it,
             the default one) and @REVISION behind it where they are wanted
    out      the folder; None: one of the data set's name where the user is. An interrupted
             download goes on in it
    files    only those that match a pattern: "train-*", "data/**/*.parquet"
    raises   ConfigError for a name that cannot be, and a folder with something else in it;
             DataError for what is unknown, closed, unreachable or damaged, and a full disk

    Each file is held against the checksum that the table or the hub has of it. The real hubs were
    not reached from where this was written: it was tried against servers of our own that speak
    their protocols.
    """
    wanted = find_data(source, files)
    folder = Path(wanted.name if out is None else out)
    with locked(folder, beside(folder, "lock")):
        facts = _download(wanted, folder, _facts_of(folder, wanted))
    n_files, n_bytes = len(facts["sizes"]), sum(facts["sizes"].values())
    say(f"{folder}: {counted(n_files, 'file')}, {in_bytes(n_bytes)}.")
    return DataSet(folder, source, facts["license"], n_files, n_bytes)


def _facts_of(folder: Path, wanted: Wanted) -> dict[str, Any]:
    """What was noted in a folder of this data set; without "sizes", it was never whole."""
    asked = {"source": wanted.source, "files": list(wanted.files)}
    if not (folder / _FACTS).is_file():
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConfigError(f"{folder} is something else. Name another folder with --out.")
        return asked
    facts = read_json(folder / _FACTS)
    if not isinstance(facts, dict) or {key: facts.get(key) for key in asked} != asked:
        raise ConfigError(
            f"{folder} holds another data set, or other files of this one. Name another folder "
            "with --out."
        )
    return facts


def _download(wanted: Wanted, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Bring what is missing, and note it; returns what is known of the data set then."""
    whole = whole_revision(folder) if "sizes" in facts else ""
    if whole and whole == wanted.revision:
        return facts  # a commit never changes
    try:
        listing = list_files(wanted, pauses=() if whole else None)
    except Unreachable as why:
        if not whole:
            raise
        warn(f"{why} Until then {folder} is used as it was downloaded before.")
        return facts
    license = wanted.license or listing.license
    say(f"licence: {license or 'not stated; look at the page of the data set'}")
    if whole == listing.commit:
        return facts
    chosen = choose_files(wanted, listing)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _FACTS, facts)
    fetch = listing.server.fetch
    bring(wanted.source, folder, listing.commit, chosen, fetch, elsewhere=_ELSEWHERE)
    sizes = {file.name: file.n_bytes for file in chosen}
    facts = {**facts, "license": license, "revision": listing.commit, "sizes": sizes}
    write_json(folder / _FACTS, facts)
    return facts
