"""Sequences laid into rows: each is there, sees what leads to it, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.evaluation.prefix_tree import MIN_STEM, Group, Row, lay_out

ids = st.lists(st.integers(0, 2), min_size=1, max_size=9)


def seen_by(row: Row, place: int) -> list[int]:
    """The tokens that a token of a row sees, in order, by the meaning of `ends`."""
    return [int(row.tokens[i]) for i in range(place + 1) if place < row.ends[i]]


def check(groups: list[Group], sequences: list[np.ndarray], n_wanted: list[int]) -> None:
    found = []
    for group in groups:
        for row in group.rows:
            for number, places in row.leaves:
                found.append(number)
                sequence = sequences[number].tolist()
                assert len(places) == n_wanted[number]
                for back, place in enumerate(places[::-1]):
                    end = len(sequence) - back
                    assert group.stem.tolist() + seen_by(row, place) == sequence[:end]
                    assert row.depths[place] == end - 1 - len(group.stem)
    assert sorted(found) == list(range(len(sequences)))


@given(st.data(), st.lists(ids, min_size=1, max_size=30), st.floats(0, 0.1), st.booleans())
def test_every_sequence_is_read_as_it_is(data, given_ids, attention, share):
    sequences = [np.array(one, dtype=np.int64) for one in given_ids]
    n_wanted = [data.draw(st.integers(1, len(one))) for one in given_ids]
    groups = lay_out(sequences, n_wanted, attention=attention, min_group=20, share=share)
    check(groups, sequences, n_wanted)
    if not share:
        for group in groups:
            for row in group.rows:
                assert len({sequences[number].tobytes() for number, _ in row.leaves}) == 1


def test_the_picture_of_the_docstring():
    sequences = [np.array(one) for one in ([1, 2, 3], [1, 2, 4, 5], [9, 8])]
    (group,) = lay_out(sequences, [1, 1, 1], attention=0.0, min_group=100)
    assert len(group.rows) == 2  # what begins otherwise saves nothing in the same row
    row = next(row for row in group.rows if len(row.leaves) == 2)
    assert row.tokens.tolist() == [1, 2, 3, 4, 5]
    assert row.depths.tolist() == [0, 1, 2, 2, 3]
    assert row.ends.tolist() == [5, 5, 3, 5, 5]
    assert not row.is_chain


def test_what_is_shared_is_written_once():
    stem = list(range(100, 150))
    sequences = [np.array([*stem, i, i + 1, j]) for i in range(30) for j in range(4)]
    groups = lay_out(sequences, [1] * 120, attention=0.01, min_group=64)
    assert [len(group.stem) for group in groups] == [50]
    check(groups, sequences, [1] * 120)
    # 30 pairs of tokens, and 4 last ones behind each; without any sharing 6,360
    assert groups[0].n_tokens == 50 + 30 * (2 + 4)


def test_a_stem_ends_before_what_is_wanted():
    sequences = [np.array([*range(40), i]) for i in range(100)]
    groups = lay_out(sequences, [5] * 100, attention=0.1, min_group=64)
    assert [len(group.stem) for group in groups] == [36]
    check(groups, sequences, [5] * 100)
    (group,) = lay_out(sequences, [40] * 100, attention=0.1, min_group=64)
    assert len(group.stem) == 0  # one token before them is not worth it
    assert MIN_STEM <= 40 - 5 + 1


def test_stems_within_stems_take_the_longer():
    """Two subjects, both behind one long instruction: each has its own examples as a stem."""
    instruction, rest = list(range(40)), range(50, 90)
    sequences = [np.array([*instruction, 1000 + s, *rest, q, q]) for s in (0, 1) for q in range(80)]
    alone = [np.array([*instruction, 7, 7, 7])]
    groups = lay_out([*sequences, *alone], [1] * 161, attention=0.01, min_group=64)
    assert sorted(len(group.stem) for group in groups) == [40, 81, 81]
    check(groups, [*sequences, *alone], [1] * 161)


@pytest.mark.parametrize("attention", [0.0, 0.001])
def test_a_row_is_no_longer_than_it_pays(attention):
    generator = np.random.default_rng(0)
    sequences = [np.array([1, *generator.integers(0, 50, 12)]) for _ in range(2000)]
    groups = lay_out(sequences, [13 - 1] * 2000, attention=attention, min_group=10**9)
    longest = max(len(row) for group in groups for row in group.rows)
    assert longest <= 1024
    assert (longest > 500) == (attention == 0.0)
