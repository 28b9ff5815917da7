"""E-books to text: the chapters in the order of the spine (EPUB 3.3, sections 4 and 5)."""

import posixpath
from urllib.parse import unquote

from scratchlm.extraction.charset import decode_page
from scratchlm.extraction.html import all_text
from scratchlm.extraction.package import Package, Properties, local
from scratchlm.extraction.result import Extracted, Unreadable, facts

_MOST = 1 << 28  # bytes of chapters
_CONTAINER = "META-INF/container.xml"
_LOCKS = "META-INF/encryption.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def extract_epub(body: bytes) -> Extracted:
    """The text of all chapters, but for the table of contents.

    raises   Unreadable "encrypted", "broken epub", "too large" or "no text"
    """
    package = Package(body, "epub", _MOST)
    book = _Book()
    place = _package_file(package)
    package.parse(place, book.start, book.end, book.text)
    folder = posixpath.dirname(place)
    names = [_resolved(folder, link) for link in book.spine]
    names = [name for name in dict.fromkeys(names) if name in package]
    if not names:
        raise package.broken("its spine names no chapter")
    if locked := _locked(package).intersection(names):
        raise Unreadable("encrypted", min(locked))
    chapters = [all_text(decode_page(package.read(name))) for name in names]
    text = "\n\n".join(filter(None, chapters))
    if not text:
        raise Unreadable("no text")
    known = book.about.values.get
    meta = facts(title=known("title"), date=known("date", "")[:10], language=known("language"))
    return Extracted(text, meta)


def _resolved(folder: str, link: str) -> str:
    """The name of a part, from a link in a file of that folder."""
    return posixpath.normpath(posixpath.join(folder, unquote(link.partition("#")[0])))


def _package_file(package: Package) -> str:
    places = _attributes(package, _CONTAINER, "rootfile", "full-path")
    if not places:
        raise package.broken(f"{_CONTAINER} names no package file")
    return places[0]


def _locked(package: Package) -> set[str]:
    """Parts that only a shop's program can read; fonts are often among them."""
    if _LOCKS not in package:
        return set()
    return {unquote(link) for link in _attributes(package, _LOCKS, "CipherReference", "URI")}


def _attributes(package: Package, part: str, element: str, attribute: str) -> list[str]:
    found: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if local(name) == element and attribute in attributes:
            found.append(attributes[attribute])

    package.parse(part, start, lambda _: None, lambda _: None)
    return found


class _Book:
    """Handlers that collect what the package file says."""

    def __init__(self) -> None:
        self.about = Properties()
        self._links: dict[str, str] = {}  # by id, of pages that are no table of contents
        self._order: list[str] = []  # ids

    @property
    def spine(self) -> list[str]:
        """Links to the chapters, in order."""
        return [self._links[name] for name in self._order if name in self._links]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.about.start(name, attributes)
        tag, link = local(name), attributes.get("href")
        is_page = attributes.get("media-type", "") in _PAGES
        is_contents = "nav" in attributes.get("properties", "").split()
        if tag == "item" and link and is_page and not is_contents:
            self._links[attributes.get("id", "")] = link
        elif tag == "itemref":
            self._order.append(attributes.get("idref", ""))

    def end(self, name: str) -> None:
        self.about.end(name)

    def text(self, data: str) -> None:
        self.about.text(data)
