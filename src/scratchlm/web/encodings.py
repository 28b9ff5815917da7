"""The encodings in which servers send a body, undone within a limit of size."""

import zlib

PACKED = ("gzip", "x-gzip", "deflate")  # the names that `unpacked` knows


def unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body without its content encoding; of a larger one `max_bytes` and one more.

    encoding   "" and "identity" leave it as it is; of several gzip streams the first one counts
    raises     ValueError for one that is cut or damaged, and for an encoding that is not known
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in PACKED:
        raise ValueError(encoding)
    stream = zlib.decompressobj(_wbits(body, encoding))
    try:
        text = stream.decompress(body, max_bytes + 1)
    except zlib.error as bad:
        raise ValueError(bad) from None
    if len(text) <= max_bytes and not stream.eof:
        raise ValueError("cut")
    return text


def _wbits(body: bytes, encoding: str) -> int:
    """What zlib calls the format; some servers leave out the head that "deflate" should have."""
    if encoding != "deflate":
        return 31
    has_head = bool(body) and body[0] & 15 == 8  # RFC 1950, section 2.2
    return 15 if has_head else -15
