"""Bytes of a document to its text, by its kind."""

from scratchlm.extraction.docx import extract_docx
from scratchlm.extraction.epub import extract_epub
from scratchlm.extraction.html import Mode, extract_html
from scratchlm.extraction.kinds import kind_of_bytes
from scratchlm.extraction.pdf import extract_pdf
from scratchlm.extraction.result import Extracted, Hints, Unreadable

EXTRACTED = ("html", "pdf", "docx", "epub")  # the kinds that are taken apart; others are text


def extract(kind: str, body: bytes, hints: Hints, mode: Mode) -> Extracted:
    """The text of a document, and what it says of itself.

    kind     one of EXTRACTED; a PDF or an e-book under the name of another is taken for what it is
    mode     of web pages
    raises   Unreadable with its reason, MissingExtraError
    """
    if not body:
        raise Unreadable("empty")
    found = kind_of_bytes(body)
    kind = found if found in ("pdf", "epub") else kind
    if kind == "html":
        extracted = extract_html(body, hints, mode)
    else:
        extracted = {"pdf": extract_pdf, "docx": extract_docx, "epub": extract_epub}[kind](body)
    return Extracted(extracted.text, {"kind": kind, **extracted.meta})
