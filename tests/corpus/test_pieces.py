"""Pieces are the whole, cut where tokens end."""

from hypothesis import given
from hypothesis import strategies as st

from scratchlm.corpus.pieces import cut_pieces, split_documents

TEXT = st.text(st.sampled_from("ab ,\n字。"), max_size=60)
SEPARATOR = "<|x|>"


def chunks(text: str, sizes: list[int]) -> list[str]:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return [*parts, text[at:]]


def documents(pieces) -> list[str]:
    found, held = [], ""
    for text, ends in pieces:
        held += text
        if ends:
            found.append(held)
            held = ""
    assert not held
    return found


@given(text=TEXT, sizes=st.lists(st.integers(0, 9)), size=st.integers(1, 20))
def test_pieces_make_up_the_document(text, sizes, size):
    pieces = list(cut_pieces(split_documents(chunks(text, sizes), None), size))
    assert "".join(piece for piece, _ in pieces) == (
        text if text.strip() or len(text) > size else ""
    )
    assert [ends for _, ends in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(size / 2 <= len(piece) <= size for piece, _ in pieces[:-1])
    assert len(pieces[-1][0]) <= size


@given(
    texts=st.lists(TEXT.map(lambda t: t.strip("\n")), min_size=1, max_size=5),
    sizes=st.lists(st.integers(0, 9)),
    gaps=st.lists(st.sampled_from(["", "\n", "\n\n"]), min_size=10, max_size=10),
)
def test_documents_end_at_separators(texts, sizes, gaps):
    running = texts[0]
    for i, text in enumerate(texts[1:]):
        running += gaps[2 * i] + SEPARATOR + gaps[2 * i + 1] + text
    found = documents(split_documents(chunks(running, sizes), SEPARATOR))
    while len(texts) > 1 and not texts[-1]:  # nothing behind the last separator is no document
        texts = texts[:-1] if len(found) < len(texts) else texts
        if len(found) >= len(texts):
            break
    assert found == texts


def test_cuts_stand_behind_a_line_end_between_two_characters():
    lines = "one two, three\n\nfour five.\nsix seven\n\n  eight"
    assert [text for text, _ in cut_pieces([(lines, True)], 32)] == [
        "one two, three\n\nfour five.\n",
        "six seven\n\n  eight",
    ]


def test_without_such_a_line_end_cuts_stand_before_a_space_or_punctuation():
    assert [text for text, _ in cut_pieces([("one two three", True)], 9)] == ["one two", " three"]
    assert [t for t, _ in cut_pieces([("天地玄黄，宇宙洪荒", True)], 6)] == [
        "天地玄黄",
        "，宇宙洪荒",
    ]
    assert [t for t, _ in cut_pieces([("天地玄黄宇宙洪荒", True)], 5)] == ["天地玄黄宇", "宙洪荒"]
