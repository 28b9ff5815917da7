"""Data sets, from a hub, a ModelScope and a plain server on loopback: whole, broken off, damaged.

The real hubs were not tried: the servers here speak their protocols as their own libraries do.
"""

import hashlib
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import beside, locked
from scratchlm.recipes.get_data import DataSet, get_data
from scratchlm.web.data_sets import KnownData, KnownUrl

BIG = bytes(range(256)) * 1000
COMMIT, NEXT_COMMIT = "0123456789" * 4, "abcdef0123" * 4
FILES = {
    ".gitattributes": b"*.parquet filter=lfs",
    "README.md": b"---\nlicense: cc-by-4.0\n---",
    "dataset_infos.json": b"{}",
    "build.py": b"raise SystemExit",
    "en/train-00000-of-00002.parquet": BIG,
    "en/train-00001-of-00002.parquet": BIG[::-1],
    "en/test-00000-of-00001.parquet": b"PAR1",
    "zh/train.jsonl": '{"text": "\u6625\u7720\u4e0d\u89c9\u6653"}\n'.encode(),
    "zh/\u8bf4\u660e.txt": b"",
}
ENGLISH = [name for name in FILES if name.startswith("en/")]
CONFIGS = [
    {"config_name": "en", "data_files": [{"split": "train", "path": ["en/*-0*"]}]},
    {"config_name": "zh", "data_files": "zh/*.jsonl"},
]


class Internet(ThreadingHTTPServer):
    """Hubs with one data set, o/d, and a plain server; it breaks, refuses and damages when told.

    seen      (path with its query, range, tokens) of every request
    breaks    of the next big answers: how many bytes they send before they break off
    refusals  of the next requests: (what their path has in it, status)
    damaged   names of files that are not sent as they are listed
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files = dict(FILES)
        self.commit = COMMIT
        self.card: dict = {"license": "cc-by-4.0", "configs": CONFIGS}
        self.seen: list[tuple[str, str, str]] = []
        self.breaks: list[int] = []
        self.refusals: list[tuple[str, int]] = []
        self.damaged: set[str] = set()
        self.page = b""  # what it says instead of a list
        self.page_size = 4  # ModelScope's, whatever is asked for
        self.is_slow = False

    def hub_listing(self) -> bytes:
        siblings = []
        for name, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) > 1000:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        facts = {"id": "o/d", "sha": self.commit, "cardData": self.card, "siblings": siblings}
        return json.dumps(facts).encode()

    def modelscope_page(self, number: int) -> bytes:
        folders = sorted({name.split("/")[0] for name in self.files if "/" in name})
        entries = [{"Path": name, "Type": "tree", "Size": 0} for name in folders]
        entries += [
            {
                "Path": name,
                "Type": "blob",
                "Size": len(content),
                "Sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in self.files.items()
        ]
        page = entries[(number - 1) * self.page_size : number * self.page_size]
        return json.dumps({"Code": 200, "Data": {"Files": page}, "Success": True}).encode()

    def handle_error(self, *_) -> None: ...


class Handler(BaseHTTPRequestHandler):
    server: Internet

    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        net, url = self.server, urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        tokens = f"{self.headers.get('Authorization', '')} {self.headers.get('Cookie', '')}".strip()
        net.seen.append((unquote(self.path), self.headers.get("Range", ""), tokens))
        for refusal in net.refusals:
            if refusal[0] in unquote(self.path):
                net.refusals.remove(refusal)
                return self.answer(refusal[1], b'{"error": "no"}', {})
        resolved = f"/datasets/o/d/resolve/{net.commit}/"
        if path in [f"/api/datasets/o/d/revision/{name}" for name in ("main", net.commit)]:
            return self.answer(200, net.page or net.hub_listing(), {})
        if path.startswith(resolved):
            name = path.removeprefix(resolved)
            if len(net.files[name]) > 1000:
                away = f"http://localhost:{net.server_port}/cdn/{name}"
                return self.answer(302, b"", {"Location": away})
            return self.file(name)
        if path.startswith(("/cdn/", "/plain/")):
            return self.file(path.split("/", 2)[2])
        if path == "/api/v1/datasets/o/d":
            return self.answer(200, net.page or b'{"Code": 200, "Data": {"License": "MIT"}}', {})
        if path == "/api/v1/datasets/o/d/repo/tree" and query["Recursive"] == ["True"]:
            return self.answer(200, net.modelscope_page(int(query["PageNumber"][0])), {})
        if path == "/api/v1/datasets/o/d/repo" and query["Revision"] == ["master"]:
            return self.file(query["FilePath"][0])
        return self.answer(404, b"not here", {"X-Error-Code": "RepoNotFound"})

    def file(self, name: str) -> None:
        content = self.server.files[name]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if name in self.server.damaged:
            content = content[:-1] + b"!"
        start, status = 0, 200
        if asked := self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-"):
            start, status = int(asked), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(status, content[start:], headers)

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if "ETag" in headers and len(content) > 1000 and self.server.breaks:
            content = content[: self.server.breaks.pop(0)]
        for start in range(0, len(content), 10_000):
            self.wfile.write(content[start : start + 10_000])
            if self.server.is_slow:
                time.sleep(0.05)


@pytest.fixture
def internet(monkeypatch, tmp_path) -> Iterator[Internet]:
    server = Internet()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"{server.address}/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("scratchlm.web.download._PAUSES_SECONDS", (0, 0))
    sha256 = {name: hashlib.sha256(FILES[name]).hexdigest() for name in ENGLISH}
    urls = tuple(
        KnownUrl(f"{server.address}/plain/{name}", len(FILES[name]), sha256[name])
        for name in ENGLISH
    )
    known = {
        "plain": KnownData("MIT", "1 GB", "a test", "\u6d4b\u8bd5", urls=urls),
        "poem": KnownData("CC0-1.0", "1 kB", "a poem", "\u8bd7", "hf:o/d", ("zh/*.jsonl",)),
    }
    monkeypatch.setattr("scratchlm.web.data_sets.known_data", lambda: known)
    monkeypatch.chdir(tmp_path)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def there(folder: Path) -> dict[str, bytes]:
    """The files below a folder, without our own records."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


