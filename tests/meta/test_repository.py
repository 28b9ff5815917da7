"""What every file of the project keeps, and what its documents promise."""

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scratchlm.base.errors import UserError
from scratchlm.cli import main

ROOT = Path(__file__).parents[2]
PUBLIC_INDEXES = {"pypi.org", "download.pytorch.org"}


def project_files() -> list[Path]:
    """Files that git tracks or would track; without git there is nothing to check."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(
            command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return [path for name in listing.stdout.splitlines() if (path := ROOT / name).is_file()]


def text_lines() -> Iterator[tuple[str, str]]:
    """("file:line", line) of every text that people wrote for the project."""
    for path in project_files():
        if "data" in path.relative_to(ROOT).parts or path.stat().st_size > 1_000_000:
            continue  # corpora and stored results say what they like
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT).as_posix()
        yield from ((f"{name}:{number}", line) for number, line in enumerate(lines, 1))


def test_no_file_knows_the_machine_it_was_written_on():
    place = re.compile(r"(?<![\w.~-])(?:/(?:work|root|home|Users)/[\w.]|[A-Z]:\\+Users)")
    assert [(at, line) for at, line in text_lines() if place.search(line)] == []


def test_no_file_names_a_private_host():
    assert [(at, line) for at, line in text_lines() if names_private_host(line)] == []


def names_private_host(line: str) -> bool:
    """A URL with a password, an address inside some network, or a package index of one's own."""
    is_index = re.search(r"index[-_]url|find[-_]links|/simple\b", line, re.IGNORECASE)
    for url in re.findall(r"https?://[^\s\"'`<>)\]]+", line):
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            continue
        inside = re.search(r"(^|\.)(internal|corp|lan|local|intranet)(\.|$)|^[\d.]+$", host)
        local = host in ("localhost", "127.0.0.1")
        if "@" in urlsplit(url).netloc or (inside and not local):
            return True
        if is_index and host not in PUBLIC_INDEXES:
            return True
    return False


@pytest.mark.parametrize(
    ("line", "private"),
    [
        ("see https://arxiv.org/abs/2104.09864", False),
        ("pip install --index-url https://download.pytorch.org/whl/cpu torch", False),
        ("open http://127.0.0.1:8000", False),
        ("pip install --extra-index-url https://" + "mirror.example.com/simple x", True),
        ("https://" + "me:secret@example.com", True),
        ("http://" + "10.0.0.7/x", True),
        ("https://" + "packages.corp.example.com/x", True),
    ],
)
def test_the_host_check_itself(line, private):
    assert names_private_host(line) == private


def documented_commands() -> list[tuple[str, str]]:
    """(place, command) of each `scratchlm VERB ...` in the documents, configs and examples."""
    readable = ("README", "CHANGELOG", "docs/", "configs/", "examples/", "Makefile", ".ci/")
    return [
        (at, command.split(" #")[0].strip())
        for at, line in text_lines()
        if at.startswith(readable)
        for command in re.findall(r"(?:^[\s#$>@\-*]*|`|/)(scratchlm [a-z][^`|>&;]*)", line)
    ]


def test_every_documented_verb_exists():
    first_words = {verb.split()[0] for verb in main.VERBS}
    for at, command in documented_commands():
        assert command.split()[1] in first_words, f"{at}: {command}"


def complete_commands() -> list[tuple[str, str]]:
    """Documented commands that have options, and no gaps such as PATH... or [--resume]."""
    return [
        (at, command)
        for at, command in documented_commands()
        if len(command.split()) > 3 and not re.search(r"\.\.\.|[\[{$(]|\b[A-Z]{3,}\b", command)
    ]


@pytest.mark.parametrize(("at", "command"), complete_commands())
def test_documented_commands_have_these_options(at, command, monkeypatch):
    monkeypatch.chdir(ROOT)  # where configs/ is
    assert complaint_about(command) == "", at


@pytest.mark.parametrize("verb", main.VERBS)
def test_the_examples_of_a_verbs_help_have_these_options(verb, monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = (main.command_of(verb).__doc__ or "").partition("Examples:\n")[2].splitlines()
    examples = [line.strip() for line in lines if line.strip()]
    assert any(f"scratchlm {verb}" in example for example in examples)
    for example in examples:
        assert complaint_about(example) == ""


def complaint_about(line: str) -> str:
    """What the parsers of the verbs in a pipeline say against it; nothing is run."""
    said = io.StringIO()
    for command in re.findall(r"scratchlm [^|]+", line):
        with contextlib.redirect_stderr(said):
            try:
                main.parse(shlex.split(command, comments=True)[1:])
            except (SystemExit, UserError) as error:
                print(command, error, file=said)
    return said.getvalue()
