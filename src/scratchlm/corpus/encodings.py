"""Bytes to text: which encoding a file has, and decoding it piece by piece.

Recognised are UTF-8 and UTF-16 with or without a byte order mark, UTF-32 with one, and GB18030,
which includes GBK and GB2312. Anything else is an error, not a guess: converting a file once is
cheaper than a corpus of wrong characters.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from scratchlm.base.errors import DataError

Errors = Literal["strict", "replace"]

_BLOCK = 1 << 20
_SAMPLE = 1 << 16  # bytes; even, so that a sample never starts inside a UTF-16 unit
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the first half of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# both scripts, modern and classical, with punctuation
_COMMON_CHINESE = frozenset(
    "，。、：；？！《》“”（）「」的一是不了人在有我他這这中大來来上國国個个到说說們们為为子和你地出道也"
    "時时年得就那要下以生會会自着著去之過过家學学對对可裡里後后無无天日山風风何月雲云水心"
)
NAMES = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8 with a byte order mark",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16 LE without a mark",
    "utf-16-be": "UTF-16 BE without a mark",
    "utf-32": "UTF-32",
    "gb18030": "GB18030",
}


def detect(file: BinaryIO, path: Path) -> str:
    """The codec of a file, one of NAMES; reads from its start to the first block that tells.

    raises   DataError for a binary file (NUL bytes that are not UTF-16)
    """
    file.seek(0)
    sample = file.read(_SAMPLE)
    for mark, codec in _MARKS:
        if sample.startswith(mark):
            return codec
    while sample.isascii() and b"\0" not in sample:
        if len(sample) < _SAMPLE:
            return "utf-8"
        sample = file.read(_SAMPLE)
    if b"\0" not in sample:  # otherwise the decoder names the byte that is not UTF-8
        return "gb18030" if not _is_utf8(sample) and _is_chinese(sample, "gb18030") else "utf-8"
    for codec in ("utf-16-le", "utf-16-be"):
        if _is_utf16(sample, codec):
            return codec
    raise _binary(path, file.tell() - len(sample) + sample.index(b"\0"))


def decode(file: BinaryIO, path: Path, codec: str, errors: Errors) -> Iterator[str]:
    """The text of a file in pieces of about 1 MB; "\\r\\n" becomes "\\n", all else stays.

    errors   "replace" puts U+FFFD in the place of bytes that cannot be decoded
    raises   DataError naming the file and the byte: undecodable (errors="strict"), or NUL
    """
    file.seek(0)
    decoder = codecs.getincrementaldecoder(codec)(errors)
    position = 0
    held = ""  # a "\r" at a piece's end waits for its "\n"
    final = False
    while not final:
        block = file.read(_BLOCK)
        final = not block
        position += len(block)
        try:
            text = held + decoder.decode(block, final)
        except UnicodeDecodeError as bad:
            # what it failed on ends with this block, and may begin before it
            place = position - len(bad.object) + bad.start
            raise _undecodable(path, codec, place, bad) from None
        if "\0" in text:
            raise _binary(path, position - len(block))
        held = "\r" if text.endswith("\r") and not final else ""
        yield text[: len(text) - len(held)].replace("\r\n", "\n")


def _begin(sample: bytes, codec: str) -> str:
    return codecs.getincrementaldecoder(codec)("replace").decode(sample)


def _is_utf8(sample: bytes) -> bool:
    """Whether most characters beyond ASCII are valid; a few broken ones are for the decoder."""
    text = _begin(sample, "utf-8")
    n_beyond = len(text) - len(text.encode("ascii", "ignore"))
    return text.count("\ufffd") <= n_beyond / 2


def _is_chinese(sample: bytes, codec: str) -> bool:
    """Whether common characters make up 0.15 of those beyond ASCII.

    Chinese of all ages has 0.28 or more; Japanese, Korean, Big5, Cyrillic and Western encodings
    read as GB18030, and ASCII read as UTF-16, have 0.08 or less (measured on 64 kB of each).
    """
    beyond = [char for char in _begin(sample, codec) if not char.isascii()]
    return sum(char in _COMMON_CHINESE for char in beyond) > 0.15 * len(beyond)


def _is_utf16(sample: bytes, codec: str) -> bool:
    """Whether everyday characters make up 0.97 of the text (random bytes: 0.5)."""
    text = _begin(sample, codec)
    if sum(map(_is_everyday, text)) < 0.97 * len(text):
        return False
    ideographs = sum("\u4e00" <= char < "\ua000" for char in text)
    return ideographs < len(text) / 2 or _is_chinese(sample, codec)


def _is_everyday(char: str) -> bool:
    """Latin, Greek, Cyrillic; punctuation; Chinese, Japanese, Korean; no control characters."""
    return (
        "\x20" <= char < "\u0500"
        or char in "\t\n\r"
        or "\u2010" <= char < "\u2030"
        or "\u3000" <= char < "\u3100"
        or "\u4e00" <= char < "\ua000"
        or "\uac00" <= char < "\ud7b0"
        or "\uff00" <= char < "\ufff0"
    )


def _binary(path: Path, position: int) -> DataError:
    return DataError(
        f"{path} holds NUL bytes (at or after byte {position}): it is a binary file, not text. "
        "Take it out of the folder, or convert it to a UTF-8 text."
    )


def _undecodable(path: Path, codec: str, position: int, bad: UnicodeDecodeError) -> DataError:
    shown = bad.object[bad.start : bad.start + 4]
    guess = "" if codec in ("utf-8-sig", "utf-16", "utf-32") else ", which it looked most like"
    return DataError(
        f"{path}, byte {position}: {shown!r} is not valid {NAMES[codec]}{guess} (recognised are "
        "UTF-8, UTF-16 and GB18030). Convert the file to UTF-8, or, where it is text to prepare, "
        'set errors = "replace", which puts U+FFFD there and counts it.'
    )
