"""The table of known data sets is sound, and patterns choose what they should."""

import hashlib
import re

import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.web.data_sets import _is_data, _matching, choose_files, find_data, known_data
from scratchlm.web.download import Server
from scratchlm.web.download_folder import RemoteFile
from scratchlm.web.hub import Listing


@pytest.mark.parametrize("name", known_data())
def test_an_entry_of_the_table_is_complete(name):
    known = known_data()[name]
    wanted = find_data(name)
    assert (wanted.source, wanted.name, wanted.license) == (name, name, known.license)
    assert bool(known.where) != bool(known.urls)
    assert known.en.isascii()
    assert not known.zh.isascii()
    assert re.search(r"\d (kB|MB|GB)$|G tokens$", known.size)
    assert len({url.url.rpartition("/")[2] for url in known.urls}) == len(known.urls)
    for url in known.urls:
        assert url.url.startswith("https://")
        assert url.n_bytes > 0
        assert re.fullmatch("[0-9a-f]{64}", url.sha256)


def test_the_tutorials_data_sets_are_known():
    names = {"tinystories", "wikitext-2", "wikitext-103", "openwebtext", "fineweb-edu", "blimp"}
    assert names | {"wikipedia-zh", "skypile", "gsm8k", "hellaswag", "alpaca"} <= set(known_data())


@pytest.mark.parametrize("name", ["train", "test"])
def test_the_checksums_are_those_of_the_files(name, shared_data):
    path = shared_data / "eval" / "gsm8k" / f"{name}.jsonl"
    [known] = [url for url in known_data()["gsm8k"].urls if url.url.endswith(f"/{name}.jsonl")]
    content = path.read_bytes()
    assert len(content) == known.n_bytes
    assert hashlib.sha256(content).hexdigest() == known.sha256


@pytest.mark.parametrize(
    ("source", "hub", "repository", "revision", "subset", "folder"),
    [
        ("hf:a/b", "hf", "a/b", "main", "", "b"),
        ("hf:a/b.c:sub-1.x@refs/convert/parquet", "hf", "a/b.c", "refs/convert/parquet",
         "sub-1.x", "b.c-sub-1.x"),
        ("ms:a/b", "ms", "a/b", "master", "", "b"),
        ("ms:a/b:\u4e2d/\u6587@v1", "ms", "a/b", "v1", "\u4e2d/\u6587", "b-\u4e2d-\u6587"),
    ],
)  # fmt: skip
def test_a_name_is_understood(source, hub, repository, revision, subset, folder):
    found = find_data(source)
    assert (found.hub, found.repository, found.revision) == (hub, repository, revision)
    assert (found.subset, found.name) == (subset, folder)


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("*", ["x.txt"]),
        ("**", ["x.txt", "a/x.txt", "a/b/x.txt"]),
        ("**/x.txt", ["x.txt", "a/x.txt", "a/b/x.txt"]),
        ("a/*", ["a/x.txt"]),
        ("./a/**", ["a/x.txt", "a/b/x.txt"]),
        ("a/?.txt", ["a/x.txt"]),
        ("a/b/x.txt", ["a/b/x.txt"]),
        ("a.b", []),
    ],
)
def test_patterns_stay_in_their_folders(pattern, taken):
    assert _matching(["x.txt", "a/x.txt", "a/b/x.txt"], [pattern]) == taken


@pytest.mark.parametrize(
    ("name", "is_data"),
    [
        ("data/train-00000.parquet", True),
        ("x.jsonl.zst", True),
        ("\u8bd7.CSV", True),
        ("a.txt.gz", True),
        ("readme_data.txt", True),
        ("README.txt", False),
        ("LICENSE.txt", False),
        ("requirements.txt", False),
        ("dataset_infos.json", False),
        ("a/dataset_info.json", False),
        ("x.py", False),
        ("x.tar.gz", False),
    ],
)
def test_data_is_told_from_what_is_about_it(name, is_data):
    assert _is_data(name) == is_data


