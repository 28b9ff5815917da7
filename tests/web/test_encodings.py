"""Content encodings are undone, or refused, within a limit."""

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.web.encodings import unpacked

TEXT = b"\xe6\x98\xa5 text " * 50
PACKERS = [
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", lambda data: zlib.compress(data, wbits=-15)),
]


@pytest.mark.parametrize(("encoding", "pack"), PACKERS)
def test_each_is_undone(encoding, pack):
    for text in (TEXT, b"", b"x"):
        assert unpacked(pack(text), encoding, 1 << 20) == text


@pytest.mark.parametrize(("encoding", "pack"), PACKERS[2:])
def test_what_is_too_large_is_cut_one_byte_later(encoding, pack):
    packed = pack(bytes(50_000_000))
    assert len(unpacked(packed, encoding, 1000)) == 1001
    assert len(unpacked(packed[:5000], encoding, 1000)) == 1001


@pytest.mark.parametrize(("encoding", "pack"), PACKERS[2:])
def test_what_is_cut_is_refused(encoding, pack):
    packed = pack(TEXT)
    for end in range(len(packed)):
        with pytest.raises(ValueError):
            unpacked(packed[:end], encoding, 1 << 20)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "utf-8", "GZIP"])
def test_other_encodings_are_refused(encoding):
    with pytest.raises(ValueError, match=encoding):
        unpacked(TEXT, encoding, 1 << 20)


def test_only_the_first_of_several_streams_counts():
    assert unpacked(gzip.compress(TEXT) * 9 + b"rest", "gzip", 1 << 20) == TEXT


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_text_or_refused(data, encoding):
    with suppress(ValueError):
        assert len(unpacked(data, encoding, 1000)) <= 1001
