"""A set of addresses answers like Python's own, in bounded memory, and outlives its process."""

import random

import numpy as np
import pytest

from scratchlm.base.errors import DataError
from scratchlm.web.url_set import UrlSet, _merged_blocks


def some_urls(n: int, seed: int) -> list[str]:
    """Addresses of which about every third comes again."""
    draw = random.Random(seed)
    return [f"https://a.org/{draw.randrange(n)}" for _ in range(n)]


def expected_answers(given_urls: list[str]) -> list[bool]:
    known: set[str] = set()
    return [url not in known and not known.add(url) for url in given_urls]


def add_all(seen: UrlSet, given_urls: list[str], n: int = 1000) -> list[bool]:
    return [new for i in range(0, len(given_urls), n) for new in seen.add(given_urls[i : i + n])]


@pytest.mark.parametrize("memory", [1 << 12, 1 << 16, 1 << 20, 1 << 28])
def test_a_set_answers_like_pythons_own(tmp_path, memory):
    given_urls = some_urls(200_000, seed=1)
    with UrlSet(tmp_path / "seen", memory) as seen:
        assert add_all(seen, given_urls) == expected_answers(given_urls)
        assert len(seen) == len(set(given_urls))
        assert (len(list(tmp_path.rglob("*.run"))) > 0) == (memory < 1 << 22)
        assert len(list(tmp_path.rglob("*.run"))) < 12
        assert sum(run.nbytes for run in seen._held) <= memory // 4
    assert list(tmp_path.rglob("*.run")) == []


def test_single_additions(tmp_path):
    given_urls = some_urls(3000, seed=2)
    with UrlSet(tmp_path, 256) as seen:
        assert add_all(seen, given_urls, n=1) == expected_answers(given_urls)
        assert seen.add([]) == []


def test_files_are_merged_in_blocks():
    draw = np.random.default_rng(6)
    long, short = (np.sort(draw.integers(1 << 63, size=n, dtype=np.uint64)) for n in (9000, 5000))
    for a, b in ((long, short), (short, long)):
        blocks = list(_merged_blocks(a, b, 500))
        assert np.array_equal(np.concatenate(blocks), np.sort(np.concatenate((a, b))))
        assert max(map(len, blocks)) < 1000


def test_a_saved_set_goes_on(tmp_path):
    given_urls = some_urls(50_000, seed=3)
    with UrlSet(tmp_path / "a", 1 << 14) as seen:
        first = add_all(seen, given_urls[:30_000])
        seen.save(tmp_path / "state.npy")
        went_on = add_all(seen, given_urls[30_000:])
    with UrlSet.load(tmp_path / "state.npy", tmp_path / "b", 1 << 14) as seen:
        assert add_all(seen, given_urls[30_000:]) == went_on
        seen.save(tmp_path / "state.npy")
        assert len(seen) == len(set(given_urls))
    assert first + went_on == expected_answers(given_urls)


def test_the_saved_bytes_do_not_depend_on_memory_or_order(tmp_path):
    given_urls = some_urls(20_000, seed=4)
    for name, memory, order in (("a", 1 << 12, 1), ("b", 1 << 24, -1)):
        with UrlSet(tmp_path / f"{name}.folder", memory) as seen:
            add_all(seen, given_urls[::order], n=777)
            seen.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_set_can_be_saved(tmp_path):
    with UrlSet(tmp_path / "a") as seen:
        seen.save(tmp_path / "state.npy")
    with UrlSet.load(tmp_path / "state.npy", tmp_path / "b") as seen:
        assert len(seen) == 0
        assert seen.add(["x"]) == [True]


def test_damaged_states_are_refused(tmp_path):
    path = tmp_path / "state.npy"
    with UrlSet(tmp_path / "a") as seen:
        add_all(seen, some_urls(1000, seed=5))
        seen.save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:-8], b"PK\x03\x04" + whole):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"state\.npy is not a whole file of addresses"):
            UrlSet.load(path, tmp_path / "b")
    path.write_bytes(whole[:-16] + bytes(16))
    with pytest.raises(DataError, match=r"state\.npy is damaged"):
        UrlSet.load(path, tmp_path / "b", memory=1 << 10)
    np.save(path, np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"state\.npy is damaged, or holds something else"):
        UrlSet.load(path, tmp_path / "b")


def test_what_an_earlier_run_left_is_removed(tmp_path):
    seen = UrlSet(tmp_path, 64)
    seen.add(["a", "b", "c"])
    assert list(tmp_path.glob("*.run"))
    UrlSet(tmp_path, 64)
    assert not list(tmp_path.glob("*.run"))
