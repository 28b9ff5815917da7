"""Documents that mean harm, by the thousand: each is kept or counted, and the run goes on."""

import bz2
import gzip
import io
import json
import lzma
import random
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from scratchlm.corpus.executors import Scale
from scratchlm.corpus.extract import FAILED, ExtractConfig
from scratchlm.corpus.stages import in_order
from scratchlm.corpus.store import read_stored
from scratchlm.recipes.extract_documents import extract_documents

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of other systems differ")

WORDS = [
    "the",
    "harbour",
    "was",
    "full",
    "of",
    "boats",
    "春眠不觉晓",
    "处处闻啼鸟",
    "and",
    "nobody",
]


def prose(r: random.Random, n: int) -> str:
    return " ".join(r.choices(WORDS, k=max(1, n // 6)))


def html(inside: str, head: str = "") -> bytes:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{inside}</body></html>".encode()


# what is opened, how often for each unit of size, what is inside, and how it is closed
NESTS = {
    "divs": ("<div>", 100, "text", "</div>"),
    "unclosed": ("<div><b><i><a href=x>", 15, "text", ""),
    "formatting": ("<b><i><p>x", 80, "", ""),
    "anchors": ("<a><p>", 100, "x", ""),
    "tables": ("<table><tr><td>", 40, "text", "</td></tr></table>"),
    "lists": ("<ul><li>x", 80, "text", "</li></ul>"),
    "quotes": ("<blockquote><p>", 50, "text", "</p></blockquote>"),
    "rows": ("<tr><td>1<td>2</tr>", 50, "", ""),
    "spans": ("<td colspan=1000000000 rowspan=1000000000>x", 20, "", ""),
    "entities": ("&amp;&#x110000;&#0;&nosuch;&", 30, "", ""),
    "comments": ("<!-- <!--", 100, "text", ""),
    "scripts": ("<script><!-- ", 70, "text", ""),
    "cdata": ("<![CDATA[ ]]", 70, "text", ""),
    "frames": ("<frameset><select><option>", 40, "text", ""),
    "svgs": ("<svg><foreignObject><math><mi>", 30, "text", ""),
    "templates": ("<template><p>", 70, "text", "</template>"),
    "breaks": ("<br>", 250, "text", ""),
    "paragraphs": ("<p></p>", 140, "", ""),
    "attributes": ("<p a=1 b=2 c='", 70, "text", ""),
    "brackets": ("<", 1000, "text", ">"),
    "times": ("<time datetime='2019-99-99'>1.1.", 30, "", ""),
    "metas": ("<meta property=og:title content=x><meta name=author content=y>", 15, "text", ""),
}


def nest(name: str, n: int) -> bytes:
    before, times, inside, after = NESTS[name]
    return html(before * n * times + inside + after * n * times)


def data(values: str) -> str:
    return f'<script type="application/ld+json">{values}</script>'


def article(r: random.Random, n: int) -> str:
    one = {"@type": "NewsArticle", "articleBody": prose(r, n << 9), "author": [{"name": "x"}] * n}
    return json.dumps([one] * 3)


PAGES = {
    "line.html": lambda r, n: html(f"<p>{prose(r, n << 10)}</p>"),
    "letters.html": lambda _r, n: html("a" * (n << 10)),
    "digits.html": lambda r, n: html("<p>" + "".join(r.choices("0123456789-/. ", k=n << 10))),
    "title.html": lambda r, n: html(prose(r, 500), f"<title>{prose(r, n << 10)}</title>"),
    "nul.html": lambda r, n: html("\0".join(prose(r, n << 9))),
    "noise.html": lambda r, n: r.randbytes(n << 8),
    "charset.html": lambda r, n: (
        b"<meta charset=%s>" % r.choice([b"zip", b"idna", b"punycode", b"utf-7", b"x", b"hex"])
        + r.randbytes(100)
        + prose(r, n << 9).encode()
    ),
    "wide.html": lambda r, n: html(prose(r, n << 8)).decode().encode("utf-32"),
    "json.html": lambda r, n: html(prose(r, 900), data("[" * n * 100 + "]" * n * 100)),
    "graph.html": lambda r, n: html(prose(r, 900), data(article(r, n))),
}


def pdf(objects: list[bytes], trailer: bytes = b"/Root 1 0 R") -> bytes:
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    end = b"trailer << /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n"
    return body + head + table + end % (len(objects) + 1, trailer, len(body))


SHOWN = b"BT /F 9 Tf 9 TL 50 700 Td (some text) Tj ET"
FORM = b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 6 0 R >> >> "


def page(content: bytes = SHOWN, filters: bytes = b"", pages: bytes = b"/Kids [3 0 R] /Count 1"):
    return [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages %s >>" % pages,
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources "
        b"<< /Font << /F 5 0 R >> /XObject << /X 6 0 R >> >> >>",
        b"<< %s /Length %d >>\nstream\n%s\nendstream" % (filters, len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        FORM + b"/Length 18 >>\nstream\n/X Do /X Do /X Do \nendstream",
    ]


LOCK = b"/Root 1 0 R /Encrypt << /Filter /Standard /V 1 /R 2 /P 0 /O <%s> /U <%s> >> /ID [<0> <0>]"


def flipped(r: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(r.randint(1, 20)):
        changed[r.randrange(len(changed))] = r.randrange(256)
    return bytes(changed)


def cut(r: random.Random, body: bytes) -> bytes:
    return body[: r.randrange(len(body))]


PDFS = {
    "bomb.pdf": lambda _r, n: pdf(page(zlib.compress(SHOWN * n * 1000), b"/Filter /FlateDecode")),
    "loop.pdf": lambda _r, _n: pdf(page(b"/X Do")),
    "count.pdf": lambda _r, n: pdf(page(pages=b"/Kids [3 0 R] /Count %d" % (n * 1_000_000))),
    "tree.pdf": lambda _r, _n: pdf(page(pages=b"/Kids [2 0 R 2 0 R 3 0 R] /Count 3")),
    "nested.pdf": lambda _r, n: pdf([*page(), b"[" * n * 500], b"/Root 1 0 R /Info 7 0 R"),
    "locked.pdf": lambda _r, _n: pdf(page(), LOCK % (b"41" * 32, b"42" * 32)),
    "flipped.pdf": lambda r, _n: flipped(r, pdf(page())),
    "cut.pdf": lambda r, _n: cut(r, pdf(page())),
}


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


ENTITIES = "".join(f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(9))
LAUGHS = f"<!DOCTYPE d [<!ENTITY a0 'ha'>{ENTITIES}]><d>&a9;</d>"
SPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CELL, CELL_ENDS = "<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>"


def word(inside: str) -> bytes:
    return zipped({"word/document.xml": f'<w:d xmlns:w="{SPACE}">{inside}</w:d>'.encode()})


def book(opf: str, chapter: bytes = b"") -> bytes:
    container = b'<c><rootfile full-path="o.opf"/></c>'
    return zipped({"META-INF/container.xml": container, "o.opf": opf.encode(), "a.html": chapter})


def spine(link: str, n: int = 1) -> str:
    item = f'<item id="a" href="{link}" media-type="text/html"/>'
    return f"<p>{item}<spine>" + '<itemref idref="a"/>' * n + "</spine></p>"


PACKAGES = {
    "laughs.docx": lambda _r, _n: zipped({"word/document.xml": LAUGHS.encode()}),
    "bomb.docx": lambda _r, n: word("<w:p>" + " " * (n << 16) + "</w:p>"),
    "deep.docx": lambda _r, n: word(CELL * n * 30 + "x" + CELL_ENDS * n * 30),
    "flipped.docx": lambda r, n: flipped(r, word(f"<w:p><w:t>{prose(r, n << 5)}</w:t></w:p>")),
    "laughs.epub": lambda _r, _n: book(LAUGHS),
    "bomb.epub": lambda _r, n: book(spine("a.html", n), b"<p>" + b" x" * (n << 12)),
    "outside.epub": lambda _r, _n: book(spine("../../../../etc/passwd")),
}


def nested(n: int) -> bytes:
    body = b"text"
    for level in range(n % 5 + 1):
        body = zipped({f"{level}.{'zip' if level else 'txt'}": body})
    return body


def links(n: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"{kind!r}.txt")
            info.type, info.linkname = kind, "../" * n + "etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../out.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))
    return file.getvalue()


PATHS = ["../../out.txt", "/etc/out.txt", "C:\\out.txt", "a/../../out.txt", "nul\x01.txt"]
ARCHIVES = {
    "paths.zip": lambda _r, n: zipped(
        {f"{'../' * i}{p}": b"x" for i in range(n % 9 + 1) for p in PATHS}
    ),
    "bomb.zip": lambda _r, n: zipped({"a.txt": b"a\n" * (n << 18)}),
    "nested.zip": lambda _r, n: nested(n),
    "flipped.zip": lambda r, n: flipped(
        r, zipped({f"{i}.txt": prose(r, n).encode() for i in "12"})
    ),
    "links.tar": lambda _r, n: links(n),
    "flipped.tar.gz": lambda r, n: gzip.compress(flipped(r, links(n)), 1),
    "bomb.txt.xz": lambda _r, n: lzma.compress(bytes(n << 17), preset=0),
    "cut.txt.bz2": lambda r, n: cut(r, bz2.compress(prose(r, n << 8).encode())),
}
BAD = [b"{", b"[" * 99_999, b'{"text": ' + b"[" * 99_999, b'{"text": 1e999}', b"\xff\xfe{}"]
TEXTS = {
    "noise.txt": lambda r, n: r.randbytes(n << 7),
    "line.txt": lambda r, n: prose(r, n << 10).encode(),
    "nul.txt": lambda r, n: prose(r, n << 8).encode() + b"\0",
    "lines.jsonl": lambda r, _n: b"\n".join(r.choices([*BAD, b'{"text": "good"}'], k=20)),
    "quote.csv": lambda r, n: b'id,text\n1,"' + prose(r, n << 10).encode(),
    "rows.csv": lambda _r, n: b"a,b\n" + b"1,2\n" * n * 100,
}
MAKERS: dict[str, Callable[[random.Random, int], bytes]] = {
    **{f"{name}.html": lambda _r, n, name=name: nest(name, n) for name in NESTS},
    **PAGES,
    **PDFS,
    **PACKAGES,
    **ARCHIVES,
    **TEXTS,
}  # by name.ending, what makes one of so many units of size


def write(folder: Path, n: int, most: int, seed: int = 0) -> list[str]:
    """Write n files of all makers in turn, of up to so many units of size."""
    r = random.Random(seed)
    folder.mkdir()
    names = []
    for number in range(n):
        name, make = list(MAKERS.items())[number % len(MAKERS)]
        size = max(1, int(most ** r.random())) if number >= len(MAKERS) else most
        names.append(f"{number:05}-{name}")
        (folder / names[-1]).write_bytes(make(r, size))
    return names


def check(folder: Path, names: list[str], out: Path, config: ExtractConfig) -> None:
    counts = extract_documents(folder, out, config=config, scale=Scale(2))
    kept = [one for path in in_order(out.iterdir()) for one in read_stored(path)]
    paths = sorted((out / FAILED).glob("*.jsonl"))
    failed = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    assert counts.n_in == counts.n_kept + counts.dropped.total()
    assert (counts.n_kept, counts.dropped.total()) == (len(kept), len(failed))
    met = {one.id.split("/")[1].partition(":")[0] for one in kept}
    met |= {one["id"].split("/")[1].partition(":")[0] for one in failed}
    assert met == set(names)
    assert all(one.text.strip() for one in kept)
    assert not list(folder.parent.rglob("*out.txt"))
    print(counts.as_json())


def test_hundreds_of_hostile_documents(tmp_path, caplog):
    names = write(tmp_path / "in", 4 * len(MAKERS), 100)
    began = time.monotonic()
    check(tmp_path / "in", names, tmp_path / "out", ExtractConfig(time_limit=0.5))
    assert "died" not in caplog.text
    assert time.monotonic() - began < 120


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_hostile_documents(tmp_path, caplog):
    import resource

    names = write(tmp_path / "in", 10_000, 300)
    check(tmp_path / "in", names, tmp_path / "out", ExtractConfig(time_limit=1.0))
    assert "died" not in caplog.text
    # the most that one process held, of all that were started and have ended
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"peak memory of a process: {peak / 1e6:.0f} MB")
    assert peak < 1e9
