"""Validation text is chosen by the documents' ids, or is the end of the text to the character."""

from scratchlm.corpus.divide import divide_by_document, divide_by_tail
from scratchlm.corpus.read import Document


def document(name: str, text: str, ends: bool = True) -> Document:
    return Document(name, text, "file", {}, ends)


def test_documents_stay_on_their_side_when_others_come_and_go():
    many = [document(str(i), "text") for i in range(2000)]
    all_of_them = {p.document.id: p.split for p in divide_by_document(many, 0.1, seed=0)}
    some = {p.document.id: p.split for p in divide_by_document(many[::3], 0.1, seed=0)}
    assert some.items() <= all_of_them.items()
    assert 150 < list(all_of_them.values()).count("val") < 250  # 200 +- 3.7 standard deviations
    other = {p.document.id: p.split for p in divide_by_document(many, 0.1, seed=1)}
    assert other != all_of_them


def test_pieces_of_a_document_stay_together():
    pieces = [document("a", "1", False), document("a", "2", False), document("a", "3")]
    got = list(divide_by_document([*pieces, document("b", "4")], 0.5, seed=0))
    assert len({piece.split for piece in got[:3]}) == 1
    assert [piece.continues for piece in got] == [False, True, True, False]


def test_the_tail_is_cut_to_the_character():
    texts = [document("a", "abc", False), document("a", "def"), document("b", "ghi")]
    for cut in range(10):
        got = list(divide_by_tail(texts, cut))
        train = "".join(p.document.text for p in got if p.split == "train")
        val = "".join(p.document.text for p in got if p.split == "val")
        assert (train, val) == ("abcdefghi"[:cut], "abcdefghi"[cut:])


def test_a_document_that_is_cut_does_not_end_in_training_and_begins_in_validation():
    texts = [document("a", "abc", False), document("a", "def", False), document("a", "g")]
    got = [
        (p.split, p.document.text, p.continues, p.document.ends) for p in divide_by_tail(texts, 4)
    ]
    assert got == [
        ("train", "abc", False, False),
        ("train", "d", True, False),
        ("val", "ef", False, False),
        ("val", "g", True, True),
    ]
    got = [
        (p.split, p.document.text, p.continues, p.document.ends) for p in divide_by_tail(texts, 3)
    ]
    assert got == [
        ("train", "abc", False, False),
        ("val", "def", False, False),
        ("val", "g", True, True),
    ]
