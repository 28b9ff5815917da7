"""The program as a whole: help, exit status, errors, broken pipes."""

import dataclasses
import inspect
import os
import re
import signal
import subprocess
import sys
import typing

import pytest

from scratchlm import __version__
from scratchlm.base.errors import DataError
from scratchlm.cli import main as cli
from scratchlm.cli.main import main


def program(*words, **options):
    options = {"capture_output": True, "encoding": "utf-8", **options}
    return subprocess.run([sys.executable, "-m", "scratchlm", *words], **options)


class Failing:
    """A verb whose work raises what the test puts here."""

    error: BaseException

    @classmethod
    def parse(cls, *_):
        return cls()

    def run(self):
        raise self.error


@pytest.fixture
def failing(monkeypatch):
    monkeypatch.setattr(cli, "command_of", lambda _: Failing)
    return Failing


def test_help_lists_every_verb_in_the_order_of_the_path(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line[2:].split("  ")[0] for line in lines if line.startswith("  ")]
    assert listed == list(cli.VERBS)


def test_every_line_of_help_fits_a_terminal(capsys):
    main(["--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"scratchlm {__version__}\n"


def test_nothing_asked_shows_the_verbs_and_fails(capsys):
    assert main([]) == 2
    shown = capsys.readouterr()
    assert "tokenizer train" in shown.err
    assert shown.out == ""


def test_a_family_of_verbs_has_its_own_list(capsys):
    assert main(["tokenizer", "--help"]) == 0
    text = capsys.readouterr().out
    listed = [line for line in text.splitlines() if line.startswith("  ")]
    assert len(listed) == 4
    assert all(line.startswith("  tokenizer ") for line in listed)
    assert main(["tokenizer"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tokeniser", "train"], "there is no verb 'tokeniser'. Did you mean tokenizer?"),
        (["tokenizer", "trian"], "there is no verb 'tokenizer trian'. Did you mean tokenizer tra"),
        (["xyzzy"], "there is no verb 'xyzzy'. There are: "),
    ],
)
def test_an_unknown_verb_names_the_nearest(words, said, capsys):
    assert main(words) == 2
    assert f"error: {said}" in capsys.readouterr().err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help_worth_reading(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*verb.split(), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: scratchlm {verb}" in text
    assert "Examples:\n" in text


def settings_of(cls):
    """A verb's dataclass and all those nested in it."""
    yield cls
    for hint in typing.get_type_hints(cls).values():
        if dataclasses.is_dataclass(hint):
            yield from settings_of(hint)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_option_of_a_verb_is_explained(verb):
    for cls in settings_of(cli.command_of(verb)):
        lines = inspect.getsource(cls).splitlines()
        for name in cls.__annotations__:
            (line,) = [line for line in lines if re.match(rf"    {name}: ", line)]
            nested = dataclasses.is_dataclass(typing.get_type_hints(cls)[name])
            assert nested or re.search(r"  # \S", line), f"{cls.__name__}.{name} has no comment"


def test_a_user_error_is_one_line(failing, capsys):
    failing.error = DataError("a.txt, line 3: not JSON.")
    assert main(["tokenizer", "train"]) == 2
    assert capsys.readouterr().err == "error: a.txt, line 3: not JSON.\n"


def test_verbose_shows_the_traceback(failing, capsys):
    failing.error = DataError("a.txt, line 3: not JSON.")
    assert main(["tokenizer", "train", "--verbose"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("error: a.txt, line 3: not JSON.\n")


def test_an_error_of_the_system_is_one_line(failing, capsys):
    failing.error = PermissionError(13, "Permission denied", "model")
    assert main(["tokenizer", "train"]) == 2
    assert capsys.readouterr().err == "error: model: Permission denied.\n"


def test_our_own_bug_is_not_hidden(failing):
    failing.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        main(["tokenizer", "train"])


def test_an_interrupt_is_one_line(failing, capsys):
    failing.error = KeyboardInterrupt()
    assert main(["tokenizer", "train"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_ends_it_as_an_error_does(monkeypatch):
    before, tidied = signal.getsignal(signal.SIGTERM), []

    def work(_words):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            tidied.append(True)

    monkeypatch.setattr("scratchlm.cli.main.run", work)
    with pytest.raises(SystemExit) as ended:
        main(["inspect"])
    assert ended.value.code == 143
    assert tidied
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_wrong_option_ends_with_2():
    answer = program("tokenizer", "decode", "x", "--skip-specail")
    assert answer.returncode == 2
    assert "--skip-special" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_a_real_process_quietly():
    code = """
import sys, time
from scratchlm.cli import main as cli
class Slow:
    parse = classmethod(lambda cls, verb, words: cls())
    def run(self):
        print("running", flush=True)
        time.sleep(60)
cli.command_of = lambda verb: Slow
sys.exit(cli.main(["tokenizer", "train"]))
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert said == "interrupted\n"
    assert process.returncode == 130


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_is_not_lost_while_libraries_are_imported():
    code = """
import sys, time
from scratchlm.cli import main as cli
def import_module(name):
    print("importing", flush=True)
    try:
        time.sleep(60)
    except BaseException:  # as somewhere in a large library
        pass
cli.importlib.import_module = import_module
sys.exit(cli.main(["tokenizer", "train"]))
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    answer = program(
        "tokenizer", "encode", "gpt2", "some text", capture_output=False, stdout=writer,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    assert answer.returncode == 141
    assert answer.stderr == ""


def test_output_is_utf8_whatever_the_machine_says():
    codec = {**os.environ, "PYTHONIOENCODING": "ascii"}
    answer = program("tokenizer", "decode", "gpt2", "19526", "254", "25001", "121", env=codec)
    assert answer.stdout == "你好\n"
