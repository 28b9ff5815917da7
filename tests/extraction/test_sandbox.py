"""A process that may die: limits hold, the next document is served, nothing is left behind."""

import io
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import pytest

from scratchlm.base.errors import MissingExtraError
from scratchlm.extraction import sandbox as sandbox_module
from scratchlm.extraction.result import Hints, Unreadable
from scratchlm.extraction.sandbox import Limits, Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of other systems differ")

TEXT = "The harbour was full of boats that morning, and the men who had been out all night talked. "
PAGE = f"<html><head><title>Boats</title></head><body><p>{TEXT * 5}</p></body></html>".encode()


def packed(xml: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("word/document.xml", xml)
    return file.getvalue()


def slow() -> bytes:
    """A Word file that takes seconds: cells in cells, whose text is joined anew at every level."""
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    n = 20_000
    inside = "<w:tbl><w:tr><w:tc>" * n + "<w:p><w:r><w:t>" + "x " * 50_000
    end = "</w:t></w:r></w:p>" + "</w:tc></w:tr></w:tbl>" * n
    return packed(f'<w:document xmlns:w="{space}">{inside}{end}</w:document>')


def large() -> bytes:
    """A page that takes more memory than it may."""
    return b"<html><body>" + b"<p>a<b>b</b></p>" * 2_000_000


def pid_of(sandbox: Sandbox) -> int:
    assert sandbox._process
    return sandbox._process.pid


def extract(sandbox: Sandbox, kind: str = "html", body: bytes = PAGE):
    return sandbox.extract(kind, body, Hints(url="https://example.org/"), "main")


def test_one_process_serves_one_document_after_the_other():
    with Sandbox(Limits()) as sandbox:
        first = extract(sandbox)
        process = pid_of(sandbox)
        assert TEXT.strip() in first.text
        assert first.meta["title"] == "Boats"
        assert first.meta["kind"] == "html"
        with pytest.raises(Unreadable, match="broken pdf"):
            extract(sandbox, "pdf", b"%PDF-1.4 nothing")
        assert extract(sandbox) == first
        assert pid_of(sandbox) == process
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_processor_time_has_a_limit():
    with Sandbox(Limits(time_limit=0.5)) as sandbox:
        extract(sandbox)
        began = time.monotonic()
        with pytest.raises(Unreadable, match=r"^time limit$"):
            extract(sandbox, "docx", slow())
        assert time.monotonic() - began < 20
        assert extract(sandbox).text


def test_time_on_the_clock_has_none():
    """A process that is stopped for longer than its limit of processor time goes on."""
    with Sandbox(Limits(time_limit=0.5)) as sandbox:
        extract(sandbox)
        process = pid_of(sandbox)
        os.kill(process, signal.SIGSTOP)
        if os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", f"sleep 1.5; kill -CONT {process}"):
            assert extract(sandbox).text
        assert pid_of(sandbox) == process


def test_memory_has_a_limit():
    with Sandbox(Limits(memory_mb=400)) as sandbox:
        extract(sandbox)
        for _ in range(2):
            with pytest.raises(Unreadable, match=r"^(memory limit|crashed)$"):
                extract(sandbox, "html", large())
        assert extract(sandbox).text


def test_a_process_that_is_killed_is_replaced():
    with Sandbox(Limits()) as sandbox:
        for _ in range(3):
            first = extract(sandbox)
            os.kill(pid_of(sandbox), signal.SIGKILL)
            assert extract(sandbox) == first  # what was served before died, not the document


def test_a_document_that_kills_a_new_process_is_the_one(monkeypatch):
    with Sandbox(Limits()) as sandbox:
        started = Sandbox._started

        def dead(self: Sandbox):
            process = started(self)
            process.kill()
            process.wait()
            return process

        monkeypatch.setattr(Sandbox, "_started", dead)
        with pytest.raises(Unreadable, match=r"^crashed$"):
            extract(sandbox)
        monkeypatch.undo()
        assert extract(sandbox).text


@pytest.mark.parametrize(
    ("library", "kind", "body"),
    [
        ("trafilatura", "html", PAGE),
        ("lxml_html_clean", "html", PAGE),  # a part of trafilatura's that may be missing alone
        ("resiliparse", "html", "<p>\u5e8a".encode("gbk")),  # whose character set is to be found
        ("pypdfium2", "pdf", b"%PDF-"),
    ],
)
def test_a_library_that_is_missing_is_named(monkeypatch, library, kind, body):
    without = f"import sys; sys.modules[{library!r}] = None\n{sandbox_module._START}"
    monkeypatch.setattr(sandbox_module, "_START", without)
    missing = pytest.raises(MissingExtraError, match=r'pip install "scratchlm\[web\]"')
    with Sandbox(Limits()) as sandbox, missing:
        extract(sandbox, kind, body)


def test_the_process_ends_with_its_parent(tmp_path):
    code = (
        "import os, sys; from scratchlm.extraction.sandbox import Limits, Sandbox;"
        "from scratchlm.extraction.result import Hints;"
        "s = Sandbox(Limits()); s.extract('html', b'<p>' + b'some text ' * 50, Hints(), 'main');"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(s._process.pid)); os._exit(9)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 9
    process = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{process}").exists()
