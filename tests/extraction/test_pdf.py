"""PDF files, written by hand byte by byte."""

import pytest

from scratchlm.extraction.extract import extract
from scratchlm.extraction.pdf import extract_pdf
from scratchlm.extraction.result import Hints, Unreadable

HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
SONG = (  # a Chinese font that is not embedded: codes are those of Unicode
    b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H "
    b"/DescendantFonts [<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light "
    b"/CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 4 >> >>] >>"
)


def written(pages: list[list[str]], font: bytes = HELVETICA, more: bytes = b"") -> bytes:
    """A PDF file with these lines on its pages."""
    kids = b" ".join(b"%d 0 R" % (5 + 2 * i) for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        font,
        b"<< /Title (On Tides) /CreationDate (D:20190305120000Z) >>",
    ]
    for i, lines in enumerate(pages):
        shown = b" ".join(b"%s Tj T*" % _string(line, font) for line in lines)
        content = b"BT /F1 12 Tf 14 TL 72 720 Td %s ET" % shown
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (6 + 2 * i),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        ]
    return _file(objects, more)


def _string(line: str, font: bytes) -> bytes:
    if font is SONG:
        return b"<%s>" % line.encode("utf-16-be").hex().encode()
    return b"(%s)" % line.encode("latin-1").replace(b"(", b"\\(").replace(b")", b"\\)")


def _file(objects: list[bytes], more: bytes) -> bytes:
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return body + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R /Info 4 0 R %s >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (size, table, size, more, len(body))
    )


def test_pages_in_order_with_their_facts():
    pages = [
        ["The Tides", "The water rises and falls twice a day, and sailors have al-"],
        ["ways known that the moon has a part in it.", "So it is."],
    ]
    found = extract_pdf(written(pages))
    assert found.text.splitlines() == [
        "The Tides",
        "The water rises and falls twice a day, and sailors have always known that the moon has a "
        "part in it.",
        "So it is.",
    ]
    assert found.meta == {"title": "On Tides", "date": "2019-03-05"}


def test_chinese():
    lines = ["海水每天涨落两次水手们早就知道", "这和月亮有关系他们说得并没有错"]
    assert extract_pdf(written([lines], SONG)).text == "".join(lines)


def test_a_pdf_under_another_name_is_known_by_its_bytes():
    found = extract("html", written([["Hello"]]), Hints(), "main")
    assert (found.text, found.meta["kind"]) == ("Hello", "pdf")


LOCK = (
    b"/Encrypt << /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <" + b"41" * 32 + b"> "
    b"/U <" + b"42" * 32 + b"> >> /ID [<" + b"43" * 16 + b"> <" + b"43" * 16 + b">]"
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "broken pdf"),
        (b"%PDF-1.4\nand then nothing", "broken pdf"),
        (b"no pdf at all", "broken pdf"),
        (written([["secret"]], more=LOCK), "encrypted"),
        (written([[]]), "no text .1 pages"),
    ],
)
def test_what_cannot_be_read(body, message):
    with pytest.raises(Unreadable, match=message):
        extract_pdf(body)


def test_a_page_that_is_broken_is_counted():
    body = written([["first page"], ["second page"], ["third page"]])
    broken = body.replace(b"/Kids [5 0 R 7 0 R", b"/Kids [5 0 R 2 0 R", 1)
    found = extract_pdf(broken)
    assert "first page" in found.text
    assert found.meta.get("lost_pages", "1") == "1"
