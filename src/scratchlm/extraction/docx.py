"""Word files to text: paragraphs and tables in the order in which they stand (ECMA-376).

A reader of our own: the format is a zip file with one XML file that matters, and python-docx gives
no paragraphs of text boxes and no bound on what is unpacked.
"""

from scratchlm.extraction.package import Package, Properties
from scratchlm.extraction.result import Extracted, Unreadable, facts

_MOST = 1 << 28  # bytes of XML
_BODY = "word/document.xml"
_CORE = "docProps/core.xml"
_WORDS = "/wordprocessingml/"  # in the namespace, of the transitional and of the strict form
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def extract_docx(body: bytes) -> Extracted:
    """The text: a paragraph or a table's row a line, the cells of a row between tabs.

    raises   Unreadable "encrypted", "broken docx", "too large" or "no text"
    """
    package = Package(body, "docx", _MOST)
    reader = _Body()
    package.parse(_main_part(package), reader.start, reader.end, reader.text)
    text = "\n".join(reader.lines).strip()
    if not text:
        raise Unreadable("no text")
    about = Properties()
    if _CORE in package:
        package.parse(_CORE, about.start, about.end, about.text)
    known = about.values.get
    meta = facts(title=known("title"), date=known("created", "")[:10], language=known("language"))
    return Extracted(text, meta)


def _main_part(package: Package) -> str:
    """The name of the file with the text: nearly always the same, and the relations say it."""
    found: list[str] = []

    def start(_name: str, attributes: dict[str, str]) -> None:
        if attributes.get("Type", "").endswith("/officeDocument"):
            found.append(attributes.get("Target", "").lstrip("/"))

    if "_rels/.rels" in package:
        package.parse("_rels/.rels", start, lambda _: None, lambda _: None)
    return found[0] if found else _BODY


class _Body:
    """Handlers that collect the lines of a document."""

    def __init__(self) -> None:
        self._blocks: list[list[str]] = [[]]  # lines: of the document, and of each cell at hand
        self._rows: list[list[str]] = []  # cells of each row at hand
        self._paragraphs: list[list[str]] = []  # a text box has paragraphs inside of one
        self._passing = 0  # depth within what repeats a shape for older programs
        self._is_text = False

    @property
    def lines(self) -> list[str]:
        """The document; empty lines stand alone."""
        given = self._blocks[0]
        return [line for i, line in enumerate(given) if line or (i and given[i - 1])]

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        space, _, tag = name.rpartition(" ")
        if self._passing or tag == "Fallback":
            self._passing += 1
        elif _WORDS not in space:
            return
        elif tag == "p":
            self._paragraphs.append([])
        elif tag == "tr":
            self._rows.append([])
        elif tag == "tc":
            self._blocks.append([])
        elif tag in _MARKS and self._paragraphs:
            self._paragraphs[-1].append(_MARKS[tag])
        self._is_text = tag == "t" and not self._passing

    def end(self, name: str) -> None:
        space, _, tag = name.rpartition(" ")
        self._is_text = False
        if self._passing:
            self._passing -= 1
        elif _WORDS not in space:
            return
        elif tag == "p":
            self._blocks[-1].append("".join(self._paragraphs.pop()).strip())
        elif tag == "tc":
            cell = " ".join(" ".join(self._blocks.pop()).split())
            (self._rows or self._blocks)[-1].append(cell)
        elif tag == "tr":
            self._blocks[-1].append("\t".join(self._rows.pop()).strip())

    def text(self, data: str) -> None:
        if self._is_text and self._paragraphs:
            self._paragraphs[-1].append(data)
