"""Planted near-duplicates are found; shards and partitions change nothing; memory stays bound."""

import subprocess
import sys
import tempfile
import time
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.cleaning import near_duplicates
from scratchlm.cleaning.minhash import N_COARSE, SKETCH, exact_jaccard
from scratchlm.cleaning.near_duplicates import (
    Clusters,
    DuplicateSettings,
    band_keys,
    choose_bands,
    find_clusters,
    write_signatures,
)
from scratchlm.corpus import bundled


@cache
def lines(name: str) -> list[str]:
    text = bundled.resolve(f"bundled:{name}").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if len(line) > 3]


def random_text(rng: np.random.Generator) -> list[str]:
    pool = lines("shakespeare" if rng.random() < 0.5 else "tang")
    return [pool[i] for i in rng.integers(len(pool), size=rng.integers(20, 80))]


def changed(text: list[str], jaccard: float, rng: np.random.Generator) -> list[str]:
    """Replace lines, so that about `jaccard` of all shingles stay shared."""
    share = 2 * jaccard / (1 + jaccard)
    other = random_text(rng)
    return [old if rng.random() < share else other[i % len(other)] for i, old in enumerate(text)]


def planted(n: int, seed: int = 0) -> tuple[list[str], list[tuple[int, int]]]:
    """n texts in random order, and the two numbers of each of n / 5 pairs of Jaccard .5 to 1."""
    rng = np.random.default_rng(seed)
    texts = [random_text(rng) for _ in range(n - n // 5)]
    texts += [changed(text, rng.uniform(0.5, 1), rng) for text in texts[: n // 5]]
    place = rng.permutation(n)
    shuffled = [""] * n
    for i, text in enumerate(texts):
        shuffled[place[i]] = "\n".join(text)
    ends = zip(place[: n // 5].tolist(), place[n - n // 5 :].tolist())
    return shuffled, [(min(a, b), max(a, b)) for a, b in ends]


def search(texts: list[str], folder: Path, n_shards: int = 3, **settings) -> Clusters:
    cuts = np.linspace(0, len(texts), n_shards + 1).astype(int)
    paths = [folder / f"shard-{n_shards}-{i}" for i in range(n_shards)]
    for path, start, end in zip(paths, cuts, cuts[1:]):
        assert write_signatures(iter(texts[start:end]), path) == end - start
    return find_clusters(paths, folder, DuplicateSettings(**settings))


def scores(texts: list[str], pairs: list[tuple[int, int]], clusters: Clusters) -> list[float]:
    """Recall and precision of pairs at Jaccard .8, counted exactly."""
    found = {
        (min(pair), max(pair))
        for cluster in clusters
        for pair in combinations([cluster.leader, *cluster.members.tolist()], 2)
    }
    judged = {pair: exact_jaccard(texts[pair[0]], texts[pair[1]]) for pair in {*pairs, *found}}
    true = {pair for pair, jaccard in judged.items() if jaccard >= 0.8}
    return [len(true & found) / len(true), len(true & found) / len(found)]


def test_planted_pairs_are_found_and_no_others(tmp_path):
    texts, pairs = planted(3000)
    recall, precision = scores(texts, pairs, search(texts, tmp_path))
    assert recall >= 0.95
    assert precision >= 0.98


def test_shards_and_partitions_change_nothing(tmp_path, monkeypatch):
    texts, _ = planted(1000)
    texts += [*texts[:50], "...", "...", ""]
    expected = search(texts, tmp_path, 1).leader
    assert len(np.unique(expected)) < 950
    assert np.array_equal(search(texts, tmp_path, 7).leader, expected)
    monkeypatch.setattr(near_duplicates, "_BLOCK", 17)  # also: many partitions, pairs in chunks
    real = near_duplicates._Spill.__init__
    monkeypatch.setattr(
        near_duplicates._Spill,
        "__init__",
        lambda self, path, dtype, n, _: real(self, path, dtype, n, 300),
    )
    assert np.array_equal(search(texts, tmp_path, 2).leader, expected)
    assert not list(tmp_path.glob("duplicates-*"))


def test_equal_texts_and_texts_without_letters(tmp_path):
    texts = [
        "!!",
        "To be, or not to be",
        "",
        "...",
        "to be or not\nto be!",
        "...",
        "",
        "字",
        "字。",
    ]
    clusters = search(texts, tmp_path)
    assert clusters.leader.tolist() == [0, 1, 2, 3, 1, 3, 2, 7, 7]
    assert clusters.stays.tolist() == [True] * 4 + [False] * 3 + [True, False]
    assert search(texts, tmp_path, threshold=1.0).leader.tolist() == clusters.leader.tolist()


def test_half_a_key_does_not_make_texts_equal(tmp_path):
    records = np.zeros(3, SKETCH)
    records["exact"] = [[7, 1], [7, 2], [7, 1]]
    path = tmp_path / "shard"
    path.write_bytes(near_duplicates._HEADER + records.tobytes())
    settings = DuplicateSettings(threshold=1)
    assert find_clusters([path], tmp_path, settings).leader.tolist() == [0, 1, 0]


def test_only_equal_texts_at_threshold_one(tmp_path):
    rng = np.random.default_rng(3)
    text = random_text(rng)
    texts = ["\n".join(some) for some in (text, text[:-1], text)]
    assert search(texts, tmp_path).leader.tolist() == [0, 0, 0]
    assert search(texts, tmp_path, threshold=1.0).leader.tolist() == [0, 1, 0]


def test_the_first_or_the_longest_stays(tmp_path):
    rng = np.random.default_rng(4)
    text = [line for _ in range(3) for line in random_text(rng)]
    texts = ["\n".join(some) for some in (["x"], text[:-2], text, text[:-1], text)]
    assert search(texts, tmp_path).leader.tolist() == [0, 1, 1, 1, 1]
    assert search(texts, tmp_path, keep="longest").leader.tolist() == [0, 2, 2, 2, 2]


def test_clusters_are_told_with_similarities(tmp_path):
    rng = np.random.default_rng(5)
    a, b = random_text(rng) * 2, [line for _ in range(4) for line in random_text(rng)]
    texts = ["\n".join(some) for some in (a, b, b[:-4], a, b[2:], ["x"])]
    first, second = search(texts, tmp_path)
    assert (first.leader, first.members.tolist()) == (0, [3])
    assert first.similarities.tolist() == [1]
    assert (second.leader, second.members.tolist()) == (1, [2, 4])
    truth = [exact_jaccard(texts[1], texts[i]) for i in (2, 4)]
    assert second.similarities == pytest.approx(truth, abs=0.03)  # 3 standard errors at .9
    (largest,) = search(texts, tmp_path).largest(1)
    assert largest.leader == 1


def test_a_chain_is_one_cluster(tmp_path):
    """Each is like the next; the ends are not alike, but one of all is enough."""
    rng = np.random.default_rng(6)
    text = [line for _ in range(10) for line in random_text(rng)]
    n = len(text)
    texts = ["\n".join(text[n * i // 20 : n * i // 20 + n // 2]) for i in range(11)]
    assert exact_jaccard(texts[0], texts[10]) < 0.1
    assert search(texts, tmp_path, threshold=0.7).leader.tolist() == [0] * 11


def test_large_buckets_cost_no_more_than_their_size():
    keys = np.repeat(np.array([5, 9], np.uint64), [1000, 3])
    pairs = [
        pair
        for first, second in near_duplicates._bucket_pairs(keys, np.arange(1003, dtype=np.uint64))
        for pair in zip(first.tolist(), second.tolist())
    ]
    assert len(pairs) == len(set(pairs)) <= 17 * 1003
    assert {(0, i) for i in range(1, 1000)} < set(pairs)
    assert {(i, i + d) for i in range(900) for d in range(1, 17)} < set(pairs)
    assert {pair for pair in pairs if pair[1] >= 1000} == {(1000, 1001), (1000, 1002), (1001, 1002)}


def test_many_similar_texts_are_one_cluster(tmp_path):
    rng = np.random.default_rng(7)
    text = [line for _ in range(3) for line in random_text(rng)]
    texts = ["\n".join([*text, f"page {i}"]) for i in range(500)]
    assert search(texts, tmp_path).leader.tolist() == [0] * 500


def test_union_is_right_whatever_the_order():
    rng = np.random.default_rng(8)
    first, second = rng.integers(300, size=(2, 200))
    parent = list(range(300))  # the plain way
    for a, b in zip(first, second):
        old, new = max(parent[a], parent[b]), min(parent[a], parent[b])
        parent = [new if p == old else p for p in parent]
    for order in (np.arange(200), rng.permutation(200)):
        root = np.arange(300)
        for some in np.array_split(order, 7):
            near_duplicates._join(root, first[some], second[some])
        assert near_duplicates._roots(root, np.arange(300)).tolist() == parent


def test_bands_find_what_they_promise():
    assert choose_bands(0.8) == (18, 7)
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        n_bands, n_rows = choose_bands(threshold)
        assert n_bands * n_rows <= N_COARSE
        assert 1 - (1 - threshold**n_rows) ** n_bands >= 0.97


def test_band_keys_are_these_numbers_on_every_machine():
    coarse = np.arange(N_COARSE, dtype=np.uint32)[None] * np.uint32(1_000_003)
    assert band_keys(coarse, 18, 7)[0, :2].tolist() == [11172007448613508091, 3762155200317765743]
    assert len(np.unique(band_keys(np.repeat(coarse * 0, 2, axis=0), 18, 7))) == 18


def test_damaged_signatures_are_refused(tmp_path):
    good, cut, foreign = tmp_path / "good", tmp_path / "cut", tmp_path / "foreign"
    write_signatures(["text", "more"], good)
    cut.write_bytes(good.read_bytes()[:-1])
    foreign.write_bytes(b"x" * good.stat().st_size)
    for path in (cut, foreign):
        with pytest.raises(DataError, match=f"{path.name} is not a whole file of signatures"):
            find_clusters([good, path], tmp_path, DuplicateSettings())


def test_nothing_has_no_clusters(tmp_path):
    assert write_signatures([], tmp_path / "empty") == 0
    for paths in ([], [tmp_path / "empty"]):
        clusters = find_clusters(paths, tmp_path, DuplicateSettings())
        assert clusters.leader.shape == (0,)
        assert list(clusters) == []
        assert list(clusters.largest(3)) == []


def test_settings_that_cannot_be_are_refused():
    for bad in ({"threshold": 0.0}, {"threshold": 80}, {"keep": "last"}, {"partition_mb": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(bad))} = "):
            DuplicateSettings(**bad)


def test_progress_is_told_to_the_end(tmp_path):
    texts, _ = planted(200)
    write_signatures(texts, tmp_path / "shard")
    told = {}
    find_clusters(
        [tmp_path / "shard"],
        tmp_path,
        DuplicateSettings(),
        lambda stage, done, total: told.update({stage: (done, total)}),
    )
    assert list(told) == ["equal documents", "hashing bands", "sorting bands", "comparing"]
    assert all(done == total for done, total in told.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_100_000_documents(tmp_path, capsys):
    texts, pairs = planted(100_000, seed=1)
    n_bytes = sum(len(text.encode()) for text in texts)
    start = time.perf_counter()
    write_signatures(texts, tmp_path / "shard")
    written = time.perf_counter()
    clusters = find_clusters([tmp_path / "shard"], tmp_path, DuplicateSettings())
    found = time.perf_counter()
    recall, precision = scores(texts, pairs, clusters)
    (tmp_path / "shard").unlink()  # 270 MB, not for pytest to keep
    with capsys.disabled():
        print(
            f"\nrecall {recall:.4f}, precision {precision:.4f}; "
            f"signatures {n_bytes / (written - start) / 1e6:.0f} MB/s of text, "
            f"{len(texts) / (written - start):.0f} documents/s; "
            f"clusters {len(texts) / (found - written):.0f} documents/s"
        )
    assert recall >= 0.95
    assert precision >= 0.98


MILLION = """
import sys, time
from pathlib import Path
from scratchlm.cleaning.near_duplicates import DuplicateSettings, find_clusters
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))
folder = Path(sys.argv[1])
before = peak()
start = time.perf_counter()
clusters = find_clusters(sorted(folder.glob("shard-*")), folder, DuplicateSettings())
seconds = time.perf_counter() - start
print(len(clusters.leader), int(clusters.stays.sum()), before, peak(), round(seconds, 1))
"""


def write_million(folder: Path) -> None:
    """Ten shards of 100,000 signatures; every fifth is the one before it, with 5 % changed."""
    rng = np.random.default_rng(9)
    for shard in range(10):
        with open(folder / f"shard-{shard}", "wb") as file:
            file.write(near_duplicates._HEADER)
            for _ in range(20):
                records = np.zeros(5000, SKETCH)
                records["exact"] = rng.integers(1 << 63, size=(5000, 2))
                records["length"] = 2000
                records["coarse"] = rng.integers(1 << 31, size=(5000, N_COARSE))
                records["fine"] = rng.integers(1, 256, size=records["fine"].shape)
                for field in ("coarse", "fine"):
                    like = records[field][3::5]
                    records[field][4::5] = np.where(
                        rng.random(like.shape) < 0.05, records[field][4::5], like
                    )
                file.write(records.tobytes())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_a_million_documents_need_less_than_a_gigabyte(tmp_path, capsys):
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:  # 2.7 GB, not for pytest to keep
        write_million(Path(folder))
        command = [sys.executable, "-c", MILLION, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    n, n_stay, before, peak, seconds = map(float, done.stdout.split())
    with capsys.disabled():
        print(f"\n{n:.0f} documents in {seconds} s, peak {peak:.0f} MB, of it {before:.0f} imports")
    assert (n, n_stay) == (1e6, 8e5)
    assert peak < 1000
