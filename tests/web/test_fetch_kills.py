"""SIGKILL at random moments: no page lost, none kept twice, at most those in flight asked again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from scratchlm.base.files import read_manifest
from scratchlm.corpus.stages import Counts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

WORKERS = 8
PROGRAM = f"""
import sys
from scratchlm.recipes.fetch_pages import fetch_pages
from scratchlm.web import fetch
from scratchlm.web.fetch_config import FetchConfig

fetch.PAUSE_SECONDS = 0.02
config = FetchConfig(
    workers={WORKERS}, per_host="0", host_connections={WORKERS}, allow_loopback=True, chunk_mb=0.02
)
fetch_pages(sys.argv[1], sys.argv[2], config=config)
"""


def start(urls: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, urls, out]
    return subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")


def slowly(content: bytes):
    def handle(handler) -> None:
        time.sleep(0.01)
        handler.wfile.write(content)

    return handle


def fill(site, answer, n_pages: int) -> list[str]:
    """Pages, moved and missing ones, and servers that are busy at first; gives the paths."""
    rng = random.Random(0)
    for number in range(n_pages):
        text = " ".join(rng.choices(["to", "be", "or", "not", "\u6625\u7720"], k=200)).encode()
        site.routes[f"/{number}"] = slowly(answer(text + b" %d" % number))
    for number in range(0, n_pages, 10):
        site.routes[f"/moved/{number}"] = answer(status="302 Found", Location=f"/target/{number}")
        site.routes[f"/target/{number}"] = slowly(answer(b"target %d" % number))
        site.routes[f"/again/{number}"] = answer(status="302 Found", Location=f"/target/{number}")
        site.routes[f"/missing/{number}"] = answer(status="404 Not Found")
    for number in range(0, n_pages, 100):
        site.routes[f"/busy/{number}"] = answer(status="503 Busy")
    return [path for path in site.routes if not path.startswith("/target")]


def kill_and_finish(tmp_path, site, answer, read_folder, *, n_pages: int, kills: int, seed: int):
    rng = random.Random(seed)
    paths = fill(site, answer, n_pages)
    urls, out = tmp_path / "urls.txt", tmp_path / "out"
    urls.write_text("".join(f"{site.url}{path}\n" for path in paths), "utf-8")
    n_killed = 0
    while n_killed < kills:
        process, before = start(urls, out), len(site.requests)
        while process.poll() is None and len(site.requests) == before and n_killed % 5:
            time.sleep(0.002)
        time.sleep(rng.random() * (0.3 if n_killed % 5 else 1.5))  # each fifth at any moment
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break  # it was quicker: a folder that is finished is killed no more
        n_killed += 1
    process = start(urls, out)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    read_manifest(out, "scratchlm pages", 1)
    check_folder(out, site, paths, read_folder, n_killed)
    return n_killed


def check_folder(out: Path, site, paths: list[str], read_folder, n_killed: int) -> None:
    counts = Counts.of_json(json.loads((out / "counts.json").read_text("utf-8")))
    fetched = read_folder(out, counts)
    n_of = Counter(path.split("/")[1] if path.count("/") > 1 else "plain" for path in paths)
    assert counts.n_in == len(paths)
    assert counts.n_kept == n_of["plain"] + n_of["moved"]
    assert counts.dropped == {
        "redirect to a known page": n_of["again"],
        "HTTP 404": n_of["missing"],
        "HTTP 503": n_of["busy"],
    }
    kept = {url.removeprefix(site.url) for url in fetched.pages}
    plain = {path for path in paths if path.count("/") == 1}
    assert kept == plain | {path for path in site.routes if path.startswith("/target")}
    asked = Counter(site.paths)
    repeated = sum(asked[path] - 1 for path in plain)
    assert repeated <= WORKERS * n_killed
    assert len(list(out.glob("*.warc.gz"))) > 2


def test_ten_kills(tmp_path, site, answer, read_folder):
    n_killed = kill_and_finish(tmp_path, site, answer, read_folder, n_pages=900, kills=10, seed=1)
    assert n_killed >= 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills(tmp_path, site, answer, read_folder):
    n_killed = kill_and_finish(
        tmp_path, site, answer, read_folder, n_pages=20_000, kills=200, seed=2
    )
    assert n_killed == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm(tmp_path, site, answer, read_folder, number):
    paths = fill(site, answer, 600)
    urls, out = tmp_path / "urls.txt", tmp_path / "out"
    urls.write_text("".join(f"{site.url}{path}\n" for path in paths), "utf-8")
    command = [sys.executable, "-m", "scratchlm.cli.main", "corpus", "fetch", urls, "--out", out]
    command += ["--allow-loopback", "--per-host", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")
    while len(site.requests) < 100 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 143), errors
    assert "is not finished: the same command goes on where it stopped." in errors
    assert "Traceback" not in errors
    assert not (out / "manifest.json").exists()
    process = start(urls, out)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    check_folder(out, site, paths, read_folder, 1)
