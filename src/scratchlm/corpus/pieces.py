"""Running text to documents, and long documents to pieces that encode like the whole."""

import re
from collections.abc import Iterable, Iterator

PIECE = 1 << 20  # characters
_REACH = 1 << 16  # how far before a piece's end a good place is looked for

# The best first. No tokenizer here makes a token across the first; across the next two only
# SentencePiece may, when the text that it was trained on taught it to.
_PLACES = (
    re.compile(r"(?<=\S\n)(?=\S)"),  # after a line end between two characters
    re.compile(r"(?<=\w)(?= \w)"),  # before the space in front of a word
    re.compile(r"(?<=\w)(?=[^\w\s])"),  # after a word, before its punctuation
    re.compile(r""),  # inside an endless word
)


def split_documents(texts: Iterable[str], separator: str | None) -> Iterator[tuple[str, bool]]:
    """The documents of a running text in parts: (text, whether the document ends here).

    separator  stands between documents and takes the line ends around it with it; None: all is
               one document
    """
    if not separator:
        yield from ((text, False) for text in texts)
        yield "", True
        return
    held, after = "", False  # after: nothing of the document behind a separator was seen yet
    for text in texts:
        *ended, held = (held + text).split(separator)
        for part in ended:
            yield (part.lstrip("\n") if after else part).rstrip("\n"), True
            after = True
        held = held.lstrip("\n") if after else held
        # a separator, and line ends in front of it, may have begun at the end of this text
        certain = len(held[: max(0, len(held) - len(separator) + 1)].rstrip("\n"))
        if certain:
            yield held[:certain], False
            held, after = held[certain:], False
    if held or not after:
        yield held, True


def cut_pieces(parts: Iterable[tuple[str, bool]], size: int = PIECE) -> Iterator[tuple[str, bool]]:
    """Regroup the parts of documents into pieces of `size` / 2 to `size` characters.

    A document's last piece may be shorter, down to a whole document; one of nothing but white
    space comes as ("", True).
    """
    held, begun = "", False
    for text, ends in parts:
        held += text
        while len(held) > size:
            at = _best_cut(held, size)
            yield held[:at], False
            held, begun = held[at:], True
        if ends:
            yield held if begun or held.strip() else "", True
            held, begun = "", False


def _best_cut(text: str, size: int) -> int:
    first = size - min(_REACH, size // 2)
    for place in _PLACES:
        found = [match.start() for match in place.finditer(text, first, size)]
        if found:
            return found[-1]
    raise AssertionError("the last pattern matches everywhere")
