"""Word files, made by python-docx and by hand."""

import io
import zipfile
from datetime import datetime

import docx
import pytest

from scratchlm.extraction.docx import extract_docx
from scratchlm.extraction.result import Unreadable

SPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def saved(document) -> bytes:
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def packed(xml: str, name: str = "word/document.xml", **more: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(name, xml)
        for part, content in more.items():
            package.writestr(part, content)
    return file.getvalue()


def body(inside: str, space: str = SPACE) -> str:
    return f'<w:document xmlns:w="{space}"><w:body>{inside}</w:body></w:document>'


def test_paragraphs_and_tables_in_order():
    document = docx.Document()
    document.core_properties.title = "春天"
    document.core_properties.language = "zh-CN"
    document.core_properties.created = datetime(2020, 2, 29, 12, 0)
    document.add_heading("A heading", 1)
    paragraph = document.add_paragraph("Some ")
    paragraph.add_run("bold").bold = True
    paragraph.add_run(" text\tand a tab")
    table = document.add_table(rows=2, cols=2)
    for i, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {i}"
    table.cell(1, 1).add_paragraph("second paragraph")
    document.add_paragraph("春眠不觉晓")
    found = extract_docx(saved(document))
    assert found.text.splitlines() == [
        "A heading",
        "Some bold text\tand a tab",
        "cell 0\tcell 1",
        "cell 2\tcell 3 second paragraph",
        "春眠不觉晓",
    ]
    assert found.meta == {"title": "春天", "date": "2020-02-29", "language": "zh-CN"}


def test_what_is_deleted_or_repeated_is_left_out():
    text = (
        "<w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        '<mc:AlternateContent xmlns:mc="urn:mc"><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p>'
        "</mc:Choice><mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback>"
        "</mc:AlternateContent>"
    )
    assert extract_docx(packed(body(text))).text == "kept\nbox"


def test_a_text_box_inside_of_a_paragraph():
    text = (
        "<w:p><w:r><w:t>before </w:t></w:r><w:r><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p>"
        "</w:txbxContent></w:r><w:r><w:t>after</w:t></w:r></w:p>"
    )
    assert extract_docx(packed(body(text))).text == "box\nbefore after"


def test_the_strict_form_and_another_place():
    relations = (
        '<Relationships><Relationship Type="http://purl.oclc.org/x/officeDocument" '
        'Target="/word/text.xml"/></Relationships>'
    )
    xml = body(
        "<w:p><w:r><w:t>strict</w:t></w:r></w:p>",
        "http://purl.oclc.org/ooxml/wordprocessingml/main",
    )
    assert (
        extract_docx(packed(xml, "word/text.xml", **{"_rels/.rels": relations.encode()})).text
        == "strict"
    )


BOMB = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "broken docx"),
        (b"PK\x03\x04 and then nothing", "broken docx"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "encrypted .locked by a password"),
        (packed("x", "other.xml"), r"broken docx .word/document\.xml is missing"),
        (packed("<a><b></a>"), "broken docx .*mismatched tag"),
        (packed(f"{BOMB}<d>&b;</d>"), "broken docx .it declares the entity a"),
        (packed('<?xml version="1.0" encoding="x-none"?><d/>'), "broken docx"),
        (packed(body("<w:p/>")), "^no text$"),
    ],
)
def test_what_cannot_be_read(content, message):
    with pytest.raises(Unreadable, match=message):
        extract_docx(content)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_cut_files(cut):
    document = docx.Document()
    document.add_paragraph("text")
    whole = saved(document)
    with pytest.raises(Unreadable, match="broken docx"):
        extract_docx(whole[: int(cut * len(whole))])


def test_a_zip_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr("scratchlm.extraction.docx._MOST", 1 << 20)
    whole = packed("<d>" + " " * (2 << 20) + "</d>")
    assert len(whole) < 1 << 14
    with pytest.raises(Unreadable, match="too large"):
        extract_docx(whole)


def test_deep_nesting():
    depth = 100_000
    xml = body("<w:x>" * depth + "<w:p><w:r><w:t>deep</w:t></w:r></w:p>" + "</w:x>" * depth)
    assert extract_docx(packed(xml)).text == "deep"
