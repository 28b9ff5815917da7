"""The library zstandard, which the extra `web` brings: compressed dumps and documents."""

from typing import Any

from scratchlm.base.errors import MissingExtraError


def zstandard(purpose: str) -> Any:
    """The module; `purpose` begins the sentence that says what needs it.

    raises   MissingExtraError
    """
    try:
        import zstandard
    except ModuleNotFoundError:
        raise MissingExtraError("zstandard", "web", purpose) from None
    return zstandard
