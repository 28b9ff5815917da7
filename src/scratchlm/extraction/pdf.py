"""PDF files to text: the pages in order, their lines joined to paragraphs."""

import re
from typing import Any

from scratchlm.extraction.libraries import pypdfium2
from scratchlm.extraction.reflow import reflow
from scratchlm.extraction.result import Extracted, Unreadable, facts

_PASSWORD = 4  # FPDF_ERR_PASSWORD of PDFium's fpdfview.h
_DATE = re.compile(r"D:(\d{4})(0[1-9]|1[0-2])?(0[1-9]|[12]\d|3[01])?")  # ISO 32000-1, 7.9.4


def extract_pdf(body: bytes) -> Extracted:
    """The text of all pages; that of pictures is not read.

    raises   Unreadable "encrypted", "broken pdf", or "no text" for scanned pages
    """
    library = pypdfium2()
    try:
        document = library.PdfDocument(body)
    except library.PdfiumError as bad:
        is_locked = getattr(bad, "err_code", None) == _PASSWORD
        raise Unreadable("encrypted" if is_locked else "broken pdf", str(bad)) from None
    with document:
        pages, n_lost = _pages(library, document)
        text = reflow(pages)
        if not text:
            raise Unreadable("broken pdf" if n_lost else "no text", f"{len(pages)} pages")
        title, made = (document.get_metadata_value(key) for key in ("Title", "CreationDate"))
    lost = str(n_lost) if n_lost else None
    return Extracted(text, facts(title=title, date=_date(made), lost_pages=lost))


def _pages(library: Any, document: Any) -> tuple[list[str], int]:
    """The text of each page, and how many could not be read."""
    pages, n_lost = [], 0
    for number in range(len(document)):
        try:
            page = document[number]
            shown = page.get_textpage()
            pages.append(shown.get_text_bounded())
            shown.close()
            page.close()
        except library.PdfiumError:
            pages.append("")
            n_lost += 1
    return pages, n_lost


def _date(made: str) -> str | None:
    match = _DATE.match(made)
    return "-".join(part for part in match.groups() if part) if match else None
