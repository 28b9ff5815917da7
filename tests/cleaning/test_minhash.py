"""Signatures estimate the counted similarity, and are the same numbers on every machine."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.cleaning import minhash
from scratchlm.cleaning.minhash import (
    EMPTY,
    N_BINS,
    N_FINE,
    coarsen,
    densify,
    exact_jaccard,
    fold,
    grouped,
    jaccard,
    signature,
    signatures,
    sketch,
)
from scratchlm.corpus import bundled

ENGLISH = "First Citizen: Before we proceed any further, hear me speak."
CHINESE = "秦川雄帝宅，函谷壯皇居。綺殿千尋起，離宮百雉餘。"
# Computed once on x86-64, Python 3.11, numpy 2.4.
GOLDEN_FOLDING = (443, 29, 62867)  # code points below 0x10000: deleted, spaces; different values
GOLDEN = [97894884, 1255482733, 2213586053, 3231489764]
GOLDEN += [18827324, 1672468362, 2215473091, 3519179623]
GOLDEN_EXACT = [1228045263386406981, 16394655958051899626]
GOLDEN_DENSE = 134501934380
TEXT = st.text(st.sampled_from("abcAB ,.\n字。，Ａ\U0001f600\ud800\0"), max_size=40)


def letters(text: str) -> str:
    return "".join(map(chr, fold([text]).codes))


def lines(name: str) -> list[str]:
    text = bundled.resolve(f"bundled:{name}").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def pair(pool: list[str], share: float, n: int, rng: np.random.Generator) -> tuple[str, str]:
    """Two texts of n lines, of which they share about a part `share`.

    Each pair has letters of its own: common shingles would have the same hash in all pairs, and
    so their errors would not be independent.
    """
    a = [pool[i] for i in rng.integers(len(pool), size=n)]
    other = [pool[i] for i in rng.integers(len(pool), size=n)]
    b = [old if rng.random() < share else new for old, new in zip(a, other)]
    own = dict(enumerate(map(chr, rng.permutation(np.arange(0x4E00, 0xA000)).tolist()), 0x4E00))
    own |= {ord("a") + i: own[0x4E00 + i] for i in range(26)}
    return "\n".join(a).lower().translate(own), "\n".join(b).lower().translate(own)


def test_spaces_punctuation_and_capitals_do_not_count():
    assert letters("  Hear me,\nSPEAK! ") == letters("hear me speak") == "hearmespeak"
    assert letters("函谷 壯皇居。") == letters("函谷，壯皇居") == "函谷壯皇居"
    assert letters("ＡＢＣ１\u3000ｶ") == "abc1カ"
    assert letters("5 + 5 = $10 \U0001f600") == "5+5=$10\U0001f600"
    assert letters("\0\ufeff\u200b \t…—") == ""


def test_folding_is_the_same_in_every_python():
    kinds = Counter(minhash.folding()[:0x10000].tolist())
    assert len(minhash.folding()) == 0x110000
    assert (kinds[0], kinds[minhash.SPACE], len(kinds)) == GOLDEN_FOLDING


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_signatures_are_those_of_plain_arithmetic(text):
    expected = [EMPTY] * 16
    codes = fold([text]).codes.tolist()
    for i in range(len(codes) - 4):
        x = 0
        for code in codes[i : i + 5]:
            x = (x * 0x9E3779B1 + code) % 2**32
        x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
        x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
        x ^= x >> 16
        expected[x >> 28] = min(expected[x >> 28], x)
    assert signature(text, 16).tolist() == expected


def test_equal_bytes_of_chance_are_taken_off():
    rng, n = np.random.default_rng(3), 1000
    a, b = (np.maximum(rng.integers(256, size=(n, N_FINE)), 1).astype(np.uint8) for _ in range(2))
    b[:, ::2] = a[:, ::2]
    got = minhash.similarities(a, b)
    assert abs(got.mean() - 0.5) < 0.0002  # 3 standard errors: 3 * sqrt(.004 / 2 / N_FINE / n)


@given(st.lists(TEXT, max_size=8))
def test_many_texts_at_once_are_each_as_alone(texts):
    folded = fold(texts)
    assert ["".join(map(chr, folded[i])) for i in range(len(texts))] == [*map(letters, texts)]
    together = signatures(folded, 16)
    assert together.shape == (len(texts), 16)
    for row, text in zip(together, texts):
        assert np.array_equal(row, signature(text, 16))


def test_a_text_longer_than_a_group_is_hashed_whole(monkeypatch):
    text = "\n".join(lines("tang")[:2000])
    whole = signature(text)
    monkeypatch.setattr(minhash, "_GROUP", 1000)
    assert np.array_equal(signature(text), whole)


def test_groups_keep_order_and_bound_their_size():
    texts = ["a" * n for n in (10, 200_000, 70_000, 70_000, 1)] + [""] * 1000
    groups = list(grouped(texts))
    assert [text for group in groups for text in group] == texts
    assert all(sum(map(len, group)) <= 1 << 17 or len(group) == 1 for group in groups)
    assert max(map(len, groups)) <= 257
    assert list(grouped([])) == []


@given(TEXT, TEXT)
def test_texts_of_equal_letters_are_equal_and_texts_without_are_like_none(a, b):
    same = letters(a) == letters(b) != ""
    assert (exact_jaccard(a, b) == 1) >= same
    assert (jaccard(signature(a), signature(b)) == 1) >= same
    if not letters(a):
        assert exact_jaccard(a, b) == jaccard(signature(a), signature(b)) == 0
        assert (signature(a) == EMPTY).all()


def test_tiny_texts_are_their_own_shingle():
    assert (signature("a") != EMPTY).sum() == 1
    assert jaccard(signature("Yes."), signature("yes")) == 1
    assert jaccard(signature("yes"), signature("yess")) == 0
    assert exact_jaccard("yes", "yesterday") == 0


@pytest.mark.parametrize("name", ["shakespeare", "tang"])
@pytest.mark.parametrize("n_lines", [8, 60, 800])
def test_estimates_are_right_and_unbiased(name, n_lines):
    pool, rng, k = lines(name), np.random.default_rng(n_lines), 256
    errors, scale = [], []
    for share in np.repeat([0.3, 0.6, 0.8, 0.9, 0.97], 40):
        a, b = pair(pool, share, n_lines, rng)
        truth = exact_jaccard(a, b)
        errors.append(jaccard(signature(a, k), signature(b, k)) - truth)
        scale.append(np.sqrt(truth * (1 - truth) / k))
    # of 200 normal errors one in two runs has none beyond 3 deviations; 4.5: one run in 700 fails
    assert (np.abs(errors) <= 4.5 * np.array(scale) + 1e-9).all()
    assert abs(np.mean(errors)) <= 3 * np.sqrt(np.mean(np.square(scale)) / len(errors))
    assert np.mean(np.square(errors)) <= 1.3 * np.mean(
        np.square(scale)
    )  # 3 deviations of 200 squares


def test_coarse_bins_are_those_of_fewer_bins():
    texts = ["\n".join(lines("shakespeare")[at : at + 40]) for at in range(0, 400, 40)]
    fine, coarse = signatures(fold(texts), 2048), signatures(fold(texts), 64)
    low_bits = np.uint32(EMPTY >> 11)  # what 2048 bins leave
    expected = np.array([[row[b * 32 : b * 32 + 32] & low_bits for b in range(64)] for row in fine])
    assert np.array_equal(coarsen(fine, 64), expected.min(axis=2))
    assert np.array_equal(coarsen(coarse, 64) == EMPTY, coarse == EMPTY)


def test_densified_bins_agree_as_often_as_the_texts():
    pool, rng, k = lines("shakespeare"), np.random.default_rng(1), 128
    agree, truth = [], []
    for _ in range(300):
        a, b = pair(pool, 0.8, 3, rng)  # about 90 shingles: half of all bins are empty
        rows = densify(signatures(fold([a, b, "..."]), k))
        assert (rows[:2] != EMPTY).all()
        assert (rows[2] == EMPTY).all()
        agree.append((rows[0] == rows[1]).mean())
        truth.append(exact_jaccard(a, b))
    spread = np.std(np.array(agree) - truth) / np.sqrt(len(truth))
    assert abs(np.mean(agree) - np.mean(truth)) <= 3 * spread


def test_low_entropy_does_not_cluster():
    """Numbers counted up differ in few places; every bin shall still get its part of them."""
    text = "".join(f"{i:05d}\u4e00" for i in range(20_000))
    hashes = minhash.shingle_hashes(fold([text]).codes[:])
    unique = np.unique(hashes)
    counts = np.bincount(unique >> np.uint32(25), minlength=128)
    expected = len(unique) / 128
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert 127 - 4 * np.sqrt(2 * 127) < chi2 < 127 + 4 * np.sqrt(2 * 127)


def test_signatures_are_these_numbers_on_every_machine():
    assert N_BINS == 128
    assert [int(signature(text, 4)[i]) for text in (ENGLISH, CHINESE) for i in range(4)] == GOLDEN
    assert [int(x) for x in sketch([ENGLISH])["exact"][0]] == GOLDEN_EXACT
    assert int(densify(signatures(fold([ENGLISH]), 64)).sum(dtype=np.uint64)) == GOLDEN_DENSE


def test_exact_keys_are_of_the_letters():
    texts = ["Hear me, speak", "hear me speak!", "hear me", "...", "...", "!", "", "字", "W\u5b57"]
    keys = [tuple(key) for key in sketch(texts)["exact"].tolist()]
    company = sketch([*texts, "\U0001f600"])["exact"].tolist()
    assert [tuple(key) for key in company[:-1]] == keys  # wider letters beside them change nothing
    same = [[a == b for b in keys] for a in keys]
    assert sum(map(sum, same)) == len(keys) + 4
    assert same[0][1]
    assert same[3][4]


def test_fine_values_estimate_as_well():
    """A byte of each of 2,048 hashes: equal bytes of unequal hashes are taken off again."""
    pool, rng = lines("shakespeare"), np.random.default_rng(2)
    errors, scale = [], []
    for share in np.repeat([0.0, 0.3, 0.8, 1.0], 20):
        a, b = pair(pool, share, 300, rng)
        truth = exact_jaccard(a, b)
        first, second = sketch([a, b])["fine"]
        errors.append(minhash.similarities(first[None], second[None])[0] - truth)
        scale.append(np.sqrt((truth + 0.004) * (1 - truth) / N_FINE))
    assert (np.abs(errors) <= 4.5 * np.array(scale) + 1e-6).all()
    assert abs(np.mean(errors)) <= 3 * np.sqrt(np.mean(np.square(scale)) / len(errors))


def test_the_number_of_bins_is_a_power_of_two():
    for k in (0, 3, 1 << 17):
        with pytest.raises(ValueError, match=f"k = {k} is not a power of two"):
            signature("text", k)
    assert signature("text", 1).shape == (1,)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shakespeare", "tang"])
@pytest.mark.parametrize("n_lines", [10, 60, 2000])
def test_speed(name, n_lines, capsys):
    pool = lines(name)
    texts = ["\n".join(pool[at : at + n_lines]) for at in range(0, len(pool), n_lines)] * 10
    n_bytes = sum(len(text.encode()) for text in texts)
    np.empty(1 << 24, np.uint8)  # as write_signatures does
    speeds = {}
    jobs = {
        "signature 128": lambda group: signatures(fold(group)),
        "sketch": sketch,
        "fold": fold,
    }
    for job, work in jobs.items():
        start = time.process_time()
        for group in grouped(texts):
            work(group)
        speeds[job] = n_bytes / (time.process_time() - start) / 1e6
    with capsys.disabled():
        size = n_bytes // len(texts)
        print(f"\n{name}, {size} bytes each:", *(f"{j} {s:.0f} MB/s" for j, s in speeds.items()))
    assert speeds["sketch"] > 2  # a tenth of what is measured: only a collapse fails
