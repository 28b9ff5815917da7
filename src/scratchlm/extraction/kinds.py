"""What a file is: by its name, or by how it begins."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "text", "code", "jsonl", "parquet", "table", "html", "pdf", "docx", "epub", "warc",
    "zip", "tar", "packed",
]  # fmt: skip
# packed: compressed, and what is inside is seen when it is opened

_ENDINGS: dict[Kind, str] = {
    "text": ".txt .text .md .markdown .rst .tex .org .adoc",
    "code": ".py .pyi .js .mjs .cjs .jsx .ts .tsx .vue .svelte .java .kt .kts .scala .groovy .clj "
    ".c .h .cc .cpp .cxx .hh .hpp .cu .cuh .m .mm .cs .fs .vb .go .rs .zig .nim .d .dart .swift "
    ".rb .php .pl .pm .lua .tcl .r .jl .sql .sh .bash .zsh .fish .ps1 .bat .vim .el .lisp .scm "
    ".hs .ml .mli .erl .ex .exs .f .f90 .f95 .pas .asm .s .v .sv .vhd .css .scss .less .proto "
    ".thrift .graphql .toml .ini .cfg .yaml .yml .cmake .mk .gradle",
    "jsonl": ".jsonl .ndjson",
    "parquet": ".parquet",
    "table": ".csv .tsv",
    "html": ".html .htm .xhtml",
    "pdf": ".pdf",
    "docx": ".docx",
    "epub": ".epub",
    "warc": ".warc .wet",
    "zip": ".zip",
    "tar": ".tar .tgz .tbz2 .txz",
}
KINDS: dict[str, Kind] = {
    ending: kind for kind, endings in _ENDINGS.items() for ending in endings.split()
}  # the one table of which ending, in lower case, is what
PACKINGS = (".gz", ".bz2", ".xz", ".zst")  # a stream compressed as a whole
_BOTH = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}  # archive and packing in one ending
_ALREADY = {"parquet", "docx", "epub", "zip"}  # compressed inside, and read from their ends

HEAD = 1024  # bytes of a file's beginning that tell what it is
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


@dataclass(frozen=True, slots=True)
class Named:
    """What a name says: the kind, None where it says nothing, and how it is packed ("" if not)."""

    kind: Kind | None
    packing: str = ""


def kind_of_name(name: str) -> Named:
    """What a file's name says of it."""
    base, dot, last = name.lower().rpartition(".")
    ending = dot + last
    if ending in _BOTH:
        return Named("tar", _BOTH[ending])
    if ending not in PACKINGS:
        return Named(KINDS.get(ending) if base else None)
    inner, dot, last = base.rpartition(".")
    kind = KINDS.get(dot + last) if inner else None
    return Named("packed" if kind is None or kind in _ALREADY else kind, ending)


def kind_of_bytes(head: bytes) -> Kind | None:
    """What the first HEAD bytes say; None where they say nothing, as those of plain text do."""
    if b"%PDF-" in head[:HEAD]:
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return "epub" if head[30:58] == b"mimetypeapplication/epub+zip" else None
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"WARC/1."):
        return "warc"
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    is_xhtml = start.startswith((b"<?xml", b"<!--")) and any(sign in start for sign in _HTML[:2])
    return "html" if start.startswith(_HTML) or is_xhtml else None