ENGLISH = ["en/test-0.parquet", "en/train-0.parquet", "en/train-1.parquet"]
CHINESE = ["zh/train.jsonl", "zh/\u8bf4\u660e.txt"]
ABOUT = [".gitattributes", "README.md", "build.py", "dataset_infos.json"]
SUBSETS = {"en": ["en/train-*", "en/test-*"], "zh": ["zh/*.jsonl"]}
CLOSED = Server("a hub", "", lambda _status, _code: "")


def listing(subsets=None, default="", names=(*ENGLISH, *CHINESE, *ABOUT)) -> Listing:
    files = {name: RemoteFile(name, f"http://h.org/{name}", 1, "md5", "0") for name in names}
    return Listing("http://h.org", CLOSED, "1", files, "", subsets or {}, default)


def chosen(source: str, of: Listing, *patterns: str) -> list[str]:
    return [file.name for file in choose_files(find_data(source, patterns), of)]


@pytest.mark.parametrize(
    ("source", "patterns", "names"),
    [
        ("hf:o/d:zh", (), ["zh/train.jsonl"]),
        ("hf:o/d", ("test-*",), ENGLISH[:1]),
        ("hf:o/d:en", ("train-*",), ENGLISH[1:]),
        ("hf:o/d:en", ("**/train-1*",), ENGLISH[2:]),
        ("hf:o/d", ("zh/*",), CHINESE),
        ("hf:o/d", ("*.py", "zh/*.jsonl"), ["build.py", "zh/train.jsonl"]),
    ],
)
def test_files_of_declared_subsets_are_chosen(source, patterns, names):
    assert chosen(source, listing(SUBSETS), *patterns) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [("ms:o/d", [*ENGLISH, *CHINESE]), ("ms:o/d:zh", CHINESE), ("hf:o/d:en", ENGLISH)],
)
def test_without_declared_subsets_folders_are_those(source, names):
    assert chosen(source, listing()) == names


def test_a_folder_below_data_is_a_subset_too():
    assert chosen("ms:o/d:x", listing(names=["data/x/1.csv", "data/y/1.csv"])) == ["data/x/1.csv"]


def test_a_default_subset_is_taken():
    assert chosen("hf:o/d", listing(SUBSETS, default="zh")) == ["zh/train.jsonl"]


@pytest.mark.parametrize(
    ("source", "patterns", "said"),
    [
        ("hf:o/d", (), r"^hf:o/d has several subsets\. Name one, as in hf:o/d:en\. There are: en,"),
        ("hf:o/d:fr", (), r"^hf:o/d:fr: no files belong to such a subset\. There are: en, zh\.$"),
        ("hf:o/d:en", ("*.csv",), r"no files such as \*\.csv\. There are: en/.*--files, or take"),
        ("ms:o/d", ("*.csv",), r"no files such as \*\.csv\. .* Choose with --files\.$"),
    ],
)
def test_what_cannot_be_chosen_is_one_clear_error(source, patterns, said):
    with pytest.raises(DataError, match=said):
        chosen(source, listing(SUBSETS), *patterns)


def test_of_many_names_some_are_shown():
    with pytest.raises(DataError, match=r"x19\.py and 80 more\."):
        chosen("ms:o/d", listing(names=[f"x{n:02}.py" for n in range(100)]))


def test_a_file_without_a_checksum_is_refused():
    without = listing(names=["a.csv"])
    without.files["a.csv"] = None
    with pytest.raises(DataError, match="does not answer as a hub does, with the size and checks"):
        chosen("ms:o/d", without)


NAMES = ["tinystoris", "", "hf:", "hf:a", "hf:a/b:", "hf:a/../b", "ms:a/b@../c", "xy:a/b", "a/b"]


@pytest.mark.parametrize("source", NAMES)
def test_a_name_that_cannot_be_is_refused(source):
    with pytest.raises(ConfigError, match=r"is no data set\. Write hf:OWNER/NAME or ms:OWNER/NAME"):
        find_data(source)


def test_a_name_with_a_slip_is_guessed():
    with pytest.raises(ConfigError, match=r"Did you mean tinystories\?"):
        find_data("tinystory")
