"""What a file is, by its name and by its bytes."""

import pytest

from scratchlm.extraction.kinds import KINDS, Named, kind_of_bytes, kind_of_name


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("a.txt", Named("text")),
        ("A.HTML", Named("html")),
        ("folder.d/a.py", Named("code")),
        ("a.jsonl.zst", Named("jsonl", ".zst")),
        ("a.tar.gz", Named("tar", ".gz")),
        ("a.TGZ", Named("tar", ".gz")),
        ("a.warc.gz", Named("warc", ".gz")),
        ("urlsf_subset00-1_data.xz", Named("packed", ".xz")),
        ("book.epub.gz", Named("packed", ".gz")),  # it is read from its end
        ("README", Named(None)),
        (".txt", Named(None)),
        ("folder.txt/README", Named(None)),
        ("a.jpg", Named(None)),
        ("a.jpg.gz", Named("packed", ".gz")),
        ("", Named(None)),
    ],
)
def test_names(name, known):
    assert kind_of_name(name) == known


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.7\n", "pdf"),
        (b"\r\n\r\n%PDF-1.7\n", "pdf"),  # some servers put lines in front
        (b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/epub+zip", "epub"),
        (b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", None),
        (bytes(257) + b"ustar\x0000", "tar"),
        (b"WARC/1.1\r\n", "warc"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML PUBLIC", "html"),
        (b"<html lang=zh>", "html"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html>", "html"),
        (b"<?xml version='1.0'?>\n<feed>", None),
        (b"PAR1", "parquet"),
        (b"Once upon a time", None),
        (b"", None),
    ],
)
def test_bytes(head, kind):
    assert kind_of_bytes(head) == kind


def test_every_ending_is_one_and_in_lower_case():
    assert all(ending == f".{ending[1:].lower()}" and "." not in ending[1:] for ending in KINDS)
