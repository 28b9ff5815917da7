"""Text that Python holds but UTF-8 cannot write."""

from scratchlm.base.errors import DataError


def refuse_surrogates(text: str) -> None:
    """Raise DataError for a lone surrogate, which the `tokenizers` library only calls a TypeError.

    They come from decoding with errors="surrogateescape" and from JSON such as "\\ud83d".
    """
    try:
        text.encode()
    except UnicodeEncodeError as bad:
        raise DataError(
            f"character {bad.start} of the text is a lone surrogate "
            f"(U+{ord(text[bad.start]):04X}), which UTF-8 cannot write. Decode the text again "
            'with errors="replace".'
        ) from None
