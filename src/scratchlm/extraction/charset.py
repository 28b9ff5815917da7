"""Bytes of a web page to text: what the server says, what the page says, what the bytes say.

The order is not the browsers' (WHATWG, Encoding Standard), who trust the server: many a server
says "iso-8859-1" of everything. What cannot be by chance, valid UTF-8 and valid text in an encoding
of several bytes, goes before what fits all bytes.
"""

import codecs
import re

from scratchlm.extraction.libraries import resiliparse

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META = re.compile(rb"""<meta[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{2,40})""", re.IGNORECASE)
_ESCAPE = re.compile(rb"\x1b\$[@B]")  # to Japanese, in the encoding of seven bits that mails have
_PRESCAN = 8192  # bytes; browsers look at 1,024, and pages put scripts in front
_SAMPLE = 1 << 17  # bytes that detection looks at
# names of Python's codecs, and the larger ones that pages mean by them
_WIDER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
}
_SEVERAL = ("gb18030", "big5hkscs", "cp932", "euc_jp", "iso2022_jp", "cp949")
_SINGLE = ("cp125", "iso8859-", "koi8-", "cp874", "cp866", "mac-roman", "mac-cyrillic")


def decode_page(body: bytes, charset: str = "") -> str:
    """The text of a page; what cannot be decoded is U+FFFD.

    charset   that the server named, "" for none
    """
    for mark, marked in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(marked, "replace")
    named = [codec for name in (charset, *_declared(body)) if (codec := codec_of(name))]
    if body.isascii():
        return body.decode("iso2022_jp" if _ESCAPE.search(body) else "ascii", "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        pass
    return _best(body, named)


def codec_of(name: str) -> str | None:
    """Python's codec for the name of a character set; None for what no page should have.

    Python has codecs that unzip or run for minutes: only known ones are let in.
    """
    try:
        given = codecs.lookup(name.strip(" \t\"'").lower().removeprefix("x-")).name
    except (LookupError, ValueError):  # a name with a NUL is a ValueError
        return None
    codec = _WIDER.get(given, given)
    is_known = codec == "utf-8" or codec in _SEVERAL or codec.startswith(_SINGLE)
    return codec if is_known else None


def guessed(body: bytes) -> str | None:
    """The codec that the bytes look most like; None where they look like nothing known."""
    name = resiliparse().detect(body[:_SAMPLE])
    return codec_of(name) if name else None


def _declared(body: bytes) -> list[str]:
    head = body[:_PRESCAN]
    found = [*_META.findall(head), *_XML.findall(head)]
    return [name.decode("ascii", "replace") for name in found]


def _best(body: bytes, named: list[str]) -> str:
    """Text of what is not UTF-8."""
    likely = guessed(body)
    candidates = [*named, likely] if likely else named
    for codec in candidates:
        if codec in _SEVERAL and (text := _sound(body, codec)) is not None:
            return text
    if "utf-8" in named and (text := _sound(body, "utf-8")) is not None:
        return text
    single = [codec for codec in candidates if codec.startswith(_SINGLE)]
    return body.decode(single[0] if single else "utf-8", "replace")


def _sound(body: bytes, codec: str) -> str | None:
    """The text where at most one in 100 characters beyond ASCII is broken; None otherwise."""
    text = body.decode(codec, "replace")
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    return text if text.count("\ufffd") * 100 <= beyond else None
