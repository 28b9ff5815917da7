"""Web pages to text: the main text with title, date, language and address, or all of it.

main    trafilatura: F1 .96 on the article-extraction benchmark
quick   resiliparse: .92, six times faster; no date
"""

import re
import sys
from contextlib import suppress
from html import unescape
from typing import Any, Literal

from scratchlm.extraction.charset import decode_page
from scratchlm.extraction.libraries import lxml, resiliparse, trafilatura
from scratchlm.extraction.result import Extracted, Hints, Unreadable, facts

Mode = Literal["main", "quick"]

_LAST_DAY = "2100-01-01"  # of a page whose day is not known: never today, or bytes would change
_TOO_DEEP = 114  # XML_ERR_RESOURCE_LIMIT of libxml2, which ends a page there
# BCP 47, roughly; UTF-8, which some pages name, is none
_LANGUAGE = re.compile("[A-Za-z]{2,3}([-_]([A-Za-z]|[A-Za-z0-9]{2,8})){0,3}")
_BLANK = re.compile(r"\n\s*\n")


def extract_html(body: bytes, hints: Hints, mode: Mode) -> Extracted:
    """The main text of a page.

    raises   Unreadable "empty" or "no text", MemoryError
    """
    page = decode_page(body, hints.charset).replace("\0", "")
    if not page.strip():
        raise Unreadable("empty")
    found = _main(page, hints) if mode == "main" else _quick(page, hints)
    if not found.text.strip():
        raise Unreadable("no text")
    return found


def all_text(page: str) -> str:
    """Everything that a reader of the page sees, in order, without the page's own boxes."""
    text: str = resiliparse().plain_text(page, main_content=False, **_READING)
    return _BLANK.sub("\n\n", text).strip()


_READING = {"preserve_formatting": True, "alt_texts": False, "links": False, "form_fields": False}


def forget() -> None:
    """Empty trafilatura's caches, which hold whole lines of the pages before."""
    if "trafilatura" in sys.modules:
        trafilatura().meta.reset_caches()


def _main(page: str, hints: Hints) -> Extracted:
    """By trafilatura; what is nested too deep for it, by resiliparse."""
    library = trafilatura()
    tree = _tree(library.utils.repair_faulty_html(page, page[:50].lower()))
    if tree is None:
        return _quick(page, hints)
    try:
        meta = _facts_of(tree, hints, library.metadata)
        found = library.bare_extraction(
            tree, url=hints.url or None, fast=True, favor_recall=True, include_comments=False
        )
    except RecursionError:
        return _quick(page, hints)
    if found is None:
        raise Unreadable("no text")
    return Extracted(found.text, meta)


def _facts_of(tree: Any, hints: Hints, library: Any) -> dict[str, str]:
    """Title, date, language and address: of trafilatura's `extract_metadata` what is kept here.

    Authors, tags and licences, which it looks for as well, take half of the time for a page.
    """
    found = library.examine_meta(tree)
    with suppress(AttributeError, LookupError, TypeError, ValueError):  # as sites write JSON
        found = library.extract_meta_json(tree, found)
    url = hints.url or found.url or library.extract_url(tree)
    date = library.find_date(
        tree,
        url=url,
        original_date=True,
        extensive_search=False,
        max_date=hints.day or _LAST_DAY,
    )
    title = unescape(found.title or library.extract_title(tree) or "")
    return facts(title=title, date=date, language=_language(tree), url=url)


def _tree(page: str) -> Any:
    """The tree of a page; None where it is too deep, which would lose all that follows.

    trafilatura's own parser stops at a depth of 256, this one at 2,048.
    """
    library = lxml()
    parser = library.html.HTMLParser(
        encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True
    )
    try:
        tree = library.html.document_fromstring(page.encode("utf-8", "replace"), parser)
    except library.etree.ParserError:  # nothing is left without comments and blanks
        raise Unreadable("no text") from None
    except library.etree.XMLSyntaxError:  # there is no other error that it does not mend
        raise MemoryError from None
    last = parser.error_log.last_error
    return None if last is not None and last.type == _TOO_DEEP else tree


def _language(tree: Any) -> str:
    """What the page says that its language is; "" where it says nothing that makes sense."""
    names = [tree.get("lang"), tree.get("xml:lang")]
    for meta in tree.iterfind(".//head/meta[@content]"):
        about = (meta.get("http-equiv") or meta.get("property") or "").lower()
        if about in ("content-language", "og:locale"):
            names.append(meta.get("content"))
    return _first_language(names)


def _first_language(names: list[str | None]) -> str:
    given = (name.strip() for name in names if name)
    return next((name.replace("_", "-") for name in given if _LANGUAGE.fullmatch(name)), "")


def _quick(page: str, hints: Hints) -> Extracted:
    parts = resiliparse()
    tree = parts.tree.parse(page)
    text = parts.plain_text(tree, main_content=True, comments=False, **_READING)
    root = tree.document.query_selector("html") if tree.document else None
    language = _first_language([root.getattr("lang")]) if root else ""
    url = hints.url
    if not url and tree.head and (link := tree.head.query_selector('link[rel="canonical"]')):
        href = link.getattr("href") or ""
        url = href if href.startswith(("http://", "https://")) else ""
    text = _BLANK.sub("\n\n", text).strip()
    return Extracted(text, facts(title=tree.title, language=language, url=url))
