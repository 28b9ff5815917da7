"""Byte-level BPE in compiled code equals the plain algorithm, on every instruction set."""

import random
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlm.native import bpe, build
from scratchlm.native import library as lib

N_CODES = 0x110000


def instruction_sets() -> list[str]:
    best = lib.library()
    names = list(build.INSTRUCTION_SETS)
    return names[names.index(best.instruction_set) :] if best else []


@pytest.fixture(params=instruction_sets() or ["none"])
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "none":
        pytest.skip("the kernels were not built: no C++ compiler, or SCRATCHLM_NATIVE=off")
    monkeypatch.setenv("SCRATCHLM_NATIVE", request.param)
    kernels = lib.library.__wrapped__()
    assert kernels.instruction_set == request.param
    monkeypatch.setattr(lib, "library", lambda: kernels)


pytestmark = pytest.mark.usefixtures("_kernels")
on_each_set = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def nothing_cuts() -> bpe.Cuts:
    classes = np.zeros(N_CODES, dtype=np.uint8)
    return bpe.Cuts(classes, np.zeros(3, dtype=np.uint16), np.zeros(0, dtype=np.uint16), 3)


def spaces_cut() -> bpe.Cuts:
    """One table: each space is a piece, and so is what lies between two."""
    classes = np.zeros(N_CODES, dtype=np.uint8)
    classes[ord(" ")] = 1
    end, start, behind = 0, 4, 8
    matched = end << 1 | 1
    rows = [[0] * 4, [0, behind << 1, 0, 0], [matched, matched, behind << 1, matched]]
    tables = np.array(rows, dtype=np.uint16).reshape(-1)
    return bpe.Cuts(classes, tables, np.array([start], dtype=np.uint16), 4)


def draw_merges(n: int, alphabet: bytes, seed: int) -> np.ndarray:
    """Merges of bytes and of what was merged before, each result with an id of its own; by an odd
    seed in no order, so that some come before those that make their parts.
    """
    draw = random.Random(seed)
    ids = list(alphabet)
    rows: dict[tuple[int, int], int] = {}
    for _ in range(n):
        pair = draw.choice(ids), draw.choice(ids)
        if pair not in rows:
            rows[pair] = 256 + len(rows)
            ids.append(rows[pair])
    table = [(*pair, made) for pair, made in rows.items()]
    if seed % 2:
        draw.shuffle(table)
    return np.array(table, dtype=np.int64).reshape(-1, 3).T


def plainly(word: bytes, merges: np.ndarray) -> list[int]:
    """As in Sennrich et al. 2016: again and again the pair of the lowest rank, the leftmost."""
    ranks = {
        (left, right): (rank, made) for rank, (left, right, made) in enumerate(merges.T.tolist())
    }
    ids = list(word)
    while True:
        pairs = enumerate(pairwise(ids))
        found = [(*ranks[pair], at) for at, pair in pairs if pair in ranks]
        if not found:
            return ids
        _, made, at = min(found, key=lambda one: (one[0], one[2]))
        ids[at : at + 2] = [made]


def encoder(
    merges: np.ndarray, cuts: bpe.Cuts | None = None, words: Sequence[bytes] = ()
) -> bpe.Encoder:
    """words   tokens without merges, whose ids follow the others"""
    tokens = [bytes([i]) for i in range(256)]
    for left, right, _ in sorted(merges.T.tolist(), key=lambda row: row[2]):
        tokens.append(tokens[left] + tokens[right])
    whole = [
        tokens.index(word) if word in tokens else len(tokens) + i for i, word in enumerate(words)
    ]
    return bpe.Encoder(cuts or nothing_cuts(), [*tokens, *words], merges, whole)


@given(
    word=st.one_of(st.text("ab", max_size=600), st.text("aé世", max_size=20), st.text()),
    n=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
@on_each_set
def test_equals_the_plain_algorithm(word, n, seed):
    merges = draw_merges(n, "abé世".encode(), seed)
    text = word.encode()
    ids = encoder(merges).encode(text)
    assert ids.dtype == np.uint32
    assert ids.tolist() == plainly(text, merges)


@given(st.text("ab世 ", max_size=80))
@on_each_set
def test_pieces_are_merged_alone_and_the_cache_changes_nothing(text):
    merges = draw_merges(40, b"ab\xe4\xb8\x96 ", 1)
    ours = encoder(merges, spaces_cut())
    expected = [i for piece in re.split("( )", text) for i in plainly(piece.encode(), merges)]
    for _ in range(3):
        assert ours.encode(text.encode()).tolist() == expected


def test_a_word_that_is_a_token_needs_no_merges():
    words = [b"ab", b"abc" * 50, "世界".encode()]
    ours = encoder(draw_merges(0, b"a", 0), spaces_cut(), words)
    text = " ".join(["ab", "abc" * 50, "世界", "a", "abc", "ab"])
    expected = [256, 32, 257, 32, 258, 32, 97, 32, 97, 98, 99, 32, 256]
    assert ours.encode(text.encode()).tolist() == expected


@given(st.text("aé世\x04", max_size=12), st.integers(0, 1000))
@on_each_set
def test_a_byte_without_an_id_is_left_out_before_merging(text, seed):
    merges = draw_merges(40, "aé世".encode(), seed)
    tokens = [b"" if i == 4 else bytes([i]) for i in range(256)]
    for left, right, _ in sorted(merges.T.tolist(), key=lambda row: row[2]):
        tokens.append(tokens[left] + tokens[right])
    ours = bpe.Encoder(spaces_cut(), tokens, merges)
    for _ in range(2):  # the second time from the cache
        expected = plainly(text.replace("\x04", "").encode(), merges)
        assert ours.encode(text.encode()).tolist() == expected


def test_a_merge_that_comes_before_those_that_make_its_parts():
    """Rank 0 takes the whole of a character that only rank 2 makes: by then rank 1 was here."""
    a, z, whole, za, with_a = ord("a"), ord("z"), 256, 257, 258
    rows = [(a, whole, with_a), (z, a, za), (0xC3, 0xA9, whole)]
    merges = np.array(rows, dtype=np.int64).T
    ours = encoder(merges)
    for text, expected in (("zaé", [za, whole]), ("aé", [with_a]), ("éa", [whole, a])):
        assert plainly(text.encode(), merges) == expected
        assert ours.encode(text.encode()).tolist() == expected


def test_no_text_has_no_ids():
    assert encoder(draw_merges(5, b"ab", 0)).encode(b"").tolist() == []


def test_a_word_of_a_megabyte_is_no_trap():
    """Five seconds are 20 times what it takes; a quadratic way would take an hour."""
    merges = draw_merges(2000, "ab世界".encode(), 2)
    start = time.thread_time()
    for word in ("ab" * 500_000, "世界" * 170_000, "a" * 1_000_000):
        ids = encoder(merges).encode(word.encode())
        begin = plainly(word[:50].encode(), merges)  # far from the end nothing differs
        assert ids[: len(begin) // 2].tolist() == begin[: len(begin) // 2]
    assert time.thread_time() - start < 5


def test_threads_do_not_disturb_each_other():
    merges = draw_merges(500, b"abcdef ", 4)
    draw = random.Random(5)
    texts = ["".join(draw.choices("abcdef ", k=20_000)).encode() for _ in range(16)]
    ours = encoder(merges, spaces_cut())
    expected = [encoder(merges, spaces_cut()).encode(text).tolist() for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert [ids.tolist() for ids in pool.map(ours.encode, texts)] == expected
