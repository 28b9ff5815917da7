"""Downloads, from a hub and a store on loopback: whole, broken off, refused, damaged."""

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import beside, locked
from scratchlm.formats.download import GPT2, download, is_remote

MODEL = "hf:some.one/a_model-2"
COMMIT, NEXT_COMMIT = "0123456789" * 4, "abcdef0123" * 4
BIG = bytes(range(256)) * 1000
TAKEN = {
    "config.json": b'{"model_type": "gpt2"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"",
    "chat_template.jinja": "{{ '\u4f60\u597d' }}".encode(),
    "model.safetensors": BIG,
}
LEFT = {
    "modeling_own.py": b"raise SystemExit",
    "pytorch_model.bin": BIG[::-1],
    "consolidated.safetensors": BIG,
    "onnx/model.onnx": BIG,
}
OPENAI = {
    "checkpoint": b'model_checkpoint_path: "model.ckpt"',
    "encoder.json": b"{}",
    "hparams.json": b'{"n_layer": 12}',
    "vocab.bpe": b"#version: 0.2\n",
    "model.ckpt.index": b"index",
    "model.ckpt.data-00000-of-00001": BIG,
}


class Internet(ThreadingHTTPServer):
    """A hub with one model and OpenAI's store; it breaks, refuses and damages as it is told.

    seen      (path, range, token) of every request
    sent      name of every file that was sent, or begun
    breaks    of the next big answers: how many bytes they send before they break off
    refusals  of the next requests: (what their path has in it, status, headers)
    damaged   names of files that are not sent as they are listed
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commit = COMMIT
        self.model = {**TAKEN, **LEFT}
        self.store = {f"/gpt-2/124M/{name}": content for name, content in OPENAI.items()}
        self.seen: list[tuple[str, ...]] = []
        self.sent: list[str] = []
        self.breaks: list[int] = []
        self.refusals: list[tuple[str, int, dict[str, str]]] = []
        self.damaged: set[str] = set()
        self.has_ranges = True
        self.page = b""  # what it says instead of a list

    def listing(self) -> bytes:
        """A repository's files as the hub's API tells them: the large ones lie in LFS."""
        siblings = []
        for name, content in self.model.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) > 1000:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["blobId"] = "f" * 40  # of the pointer
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return json.dumps({"id": MODEL[3:], "sha": self.commit, "siblings": siblings}).encode()

    def handle_error(self, *_) -> None: ...


class Handler(BaseHTTPRequestHandler):
    server: Internet

    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        net, path = self.server, self.path.partition("?")[0]
        facts = [self.headers.get(key, "") for key in ("Range", "Authorization")]
        net.seen.append((path, *facts))
        for refusal in net.refusals:
            if refusal[0] in path:
                net.refusals.remove(refusal)
                return self.answer(refusal[1], b'{"error": "no"}', refusal[2])
        repository = f"/{MODEL[3:]}/resolve/{net.commit}/"
        name = path.split("/")[-1]
        if path.startswith(f"/api/models/{MODEL[3:]}/revision/"):
            return self.answer(200, net.page or net.listing(), {})
        if path.startswith(repository) and len(net.model.get(name, b"")) > 1000:
            away = f"http://localhost:{net.server_port}/cdn/{name}"
            return self.answer(302, b"", {"Location": away, "X-Repo-Commit": net.commit})
        if path.startswith((repository, "/cdn/")) and name in net.model:
            return self.file(name, net.model[name], {"X-Repo-Commit": net.commit})
        if path in net.store:
            md5 = base64.b64encode(hashlib.md5(net.store[path]).digest()).decode()
            return self.file(name, net.store[path], {"Content-MD5": md5})
        return self.answer(404, b"not here", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def file(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        headers |= {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if name in self.server.damaged:
            content = content[:-1] + b"!"
        start, status = 0, 200
        asked = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        if asked and self.server.has_ranges:
            assert self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
            start, status = int(asked), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if start >= len(content) > 0:
            status = 416
        self.answer(status, content[start:], headers)

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if "ETag" in headers:
            self.server.sent.append(self.path.split("/")[-1])
            if len(content) > 1000 and self.server.breaks:
                content = content[: self.server.breaks.pop(0)]
        self.wfile.write(content)  # HTTP/1.0: then the connection is closed


@pytest.fixture
def internet(monkeypatch) -> Iterator[Internet]:
    server = Internet()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("SCRATCHLM_GPT2_URL", f"{address}/gpt-2/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("scratchlm.web.download._PAUSES_SECONDS", (0, 0))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, without our own record."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".downloaded.json"}


EITHER = pytest.mark.parametrize(("source", "files"), [(MODEL, TAKEN), ("gpt2", OPENAI)])


def test_what_names_a_model_of_the_internet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(is_remote(source) for source in [MODEL, "hf:a/b@v1", *GPT2])
    assert not any(is_remote(source) for source in ["a/b", "gpt3", "./gpt2", "model.gguf", ""])
    Path("gpt2").mkdir()
    assert not is_remote("gpt2")


NAMES = ["hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b@../c", "hf:a/b c", "hf:a/b?c"]
NAMES += ["hf:a/b@", "hf:\u4f60/\u597d", "hf:a--b/c", "hf:.a/b", "hf:a/b.git", "hf:a/b\n", "gpt3"]


@pytest.mark.parametrize("source", NAMES)
def test_a_name_that_cannot_be_is_not_sent(source, internet, tmp_path):
    with pytest.raises(ConfigError, match="Write hf:OWNER/NAME"):
        download(source, tmp_path)
    assert not internet.seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "SCRATCHLM_GPT2_URL"])
@pytest.mark.parametrize("value", ["mirror.org", "https://a:b", "ftp://mirror.org", "https:///a"])
def test_a_mirror_must_be_an_address(variable, value, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=rf"{variable} = '{value}' is no address"):
        download(MODEL if variable == "HF_ENDPOINT" else "gpt2", tmp_path)


@EITHER
def test_a_model_is_downloaded_once(source, files, internet, tmp_path):
    folder = download(source, tmp_path)
    assert contents(folder) == files
    assert sorted(internet.sent) == sorted(files)
    internet.sent.clear()
    assert download(source, tmp_path) == folder
    assert not internet.sent
    assert list(tmp_path.iterdir()) == [folder]


def test_models_lie_in_the_cache_of_the_user(internet, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path))
    assert download("gpt2") == tmp_path / "models" / "gpt2"
    assert download(MODEL + "@" + COMMIT).parent == tmp_path / "models"
    internet.seen.clear()
    download(MODEL + "@" + COMMIT)
    assert not internet.seen  # a commit never changes


def test_pickles_are_taken_where_nothing_else_is(internet, tmp_path):
    del internet.model["model.safetensors"]
    shards = {"pytorch_model-00001-of-00001.bin": BIG, "pytorch_model.bin.index.json": b"{}"}
    internet.model |= shards
    assert "pytorch_model.bin" in contents(download(MODEL, tmp_path / "one"))
    del internet.model["pytorch_model.bin"]
    assert shards.items() <= contents(download(MODEL, tmp_path / "several")).items()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_what_cannot_be_imported_is_not_downloaded(missing, internet, tmp_path):
    internet.model = {**TAKEN, "model-Q4_K.gguf": BIG}
    del internet.model[missing]
    with pytest.raises(CheckpointError, match=r"cannot be imported\. Download one of its GGUF"):
        download(MODEL, tmp_path)
    assert not internet.sent


def test_the_token_stays_at_the_hub(internet, tmp_path):
    download(MODEL, tmp_path)
    download("gpt2", tmp_path)
    tokens = {(path.split("/")[1], token) for path, _, token in internet.seen}
    hub = {("api", "Bearer hf_secret"), ("some.one", "Bearer hf_secret")}
    assert tokens == hub | {("cdn", ""), ("gpt-2", "")}


@EITHER
def test_a_broken_download_goes_on_at_the_next_call(source, files, internet, tmp_path):
    internet.breaks = [100_000, 1, 0, 0]
    with pytest.raises(CheckpointError, match="goes on where it stopped"):
        download(source, tmp_path)
    [folder] = tmp_path.iterdir()
    assert BIG not in contents(folder).values()
    internet.seen.clear()
    assert contents(download(source, tmp_path)) == files
    assert [asked for _, asked, _ in internet.seen if asked] == ["bytes=100001-"] * (
        2 if source == MODEL else 1  # the hub sends it on to another server
    )


@EITHER
def test_whoever_gets_further_is_not_given_up(source, files, internet, tmp_path):
    internet.breaks = [10_000] * 12
    assert contents(download(source, tmp_path)) == files
    assert len({asked for _, asked, _ in internet.seen}) == 13


@EITHER
def test_a_server_without_ranges_begins_anew(source, files, internet, tmp_path):
    internet.has_ranges = False
    internet.breaks = [100_000, 200_000]
    assert contents(download(source, tmp_path)) == files


@EITHER
@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_that_recovers_is_asked_again(source, files, status, internet, tmp_path):
    where = ["/models/", "/config.json", "cdn"] if source == MODEL else ["hparams", "vocab"]
    internet.refusals = [(key, status, {}) for key in where * 2]
    assert contents(download(source, tmp_path)) == files


@pytest.mark.parametrize(
    ("source", "name"),
    [(MODEL, "tokenizer.json"), (MODEL, "model.safetensors"), ("gpt2", "hparams.json")],
)
def test_a_damaged_file_is_refused_and_deleted(source, name, internet, tmp_path):
    internet.damaged = {name}
    with pytest.raises(CheckpointError, match=f"{name} is not {name} as it should be .*deleted"):
        download(source, tmp_path)
    assert not list(tmp_path.glob(f"*/{name}*"))
    internet.damaged = set()
    assert name in contents(download(source, tmp_path))


def test_a_file_that_is_shorter_at_the_server_is_refused(internet, tmp_path):
    internet.page = internet.listing()
    internet.model["model.safetensors"] = BIG[:-1]
    with pytest.raises(CheckpointError, match=r"as it should be \(256,000 bytes, sha256"):
        download(MODEL, tmp_path)


def test_of_a_new_commit_only_what_changed_is_fetched(internet, tmp_path):
    folder = download(MODEL, tmp_path)
    internet.commit = NEXT_COMMIT
    internet.model["config.json"] = b'{"model_type": "llama"}'
    del internet.model["chat_template.jinja"]
    internet.sent.clear()
    assert download(MODEL, tmp_path) == folder
    assert internet.sent == ["config.json"]
    assert contents(folder) == {name: internet.model[name] for name in TAKEN if "jinja" not in name}


ONE_ERROR = [
    (
        MODEL,
        "/models/",
        404,
        "",
        r"is refused \(the server answers 404\)\. There is no some\.one/a_",
    ),
    (MODEL, "/models/", 401, "RepoNotFound", "check the name.* HF_TOKEN to a valid token"),
    (MODEL, "/models/", 404, "RevisionNotFound", "It has no revision 'main': name a branch"),
    (MODEL, "/models/", 401, "", "check the name.* HF_TOKEN to a valid token"),
    (MODEL, "/config.json", 401, "GatedRepo", "not open .*https://huggingface.co/some.one/a_mod"),
    (MODEL, "/model.safet", 403, "GatedRepo", "accept the licence at .*set HF_TOKEN"),
    (MODEL, "/cdn/", 403, "", "It is not open to everyone"),
    (MODEL, "/models/", 410, "", r"is refused .*410.* Let HF_ENDPOINT"),
    (MODEL, "/models/", 500, "", "/api/models/some.one/a_model-2 .*answers 500.*HF_ENDPOINT"),
    (MODEL, "/cdn/", 503, "", "model.safetensors cannot be downloaded .*503.*goes on where"),
    ("gpt2", "vocab", 200, "", "does not answer as OpenAI's .*SCRATCHLM_GPT2_URL"),
    ("gpt2", "vocab", 404, "", "/124M/vocab.bpe is refused .*404.*SCRATCHLM_GPT2_URL"),
    ("gpt2", "vocab", 500, "", "/124M/vocab.bpe cannot be downloaded .*SCRATCHLM_GPT2_URL"),
]


@pytest.mark.parametrize(("source", "where", "status", "code", "said"), ONE_ERROR)
def test_a_refusal_is_one_clear_error(source, where, status, code, said, internet, tmp_path):
    headers = {"X-Error-Code": code, "Content-MD5": "no base64"}
    internet.refusals = [(where, status, headers)] * 3
    with pytest.raises(CheckpointError, match=said) as error:
        download(source, tmp_path)
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize("source", [MODEL, "gpt2"])
def test_no_server_is_one_clear_error(source, internet, tmp_path):
    internet.shutdown()
    internet.server_close()
    with pytest.raises(CheckpointError, match=r"http://127\.0\.0\.1.* mirror\."):
        download(source, tmp_path)


@pytest.mark.usefixtures("internet")
@pytest.mark.parametrize("source", [MODEL, "gpt2"])
def test_without_a_connection_what_is_whole_is_used(source, tmp_path, monkeypatch, caplog):
    folder = download(source, tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    caplog.set_level(logging.INFO, "scratchlm")
    assert download(source, tmp_path) == folder
    assert ("HF_HUB_OFFLINE is set" in caplog.text) == (source == MODEL)  # GPT-2 never changes
    (folder / "config.json").unlink(missing_ok=True)
    (folder / "hparams.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"HF_HUB_OFFLINE is set\. Unset it"):
        download(source, tmp_path)


@pytest.mark.parametrize("page", [b"<html>", b"{}", b"[]", b'{"id": "a/b", "sha": "0"}', b"\xff"])
def test_whoever_is_no_hub_is_not_taken_for_one(page, internet, tmp_path):
    internet.page = page
    with pytest.raises(CheckpointError, match=r"does not answer as .* hub|cannot be imported"):
        download(MODEL, tmp_path)


@pytest.mark.parametrize("part", ['"size"', '"blobId"', '"sha"'])
def test_a_list_without_sizes_or_checksums_is_refused(part, internet, tmp_path):
    internet.page = internet.listing().replace(part.encode(), b'"other"')
    with pytest.raises(CheckpointError, match="with the size and checksum of each file"):
        download(MODEL, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_disk_that_gets_full_is_named(internet, tmp_path):
    internet.breaks = [1000, 0, 0]
    with pytest.raises(CheckpointError):
        download("gpt2", tmp_path)
    [part] = tmp_path.glob("gpt2/*.part")
    part.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"gpt2 cannot be written .*Free space on"):
        download("gpt2", tmp_path)


@pytest.mark.usefixtures("internet")
def test_two_do_not_download_the_same(tmp_path):
    lock = locked(tmp_path / "gpt2", beside(tmp_path / "gpt2", "lock"))
    with lock, pytest.raises(ConfigError, match="in use by another scratchlm"):
        download("gpt2", tmp_path)


def test_it_says_why_it_waits(internet, tmp_path, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    internet.refusals = [("vocab.bpe", 500, {})]
    download("gpt2", tmp_path)
    assert "(the server answers 500). Try again" in caplog.text
    assert "Once more in 0 s." in caplog.text
