"""`corpus fetch` as a user meets it: folders that go on, are finished, or are something else."""

import asyncio
import errno
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import beside, locked, read_manifest
from scratchlm.cli import main
from scratchlm.corpus.shards import find_sources
from scratchlm.recipes.fetch_pages import fetch_pages
from scratchlm.web import journal
from scratchlm.web.fetch_config import FetchConfig

QUICK = FetchConfig(per_host="0", host_connections=9, allow_loopback=True)
PAGES = {f"/{n}": f"<p>{n} \u6625\u7720\u4e0d\u89c9\u6653</p>".encode() for n in range(5)}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        body = PAGES.get(self.path)
        self.server.asked.append(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body or b"")


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.asked = []
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def urls(server, tmp_path) -> Path:
    path = tmp_path / "urls.txt"
    lines = [f"http://127.0.0.1:{server.server_port}{page}\n" for page in (*PAGES, "/gone")]
    path.write_text("".join(lines) + lines[0] + "nothing\n", encoding="utf-8")
    return path


def test_a_folder_is_whole_and_says_what_became_of_every_line(urls, tmp_path, caplog):
    out = tmp_path / "deep" / "pages"
    with caplog.at_level("INFO"):
        counts = fetch_pages(urls, out, config=QUICK)
    assert (counts.n_in, counts.n_kept) == (8, 5)
    assert counts.dropped == {"HTTP 404": 1, "duplicate": 1, "no address": 1}
    assert "5 pages of 8 lines" in caplog.text
    assert "dropped: HTTP 404 1, " in caplog.text
    manifest = read_manifest(out, "scratchlm pages", 1)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*manifest["files"], "manifest.json"]
    )
    assert set(manifest["files"]) == {
        *("counts.json", "fetch.json", "journal.tsv", "pages-00000.warc.gz", "urls.tsv")
    }
    assert json.loads((out / "counts.json").read_text("utf-8")) == counts.as_json()


def test_a_finished_folder_is_left_alone(server, urls, tmp_path, caplog):
    counts = fetch_pages(urls, tmp_path / "pages", config=QUICK)
    server.asked.clear()
    with caplog.at_level("INFO"):
        again = fetch_pages([urls], tmp_path / "pages", config=replace(QUICK, workers=3))
    assert again == counts
    assert not server.asked
    assert "is finished: nothing is left to fetch." in caplog.text
    fetch_pages(urls, tmp_path / "pages", config=replace(QUICK, overwrite=True))
    assert "/0" in server.asked


@pytest.mark.parametrize("finished", [True, False])
def test_other_lists_and_settings_are_refused(urls, tmp_path, finished):
    out = tmp_path / "pages"
    fetch_pages(urls, out, config=QUICK)
    if not finished:
        (out / "manifest.json").unlink()
    other = tmp_path / "other.txt"
    other.write_text("http://example.org", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"pages was begun with other lists\. Go on with those,"):
        fetch_pages(other, out, config=QUICK)
    changed = replace(QUICK, max_mb=1.0, types=("text/plain",))
    with pytest.raises(ConfigError, match=r"begun with other types and max_mb\. .*--overwrite"):
        fetch_pages(urls, out, config=changed)
    assert fetch_pages(urls, out, config=replace(QUICK, timeout=9.0)).n_kept == 5


def test_a_folder_of_something_else_is_refused(urls, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    for config in (QUICK, replace(QUICK, overwrite=True)):
        with pytest.raises(ConfigError, match=r"mine holds something else\. Name another"):
            fetch_pages(urls, tmp_path / "mine", config=config)
    (tmp_path / "mine" / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine holds something else\. Name another"):
        fetch_pages(urls, tmp_path / "mine", config=QUICK)


def test_a_list_that_was_being_read_is_read_again(urls, tmp_path):
    out = tmp_path / "pages"
    fetch_pages(urls, out, config=QUICK)
    begun = json.loads((out / "fetch.json").read_text("utf-8"))
    del begun["read"]
    for path in out.iterdir():
        path.unlink()
    (out / "fetch.json").write_text(json.dumps(begun), encoding="utf-8")
    assert fetch_pages(urls, out, config=QUICK).n_kept == 5


def test_one_process_at_a_time(urls, tmp_path):
    out = tmp_path / "pages"
    with locked(out, beside(out, "lock")), pytest.raises(ConfigError, match="pages is in use by"):
        fetch_pages(urls, out, config=QUICK)


def test_a_limit_takes_so_many_lines(urls, tmp_path):
    counts = fetch_pages(urls, tmp_path / "pages", config=replace(QUICK, limit=2))
    assert (counts.n_in, counts.n_kept) == (2, 2)


def test_a_full_disk_is_said_and_mended(urls, tmp_path, monkeypatch):
    write = journal.response_record

    def fail(*_, **__) -> bytes:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(journal, "response_record", fail)
    with pytest.raises(DataError, match=r"the disk is full: .*pages could not be written\. Free"):
        fetch_pages(urls, tmp_path / "pages", config=QUICK)
    monkeypatch.setattr(journal, "response_record", write)
    assert fetch_pages(urls, tmp_path / "pages", config=QUICK).n_kept == 5


def test_it_works_in_a_notebook_whose_loop_is_running(urls, tmp_path):
    async def cell() -> int:
        return fetch_pages(urls, tmp_path / "pages", config=QUICK).n_kept

    assert asyncio.run(cell()) == 5


@pytest.mark.parametrize("library", ["aiohttp", "protego"])
def test_a_missing_library_is_named(urls, tmp_path, library):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from scratchlm.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "corpus", "fetch", urls, "--out", tmp_path / "pages"]
    done = subprocess.run([*command, "--allow-loopback"], capture_output=True, encoding="utf-8")
    assert done.returncode == 2, done.stderr
    assert f"needs the library {library}, which is not installed" in done.stderr


def test_the_verb_prints_the_folder(urls, tmp_path, capsys):
    words = ["corpus", "fetch", str(urls), "--out", str(tmp_path / "pages"), "--per-host", "50/s"]
    assert (
        main.main([*words, "--allow-loopback", "--timeout", "5", "--user-agent", "my-bot/1"]) == 0
    )
    assert capsys.readouterr().out == f"{tmp_path / 'pages'}\n"
    assert main.main([*words, "--allow-loopback", "--per-host", "often"]) == 2
    assert "error: fetch.per_host = 'often' is no rate" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "# nothing\n\nwords\n", "It was dark.\nNobody came.\n"])
def test_a_list_without_any_address_is_an_error(tmp_path, text):
    (tmp_path / "book.txt").write_text(text)
    with pytest.raises(DataError, match=r"no line of .*book\.txt is an address\. A \.txt list has"):
        fetch_pages(tmp_path / "book.txt", tmp_path / "pages", config=QUICK)
    assert not (tmp_path / "pages").exists()


def test_no_lists(tmp_path):
    with pytest.raises(DataError, match=r"there is nothing to fetch: name a list of addresses"):
        fetch_pages([], tmp_path / "pages", config=QUICK)


def test_the_journal_is_not_learned_from(urls, tmp_path):
    """What `extract` makes of the folder are its pages, and nothing that we wrote ourselves."""
    fetch_pages(urls, tmp_path / "pages", config=QUICK)
    assert [one.kind for one in find_sources([tmp_path / "pages"])] == ["warc"]
