"""Rows as a reader sees them, and what is found wrong in them."""

import numpy as np
import pytest

from scratchlm.data.rows import IGNORE
from scratchlm.recipes import preview_checks as checks
from scratchlm.recipes.preview_checks import Findings
from scratchlm.recipes.preview_rows import Stretch, show_row
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer


def stretch(tokens, targets, **more) -> Stretch:
    return Stretch(np.array(tokens), np.array(targets), more.pop("place", "here"), **more)


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        (checks.PADDING, stretch([0, 0], [IGNORE, 9], padding=True), "1 of 2 have one"),
        (checks.NEXT, stretch([1, 2, 3], [2, 4, 5]), "at position 1 the target is 4, and 3"),
        (checks.NEXT, stretch([1, 2], [2, 3], closed=True), "in the text behind it"),
        (checks.IDS, stretch([1, 50], [50, 2]), "has the id 50"),
        (checks.IDS, stretch([1, -1], [-1, 2]), "has the id -1"),
        (checks.TARGETS, stretch([1, 2], [IGNORE, IGNORE]), "row 2 of batch 7"),
        (checks.END, stretch([1, 9, 2], [IGNORE, 2, 3]), "row 2 of batch 7"),
    ],
)
def test_findings_name_what_is_wrong(name, wrong, said):
    good = [
        stretch([1, 2, 9], [2, 9, IGNORE], closed=True),
        stretch([3, 4], [4, 5]),
        stretch([0, 0], [IGNORE, IGNORE], padding=True),
    ]
    found = Findings(end=9, bound=50)
    found.add(7, [good])
    assert not any(found.wrong(one) for one in (checks.END, checks.TARGETS, checks.IDS))
    assert found.padding_check().ok
    assert found.next_check().ok
    found.add(7, [good, [wrong]])
    assert said in found.wrong(name)
    assert "row 2 of batch 7" in found.wrong(name)


def test_a_character_is_shown_in_parts_where_it_is_learned_in_part():
    bytewise = train_tokenizer(["ab" * 99], TokenizerConfig(vocab_size=258))
    ids = bytewise.encode("a眠")
    assert len(ids) == 4
    in_part, whole = (
        [(one.text, one.learned, one.ids) for one in show_row(1, [row], bytewise).parts[0].pieces]
        for row in (
            stretch(ids, [IGNORE, IGNORE, ids[3], IGNORE]),
            stretch(ids, [*ids[1:], IGNORE]),
        )
    )
    first = "a", False, (ids[0],)
    assert in_part == [
        first,
        ("\ufffd", False, tuple(ids[1:3])),
        ("\ufffd", True, (ids[3],)),
    ]
    assert whole == [first, ("眠", True, tuple(ids[1:]))]


def test_words_are_shown_with_what_stands_between_them():
    words = train_tokenizer(["the cat, the mat"] * 3, TokenizerConfig(kind="regex"))
    ids = words.encode("the cat, the mat")
    row = show_row(1, [stretch(ids, [*ids[1:], IGNORE])], words)
    assert (
        "".join(one.text for one in row.parts[0].pieces) == words.decode(ids) == "the cat, the mat"
    )
