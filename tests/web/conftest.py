"""A site on loopback that answers byte for byte what it is told, and fetching from it."""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import NamedTuple

import pytest

from scratchlm.corpus.stages import Counts
from scratchlm.recipes.fetch_pages import fetch_pages
from scratchlm.web import fetch
from scratchlm.web.fetch_config import FetchConfig
from scratchlm.web.warc import Page, read_pages

QUICK = FetchConfig(
    workers=20,
    timeout=5.0,
    per_host="0",
    host_connections=20,
    allow_loopback=True,
    contact="https://example.org/bot",
)


class Site(ThreadingTCPServer):
    """HTTP/1.1 with connections that stay open.

    routes     path -> the whole answer, or a function that writes to the handler's `wfile`
    requests   (when, path, headers) of all that came
    """

    allow_reuse_address = daemon_threads = True
    request_queue_size = 200

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), Handler)
        self.routes: dict[str, bytes | Callable[[Handler], object]] = {}
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self.port = self.server_address[1]
        self.url = f"http://{host}:{self.port}"

    @property
    def paths(self) -> list[str]:
        """What was asked for, robots.txt apart."""
        return [path for _, path, _ in self.requests if path != "/robots.txt"]

    def handle_error(self, *_: object) -> None: ...


class Handler(StreamRequestHandler):
    server: Site

    def handle(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while line := self.rfile.readline():
            path, headers = line.split()[1].decode(), {}
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                key, _, value = line.decode().partition(":")
                headers[key.lower()] = value.strip()
            self.server.requests.append((time.monotonic(), path, headers))
            content = self.server.routes.get(path, make_answer(b"no", status="404 Not Found"))
            if callable(content):
                content(self)
                return
            self.wfile.write(content)


def make_answer(
    body: bytes = b"<p>text</p>", kind: str = "text/html", *, status: str = "200 OK", **headers: str
) -> bytes:
    """An answer, byte for byte; headers of no value are left out."""
    fields = {"Content-Type": kind, "Content-Length": str(len(body))}
    fields |= {key.replace("_", "-"): value for key, value in headers.items()}
    head = "".join(f"{key}: {value}\r\n" for key, value in fields.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@pytest.fixture
def answer() -> Callable[..., bytes]:
    """Makes an answer of a body, its content type, a status and more headers."""
    return make_answer


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Starts a site, at 127.0.0.1 or another address; all end with the test."""
    sites: list[Site] = []

    def make(host: str = "127.0.0.1") -> Site:
        site = Site(host)
        sites.append(site)
        Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
        return site

    yield make
    for site in sites:
        site.shutdown()
        site.server_close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """One site."""
    return make_site()


class Fetched(NamedTuple):
    """A folder of pages: the counts, pages by their address, outcomes by the one in the list."""

    counts: Counts
    pages: dict[str, Page]
    outcomes: dict[str, str]


def check(out: Path, counts: Counts) -> Fetched:
    """Read a finished folder, and hold what its files say against each other."""
    assert counts.n_in == counts.n_kept + counts.dropped.total()
    assert json.loads((out / "counts.json").read_text("utf-8")) == counts.as_json()
    asked = [line.split("\t")[1] for line in lines_of(out / "urls.tsv")]
    lines = [line.split("\t") for line in lines_of(out / "journal.tsv")[1:]]
    assert sorted(int(number) for number, *_ in lines) == list(range(len(asked)))
    skipped: Counter[str] = Counter()
    pages = [
        page
        for path in sorted(out.glob("*.warc.gz"))
        for page in read_pages(path, 1 << 30, skipped)
    ]
    assert not skipped
    assert [page.url for page in pages] == [line[-1] for line in lines if line[1] == "kept"]
    by_url = {page.url: page for page in pages}
    assert len(pages) == len(by_url) == counts.n_kept
    return Fetched(counts, by_url, {asked[int(number)]: outcome for number, outcome, *_ in lines})


def lines_of(path: Path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1]


@pytest.fixture
def read_folder() -> Callable[[Path, Counts], Fetched]:
    """Reads a finished folder, and checks it."""
    return check


@pytest.fixture
def run(tmp_path, monkeypatch) -> Callable[..., Fetched]:
    """Fetches addresses from loopback, without waiting; settings can be changed."""
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.02)

    def fetch_all(*urls: str, **changes: object) -> Fetched:
        path, out = tmp_path / "list.txt", tmp_path / "out"
        path.write_text("".join(f"{url}\n" for url in urls), "utf-8", "surrogateescape")
        return check(out, fetch_pages(path, out, config=replace(QUICK, **changes)))

    return fetch_all
