"""`corpus report`: what became of a corpus, as one page to look at."""

from pathlib import Path
from typing import get_args

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import make_parent, write_text
from scratchlm.report.facts import load_report
from scratchlm.report.page import render
from scratchlm.report.words import Language

_PAGES = (".html", ".htm")


def report(
    folder: Path | str, out: Path | str, *, language: Language = "en", overwrite: bool = False
) -> Path:
    """Write the page about a folder that `clean` made, and return its path.

    out       a file that ends in .html; it is whole or absent
    raises    ConfigError for another ending, or a file that is there, unless `overwrite`;
              DataError for a folder without a report, or a damaged one
    """
    folder, out = Path(folder), Path(out)
    if language not in get_args(Language):
        raise ConfigError(f"language = {language!r} is not one of {', '.join(get_args(Language))}.")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Name one that scratchlm corpus clean has made.")
    _check_place(out, overwrite)
    page = render(load_report(folder), folder.absolute().name, language)
    make_parent(out)
    write_text(out, page)
    return out


def _check_place(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() not in _PAGES:
        raise ConfigError(f"{out} is no name of a page. Let it end in {_PAGES[0]}.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder, and a file is to be written. Name another.")
    if out.exists() and not overwrite:
        raise ConfigError(
            f"{out} exists. Name another, or give --overwrite (in Python, overwrite=True)."
        )
