"""Encodings are recognised, named and decoded piece by piece; what is not text is refused."""

import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.base.errors import DataError
from scratchlm.corpus import encodings
from scratchlm.corpus.encodings import decode, detect

PATH = Path("some.txt")
ENGLISH = (
    "It is a truth universally acknowledged, that a single man\nmust be in want of a wife.\n" * 9
)
TANG = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n" * 20
CLASSIC = "子曰：「學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？」\n" * 20
MIXED = "The poem 静夜思 by 李白 begins: 床前明月光，疑是地上霜。\n" * 9


def found(data: bytes) -> str:
    return detect(io.BytesIO(data), PATH)


def text_of(data: bytes, codec: str, errors: str = "strict") -> str:
    return "".join(decode(io.BytesIO(data), PATH, codec, errors))


@pytest.mark.parametrize(
    "text", [ENGLISH, TANG, CLASSIC, MIXED], ids=["en", "tang", "classic", "mixed"]
)
@pytest.mark.parametrize("codec", list(encodings.NAMES))
def test_every_encoding_is_recognised_and_read(text, codec):
    data = text.encode(codec)
    expected = "utf-8" if codec == "gb18030" and text is ENGLISH else codec
    assert found(data) == expected
    assert text_of(data, expected) == text


def test_characters_are_found_behind_much_ascii():
    data = (ENGLISH * 200 + TANG).encode("gb18030")
    assert data[: 1 << 16].isascii()
    assert found(data) == "gb18030"


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Übermäßige Größe führt öfter zu Ärger, süße Grüße\n" * 9, "latin-1"),
        ("L'été, où étaient les élèves à l'âge de la forêt?\n" * 9, "cp1252"),
        ("Широкая электрификация южных губерний даст мощный толчок\n" * 9, "cp1251"),
        ("Широкая электрификация южных губерний даст мощный толчок\n" * 9, "koi8-r"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたか見当がつかぬ。\n" * 9, "euc-jp"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたか見当がつかぬ。\n" * 9, "shift-jis"),
        ("모든 국민은 신체의 자유를 가진다 모든 국민은 법 앞에 평등하다\n" * 9, "euc-kr"),
        ("學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？\n" * 9, "big5"),
    ],
)
def test_other_encodings_are_refused_not_guessed(text, codec):
    data = text.encode(codec)
    assert found(data) == "utf-8"
    with pytest.raises(DataError, match=r"some\.txt, byte \d+: .* is not valid UTF-8"):
        text_of(data, "utf-8")


@pytest.mark.parametrize(
    "data",
    [
        b"hello\0world\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0",
        bytes(1000),
        random.Random(0).randbytes(100_000),
        ENGLISH.encode() + b"\0" + ENGLISH.encode(),
    ],
    ids=["c-strings", "png", "zeros", "random", "stray"],
)
def test_binary_files_are_named(data):
    with pytest.raises(DataError, match=r"some\.txt holds NUL bytes .* a binary file"):
        found(data)


def test_a_nul_far_into_a_text_is_found():
    data = TANG.encode() * 1000 + b"\0"
    assert found(data) == "utf-8"
    with pytest.raises(DataError, match="binary file"):
        text_of(data, "utf-8")


@pytest.mark.parametrize("codec", ["utf-8", "gb18030", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("place", [0, 5, (1 << 20) - 2, 1 << 20, 2_000_001])
def test_the_offending_byte_is_named(codec, place):
    bad = b"\x00\xdc" if codec == "utf-16-le" else b"\xff"
    mark = b"\xef\xbb\xbf" if codec == "utf-8-sig" else b""
    plain = codec.removesuffix("-sig")
    before = (TANG * 2000).encode(plain)[: place // 2 * 2].decode(plain, "ignore").encode(plain)
    data = mark + before + bad + TANG.encode(plain)
    with pytest.raises(DataError, match=f"some.txt, byte {len(mark + before)}: "):
        text_of(data, codec)
    assert text_of(data, codec, "replace") == before.decode(plain) + "\ufffd" + TANG


def test_a_few_broken_bytes_do_not_change_the_encoding():
    data = TANG.encode()[:100] + b"\xff" + TANG.encode()
    assert found(data) == "utf-8"


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_line_ends_of_windows_become_newlines_across_blocks(text):
    block, encodings._BLOCK = encodings._BLOCK, 3
    try:
        assert text_of(text.encode(), "utf-8") == text.replace("\r\n", "\n")
    finally:
        encodings._BLOCK = block