EACH = pytest.mark.parametrize("source", ["hf:o/d:en", "ms:o/d:en", "plain"])


def expected(source: str) -> dict[str, bytes]:
    return {name.removeprefix("en/" * (source == "plain")): FILES[name] for name in ENGLISH}


@EACH
def test_a_data_set_is_downloaded_once(source, internet, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    folder = Path("plain" if source == "plain" else "d-en")
    license = {"h": "cc-by-4.0", "m": "MIT", "p": "MIT"}[source[0]]
    got = get_data(source)
    assert got == DataSet(folder, source, license, 3, 2 * len(BIG) + 4)
    assert there(folder) == expected(source)
    assert f"licence: {license}" in caplog.text
    internet.seen.clear()
    assert get_data(source) == got
    assert not [path for path, _, _ in internet.seen if "train" in path]
    assert sorted(path.name for path in Path().iterdir()) == [str(folder)]


@pytest.mark.usefixtures("internet")
def test_known_names_stand_for_what_the_table_says():
    got = get_data("poem", "somewhere/new")
    assert (got.license, got.source) == ("CC0-1.0", "poem")
    assert there(Path("somewhere/new")) == {"zh/train.jsonl": FILES["zh/train.jsonl"]}


ONE_ERROR = [
    ("hf:o/none", r"There is no o/none, or not for you: check the name.*datasets/o/none, and"),
    ("ms:o/none", r"There is no o/none there, or not for you.*MODELSCOPE_API_TOKEN"),
]


@pytest.mark.usefixtures("internet")
@pytest.mark.parametrize(("source", "said"), ONE_ERROR)
def test_what_cannot_be_had_is_one_clear_error(source, said, tmp_path):
    with pytest.raises(DataError, match=said):
        get_data(source)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(internet):
    Path("d-en").mkdir()
    Path("d-en/notes.txt").touch()
    with pytest.raises(ConfigError, match=r"d-en is something else\. Name another folder"):
        get_data("hf:o/d:en")
    Path("file").touch()
    with pytest.raises(ConfigError, match="file is something else"):
        get_data("hf:o/d:en", "file")
    get_data("hf:o/d:en", "out")
    for source, patterns in (("hf:o/d:zh", ()), ("hf:o/d:en", ("train-*",))):
        with pytest.raises(ConfigError, match="out holds another data set, or other files of this"):
            get_data(source, "out", files=patterns)
    assert there(Path("out")) == expected("hf:o/d:en")
    assert there(Path("d-en")) == {"notes.txt": b""}
    assert not [path for path, _, _ in internet.seen if "zh" in path]


@EACH
def test_a_broken_download_goes_on_at_the_next_call(source, internet):
    internet.breaks = [100_000, 1, 0, 0]
    with pytest.raises(DataError, match="goes on where it stopped"):
        get_data(source, "out")
    assert BIG not in there(Path("out")).values()
    internet.seen.clear()
    get_data(source, "out")
    assert there(Path("out")) == expected(source)
    assert {asked for _, asked, _ in internet.seen} == {"", "bytes=100001-"}


@EACH
def test_whoever_gets_further_is_not_given_up(source, internet):
    internet.breaks = [30_000] * 12
    get_data(source, "out")
    assert there(Path("out")) == expected(source)


@pytest.mark.parametrize("source", ["hf:o/d:en", "ms:o/d:en"])
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
def test_a_download_that_is_killed_goes_on(source, internet):
    internet.is_slow = True
    code = f"from scratchlm.recipes.get_data import get_data; get_data({source!r}, 'out')"
    for _ in range(3):
        before = n_bytes(Path("out"))
        child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        while n_bytes(Path("out")) < before + 25_000:
            assert child.poll() is None, child.communicate()
            time.sleep(0.01)
        child.kill()
        child.communicate()
    assert list(Path("out").rglob("*.part"))
    internet.is_slow = False
    internet.seen.clear()
    get_data(source, "out")
    assert there(Path("out")) == expected(source)
    assert [asked for _, asked, _ in internet.seen if asked]


def n_bytes(folder: Path) -> int:
    """Of what was downloaded, whole or not."""
    return sum(path.stat().st_size for path in folder.rglob("*.parquet*"))


@EACH
@pytest.mark.parametrize("name", [ENGLISH[0], ENGLISH[2]])
def test_a_damaged_file_is_refused_and_deleted(source, name, internet):
    internet.damaged = {name}
    with pytest.raises(DataError, match=r"as it should be \(.* bytes, .*deleted"):
        get_data(source, "out")
    last = name.split("/")[1]
    assert not list(Path("out").rglob(f"{last}*"))
    internet.damaged = set()
    get_data(source, "out")
    assert there(Path("out")) == expected(source)


def test_of_a_new_commit_only_what_changed_is_fetched(internet):
    get_data("hf:o/d:en", "out")
    internet.commit = NEXT_COMMIT
    del internet.files[ENGLISH[1]]
    internet.files["en/test-00000-of-00001.parquet"] = b"PAR2"
    internet.seen.clear()
    assert get_data("hf:o/d:en", "out").n_files == 2
    fetched = [path for path, _, _ in internet.seen if "/resolve/" in path]
    assert len(fetched) == 1
    assert there(Path("out")) == {ENGLISH[0]: BIG, ENGLISH[2]: b"PAR2"}


def test_a_commit_is_not_asked_for_again(internet):
    source = f"hf:o/d:en@{COMMIT}"
    got = get_data(source, "out")
    internet.seen.clear()
    assert get_data(source, "out") == got
    assert not internet.seen


@pytest.mark.parametrize("source", ["hf:o/d:en", "ms:o/d:en"])
def test_without_a_connection_what_is_whole_is_used(source, internet, caplog):
    got = get_data(source, "out")
    internet.shutdown()
    internet.server_close()
    caplog.set_level(logging.INFO, "scratchlm")
    assert get_data(source, "out") == got
    assert "Until then out is used as it was downloaded before." in caplog.text
    (Path("out") / ENGLISH[0]).unlink()
    with pytest.raises(DataError, match=r"cannot be downloaded .* may name a mirror"):
        get_data(source, "out")


@EACH
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_recovers_is_asked_again(source, status, internet):
    internet.refusals = [("datasets/o/d", status), ("train", status), ("test", status)]
    get_data(source, "out")
    assert there(Path("out")) == expected(source)


def test_tokens_stay_at_their_hubs(internet):
    get_data("hf:o/d:en", "a")
    get_data("ms:o/d:en", "b")
    get_data("plain", "c")
    tokens = {("/".join(path.split("/")[1:3]), token) for path, _, token in internet.seen}
    modelscope = "Bearer ms-secret m_session_id=ms-secret"
    assert tokens == {
        ("api/datasets", "Bearer hf_secret"),
        ("datasets/o", "Bearer hf_secret"),
        ("cdn/en", ""),
        ("api/v1", modelscope),
        ("plain/en", ""),
    }


@pytest.mark.parametrize("page", [b"<html>", b"{}", b"[]", b'{"id": "o/d"}', b'{"Data": null}'])
@pytest.mark.parametrize("source", ["hf:o/d:en", "ms:o/d:en"])
def test_whoever_is_no_hub_is_not_taken_for_one(source, page, internet, tmp_path):
    internet.page = page
    with pytest.raises(DataError, match=r"does not answer as (the Hugging Face hub|ModelScope) "):
        get_data(source)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "MODELSCOPE_ENDPOINT"])
def test_a_mirror_must_be_an_address(variable, monkeypatch):
    monkeypatch.setenv(variable, "mirror.org")
    with pytest.raises(ConfigError, match=rf"{variable} = 'mirror.org' is no address"):
        get_data("hf:o/d" if variable == "HF_ENDPOINT" else "ms:o/d")


@pytest.mark.parametrize("source", ["hf:o/d", "ms:o/d"])
def test_a_path_never_leads_out_of_the_folder(source, internet, caplog, tmp_path):
    internet.card = {}
    evil = ["../evil.jsonl", "/evil.jsonl", "a/../../evil.jsonl", "C:\\evil.jsonl", ".x/evil.csv"]
    internet.files = {**dict.fromkeys(evil, b"{}"), "good.jsonl": b"{}"}
    get_data(source, "out")
    assert there(Path("out")) == {"good.jsonl": b"{}"}
    assert "Passed over: 5 files with no usable name" in caplog.text
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.usefixtures("internet")
def test_two_do_not_download_the_same():
    lock = locked(Path("out"), beside(Path("out"), "lock"))
    with lock, pytest.raises(ConfigError, match="in use by another scratchlm"):
        get_data("hf:o/d:en", "out")
