"""The libraries of the extra `web` that take documents apart; each is imported when it is needed.

lxml          the tree of a web page (BSD-3-Clause)
trafilatura   the main text of web pages, their titles and dates (Apache-2.0)
resiliparse   the same by simpler rules, in a sixth of the time; character sets (Apache-2.0)
pypdfium2     Chrome's PDF reader (BSD-3-Clause, Apache-2.0)
"""

from dataclasses import dataclass
from importlib import metadata
from typing import Any

from scratchlm.base.errors import MissingExtraError


def trafilatura() -> Any:
    """The module; raises MissingExtraError."""
    try:
        import trafilatura
        import trafilatura.meta
        import trafilatura.utils
    except ImportError:  # also where only a part of it is there
        raise MissingExtraError("trafilatura", "web", "The main text of web pages") from None
    return trafilatura


def lxml() -> Any:
    """The module; raises MissingExtraError."""
    try:
        import lxml.etree
        import lxml.html
    except ModuleNotFoundError:
        raise MissingExtraError("lxml", "web", "The main text of web pages") from None
    return lxml


@dataclass(frozen=True)
class Resiliparse:
    """The parts of resiliparse that are used: a class and two functions."""

    tree: Any  # HTMLTree
    plain_text: Any  # extract_plain_text
    detect: Any  # detect_encoding


def resiliparse() -> Resiliparse:
    """The parts; raises MissingExtraError."""
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.encoding import detect_encoding
        from resiliparse.parse.html import HTMLTree
    except ModuleNotFoundError:
        raise MissingExtraError("resiliparse", "web", "The text of web pages") from None
    return Resiliparse(HTMLTree, extract_plain_text, detect_encoding)


def pypdfium2() -> Any:
    """The module; raises MissingExtraError."""
    try:
        import pypdfium2
    except ModuleNotFoundError:
        raise MissingExtraError("pypdfium2", "web", "The text of PDF files") from None
    return pypdfium2


_NAMES = ("trafilatura", "htmldate", "lxml", "resiliparse", "pypdfium2")


def versions() -> tuple[str, ...]:
    """Name and version of each library that has a say in what is extracted, if it is there."""
    return tuple(f"{name} {found}" for name in _NAMES if (found := _version(name)))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
