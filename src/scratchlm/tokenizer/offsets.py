"""Which characters of a text each id comes from, and control tokens that stay text.

A part of a text may have been written by somebody who must not give orders. The characters of it
are named as `plain`, and then no control token takes any of them: "<|im_end|>" in a user's message
is then ten characters like others.
"""

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator

from scratchlm.base.errors import DataError

Span = tuple[int, int]  # the first character and the one behind the last
Encoded = tuple[list[int], list[Span]]
_BROKEN = "\ue000"  # stands where a character is that no control token may take


def find_pieces(pieces: Iterable[str], text: str) -> list[Span]:
    """Where pieces stand that a text was cut into, in order, with gaps between them or without."""
    spans = []
    end = 0
    for piece in pieces:
        start = text.index(piece, end)
        end = start + len(piece)
        spans.append((start, end))
    return spans


def by_names(
    text: str,
    plain: Collection[int],
    special: dict[str, int],
    encode: Callable[[str], Encoded],
) -> Encoded:
    """The ids of a text between whose control tokens `encode` knows what to do.

    plain     numbers of characters that belong to no control token
    special   control tokens by name
    """
    if not special:
        return encode(text)
    names = "|".join(re.escape(name) for name in sorted(special, key=len, reverse=True))
    ids: list[int] = []
    spans: list[Span] = []

    def between(start: int, end: int) -> None:
        found, places = encode(text[start:end])
        ids.extend(found)
        spans.extend((start + a, start + b) for a, b in places)

    done = 0
    for match in re.finditer(names, broken(text, plain)):
        between(done, match.start())
        ids.append(special[match[0]])
        spans.append(match.span())
        done = match.end()
    between(done, len(text))
    return ids, spans


def by_library(
    text: str,
    plain: Collection[int],
    special: Container[int],
    encode: Callable[[str, bool, bool], Encoded],
) -> Encoded:
    """The same for a tokenizer whose library finds control tokens by rules of its own.

    special   ids of control tokens
    encode    of a text, with control tokens or without, as its beginning or going on

    Only parts between control tokens are encoded once more in which something was broken, and
    their first characters as they were: like a beginning or not.

    raises    DataError where parts of a text are no text alone
    """
    ids, spans = encode(text, True, False)
    if not plain or not any(i in special and _has(plain, span) for i, span in zip(ids, spans)):
        return ids, spans
    text_broken = broken(text, plain)
    ids, spans = encode(text_broken, True, False)
    done: Encoded = [], []
    for start, end, part, places in _parts(len(text), ids, spans, special):
        if _has(plain, (start, end)):
            part, places = _as_text(text, text_broken, (start, end), part, encode)
        done[0].extend(part)
        done[1].extend(places)
    return done


def broken(text: str, plain: Collection[int]) -> str:
    """The text, with another character in the place of each plain one."""
    if not plain:
        return text
    return "".join(_BROKEN if i in plain else char for i, char in enumerate(text))


def _has(plain: Collection[int], span: Span) -> bool:
    return any(i in plain for i in range(*span))


def _parts(
    n: int, ids: list[int], spans: list[Span], special: Container[int]
) -> Iterator[tuple[int, int, list[int], list[Span]]]:
    """Each control token, and what stands before, between and behind them."""
    edges = [k for k, i in enumerate(ids) if i in special]
    first, start = 0, 0
    for k in [*edges, len(ids)]:
        end = spans[k][0] if k < len(ids) else n
        yield start, end, ids[first:k], spans[first:k]
        if k < len(ids):
            yield *spans[k], ids[k : k + 1], spans[k : k + 1]
            start = spans[k][1]
        first = k + 1


def _as_text(
    text: str,
    text_broken: str,
    span: Span,
    expected: list[int],
    encode: Callable[[str, bool, bool], Encoded],
) -> Encoded:
    start, end = span
    for continues in (False, True):
        if encode(text_broken[start:end], False, continues)[0] == expected:
            ids, places = encode(text[start:end], False, continues)
            return ids, [(start + a, start + b) for a, b in places]
    raise DataError(
        f"{text[start:end]!r:.80} holds names of control tokens that this tokenizer cannot read as "
        "text. Leave them out."
    )
