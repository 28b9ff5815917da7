"""Text that Python holds but UTF-8 cannot write."""

from scratchlm.base.errors import DataError


def to_utf8(text: str) -> bytes:
    """A text in UTF-8.

    raises   DataError for a lone surrogate, which the `tokenizers` library only calls a TypeError;
             they come from decoding with errors="surrogateescape" and from JSON like "\\ud83d"
    """
    try:
        return text.encode()
    except UnicodeEncodeError as bad:
        raise DataError(
            f"character {bad.start} of the text is a lone surrogate "
            f"(U+{ord(text[bad.start]):04X}), which UTF-8 cannot write. Decode the text again "
            'with errors="replace".'
        ) from None


def refuse_surrogates(text: str) -> None:
    """Raise DataError for a lone surrogate."""
    to_utf8(text)
