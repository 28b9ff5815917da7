"""E-books, made by hand."""

import io
import zipfile

import pytest

from scratchlm.extraction.epub import extract_epub
from scratchlm.extraction.extract import extract
from scratchlm.extraction.result import Hints, Unreadable

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
)
CHAPTER = (
    "<?xml version='1.0' encoding='utf-8'?><!DOCTYPE html>"
    '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{}</body></html>'
)
CHAPTERS = {
    "OEBPS/text/one.xhtml": "<h1>One</h1><p>In the beginning.</p>",
    "OEBPS/text/two two.xhtml": "<h1>二</h1><p>道可道，非常道。</p>",
    "OEBPS/nav.xhtml": "<nav><ol><li>Contents</li></ol></nav>",
}
OPF = """<package xmlns="http://www.idpf.org/2007/opf"><metadata
xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Way</dc:title><dc:title>Second</dc:title>
<dc:language>zh</dc:language><dc:date>1999-05-01T00:00:00Z</dc:date></metadata><manifest>
<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="c" href="cover.png" media-type="image/png"/>
<item id="b" href="text/two%20two.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/one.xhtml#top" media-type="application/xhtml+xml"/></manifest>
<spine><itemref idref="c"/><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/>
<itemref idref="none"/></spine></package>"""


def book(parts: dict[str, str] | None = None) -> bytes:
    whole = {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": OPF}
    whole |= {name: CHAPTER.format(text) for name, text in CHAPTERS.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("mimetype", "application/epub+zip")
        for name, content in (whole | (parts or {})).items():
            if content:
                package.writestr(name, content)
    return file.getvalue()


def test_chapters_in_the_order_of_the_spine():
    found = extract_epub(book())
    assert found.text == "One\n\nIn the beginning.\n\n二\n\n道可道，非常道。"
    assert found.meta == {"title": "The Way", "date": "1999-05-01", "language": "zh"}


def test_a_book_under_another_name_is_known_by_its_bytes():
    found = extract("html", book(), Hints(), "main")
    assert found.meta["kind"] == "epub"


def test_fonts_may_be_locked_and_chapters_not():
    locks = '<encryption><EncryptedData><CipherReference URI="{}"/></EncryptedData></encryption>'
    name = "META-INF/encryption.xml"
    assert extract_epub(book({name: locks.format("OEBPS/font.otf")})).text
    with pytest.raises(Unreadable, match=r"encrypted .OEBPS/text/two two\.xhtml"):
        extract_epub(book({name: locks.format("OEBPS/text/two%20two.xhtml")}))


BOMB = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">]><d>&a;</d>'


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"META-INF/container.xml": ""}, r"broken epub .META-INF/container\.xml is missing"),
        ({"META-INF/container.xml": "<x/>"}, "names no package file"),
        ({"META-INF/container.xml": "<x>"}, "broken epub"),
        ({"OEBPS/content.opf": ""}, r"OEBPS/content\.opf is missing"),
        ({"OEBPS/content.opf": "<package/>"}, "its spine names no chapter"),
        ({"OEBPS/content.opf": BOMB}, "it declares the entity a"),
        (dict.fromkeys(CHAPTERS, "<html/>"), "^no text$"),
    ],
)
def test_what_cannot_be_read(parts, message):
    with pytest.raises(Unreadable, match=message):
        extract_epub(book(parts))


def test_links_that_lead_out_are_no_parts():
    with pytest.raises(Unreadable, match="names no chapter"):
        extract_epub(book({"OEBPS/content.opf": OPF.replace('href="text', 'href="../../../etc')}))
