"""Ids to text, one id at a time, never half a character."""

import codecs
from collections.abc import Callable, Sequence

from scratchlm.base.errors import DataError


class StreamDecoder:
    """Turns ids into text as they come; a character split over several ids waits for its last.

    pieces       the bytes of each id
    gap          what stands between two pieces (words); None where pieces hold their own spaces
    drop_space   True drops one space at the very beginning: the one SentencePiece puts there
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        gap: Callable[[str, str], str] | None = None,
        drop_space: bool = False,
    ) -> None:
        self._pieces = pieces
        self._gap = gap
        self._drop_space = drop_space
        self._last = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that has become certain with this id, often "" inside a character.

        raises   DataError for an id outside the vocabulary
        """
        if not 0 <= token < len(self._pieces):
            raise DataError(
                f"id {token} is outside the vocabulary of {len(self._pieces)} ids: "
                "these ids were made by another tokenizer."
            )
        return self._join(self._utf8.decode(self._pieces[token]))

    def flush(self) -> str:
        """The rest: a replacement character where the ids ended inside a character."""
        return self._join(self._utf8.decode(b"", final=True))

    def _join(self, text: str) -> str:
        if not text:
            return ""
        if self._drop_space:
            self._drop_space = False
            text = text.removeprefix(" ")
        if self._gap and self._last:
            text, self._last = self._gap(self._last, text) + text, text
        else:
            self._last = text
        return text
