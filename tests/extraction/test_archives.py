"""Archives as streams: honest ones, broken ones, and those that mean harm."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib

import pytest
import zstandard

from scratchlm.extraction import archives
from scratchlm.extraction.archives import Budget, Unpacked, members
from scratchlm.extraction.result import Unreadable

TEXT = "The first text. 第一篇。\n".encode()
FILES = {"a.txt": TEXT, "folder/b.txt": TEXT * 2, "empty.txt": b""}
PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def zipped(files: dict[str, bytes], **options) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, **types: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind in types.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../../etc/passwd"
            archive.addfile(info)
    return file.getvalue()


def read(kind: str, body: bytes, budget: Budget | None = None) -> dict[str, bytes | str]:
    """Each member's bytes, or its fault."""
    found: dict[str, bytes | str] = {}
    for member in members(kind, io.BytesIO(body), budget or Budget(len(body))):
        found[member.name] = member.fault or whole(member.stream)
    return found


def whole(stream) -> bytes:
    return b"".join(iter(lambda: stream.read(1000), b""))


def unpack(body: bytes, packing: str, budget: Budget | None = None) -> bytes:
    return whole(Unpacked(io.BytesIO(body), packing, budget or Budget(len(body))))


def test_members():
    assert read("zip", zipped(FILES)) == FILES
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        assert read("tar", tarred(FILES, form)) == FILES


def test_members_that_nobody_reads_are_skipped():
    for kind, body in (("zip", zipped(FILES)), ("tar", tarred(FILES))):
        names = [one.name for one in members(kind, io.BytesIO(body), Budget(1))]
        assert names == list(FILES)


@pytest.mark.parametrize("packing", PACK)
def test_packed_streams(packing):
    body = TEXT * 10_000
    assert unpack(PACK[packing](body), packing) == body
    both = PACK[packing](body) + PACK[packing](TEXT)
    assert unpack(both, packing) == body + TEXT
    assert unpack(PACK[packing](b""), packing) == b""


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_packed_streams_that_are_cut_or_damaged(packing, share):
    whole = PACK[packing](os.urandom(200_000))
    at = int(share * len(whole))
    with pytest.raises(Unreadable, match="broken archive"):
        unpack(whole[:at], packing)
    damaged = whole[:at] + bytes(100) + whole[at + 100 :]
    if packing != ".zst":  # which has no checksum unless it is asked for
        with pytest.raises(Unreadable, match="broken archive"):
            unpack(damaged, packing)


@pytest.mark.parametrize("packing", PACK)
def test_bombs_in_packed_streams(packing, monkeypatch):
    monkeypatch.setattr(archives, "_SLACK", 1 << 20)
    bomb = PACK[packing](bytes(30 << 20))
    with pytest.raises(Unreadable, match="unpacks to too much"):
        unpack(bomb, packing)


def test_an_xz_file_that_asks_for_much_memory_is_refused():
    body = bytearray(lzma.compress(TEXT))
    end = 12 + 4 * body[12]  # of the block's header, in front of its CRC-32
    body[body.index(b"\x21\x01", 12, end) + 2] = 36  # a dictionary of 1 GB
    body[end : end + 4] = zlib.crc32(body[12:end]).to_bytes(4, "little")
    with pytest.raises(Unreadable, match=r"broken archive .*[Mm]emory"):
        unpack(bytes(body), ".xz")


def test_a_bomb_in_a_zip(monkeypatch):
    monkeypatch.setattr(archives, "_SLACK", 1 << 20)
    with pytest.raises(Unreadable, match="unpacks to too much"):
        read("zip", zipped({"a.txt": bytes(30 << 20)}))


def test_names_cannot_lead_out():
    names = [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "C:\\x\\..\\..\\y",
        "./c",
        "..",
        "a\0b",
    ]
    wanted = ["etc/passwd", "etc/passwd", "b", "y", "c", "unnamed", "ab"]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names[:-1]:
            archive.writestr(name, b"x")
    found = [one.name for one in members("zip", file, Budget(1))]
    assert found == wanted[:-1]
    body = tarred(dict.fromkeys(names[:-1], b"x"))
    assert [one.name for one in members("tar", io.BytesIO(body), Budget(1))] == wanted[:-1]


def test_links_and_devices_are_refused():
    types = {
        "s": tarfile.SYMTYPE,
        "h": tarfile.LNKTYPE,
        "f": tarfile.FIFOTYPE,
        "d": tarfile.CHRTYPE,
    }
    found = read("tar", tarred({"a": b"x"}, **types))
    assert found == {"a": b"x", "s": "link", "h": "link", "f": "no file", "d": "no file"}
    info = zipfile.ZipInfo("s")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert read("zip", file.getvalue()) == {"s": "link"}


def test_folders_are_no_members():
    assert read("tar", tarred({"a": b"x"}, folder=tarfile.DIRTYPE)) == {"a": b"x"}
    assert read("zip", zipped({"folder/": b"", "folder/a": b"x"})) == {"folder/a": b"x"}


def test_members_behind_a_password():
    body = bytearray(zipped({"a.txt": TEXT}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(signature) + place] |= 1
    assert read("zip", bytes(body)) == {"a.txt": "encrypted"}


def test_a_zip_that_lies_about_sizes():
    body = bytearray(zipped({"a.txt": TEXT * 100, "b.txt": TEXT}))
    at = body.index(b"PK\x01\x02") + 24
    body[at : at + 4] = (50).to_bytes(4, "little")
    found = members("zip", io.BytesIO(bytes(body)), Budget(len(body)))
    first = next(found)
    with pytest.raises(Unreadable, match="broken archive"):
        whole(first.stream)
    assert next(found).stream.read(100) == TEXT  # the next one is whole


def test_a_zip_whose_list_is_said_to_be_endless():
    body = bytearray(zipped({"a.txt": TEXT}))
    at = body.rindex(b"PK\x05\x06") + 12
    body[at : at + 4] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(Unreadable, match="its list has over 32 MB"):
        read("zip", bytes(body))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.45, 0.9])
def test_archives_that_are_cut(share):
    content = {"a.txt": os.urandom(5000), "b.txt": os.urandom(5000)}
    for kind, whole in (("zip", zipped(content)), ("tar", tarred(content)[: 22 * 512])):
        with pytest.raises(Unreadable, match="broken archive"):
            read(kind, whole[: int(share * len(whole))])


def test_a_tar_that_is_damaged_between_members():
    body = bytearray(tarred(FILES))
    body[1024:1030] = b"damage"  # the second header
    with pytest.raises(Unreadable, match="damaged or cut short"):
        read("tar", bytes(body))


def test_a_tar_with_an_endless_name():
    info = tarfile.TarInfo("n")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    body = info.tobuf() + b"x" * (3 << 20)
    with pytest.raises(Unreadable, match="a header of over 1 MB"):
        read("tar", body)


def test_a_tar_with_headers_of_headers():
    info = tarfile.TarInfo("n")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 512
    with pytest.raises(Unreadable, match="broken archive"):
        read("tar", (info.tobuf() + bytes(512)) * 900)


def test_many_members(monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 100)
    body = tarred({f"{i}.txt": b"x" for i in range(101)})
    with pytest.raises(Unreadable, match="over 100 members"):
        read("tar", body)


@pytest.mark.parametrize("codec", ["utf-8", "gb18030"])
def test_names_of_windows_in_china(codec):
    body = zipped({"XXXXXX.txt": TEXT}).replace(b"XXXXXX", "春天".encode(codec).ljust(6, b"_"))
    (name,) = read("zip", body)
    assert name.startswith("春天")
