"""Chat through a pipe, and once through a terminal."""

import io
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.generation.sampling import Sampling
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.chat import Session, chat
from scratchlm.recipes.load import LanguageModel, load
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer

PROMPT = r"\x1b\[0m>"  # prompt_toolkit moves the cursor instead of writing the space behind it
FEW = Sampling(max_new_tokens=8, seed=1)
CHAT = (
    "from scratchlm.base.log import show_log; from scratchlm.recipes.chat import chat;"
    "from scratchlm.recipes.load import load; from scratchlm.generation.sampling import Sampling;"
    "import sys; show_log(); chat(load(sys.argv[1], device='cpu'), Sampling({n}, seed=1))"
)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> LanguageModel:
    return load(model_folder, device="cpu")


@pytest.fixture
def talk(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What a session prints for these lines, without its first line."""

    def talk_(*lines: str, sampling: Sampling = FEW) -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        chat(model, sampling)
        return capsys.readouterr().out.split("\n", 1)[1]

    return talk_


def test_a_base_model_says_that_it_continues(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    chat(model)
    first = capsys.readouterr().out
    assert first.startswith("This is a base model: it continues your text, it does not answer.")


TEMPLATE = (
    "{% for m in messages %}{{ m.content + ('\\n\\n' if m.role == 'assistant' else '\\n') }}"
    "{% endfor %}"
)


def test_a_chat_template_writes_the_conversation(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    template = model_folder / "chat_template.jinja"
    template.write_text(TEMPLATE, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("ab\n\ncd\n/reset\nab\nquit\n"))
    few = Sampling(max_new_tokens=4, temperature=0)
    try:
        model = load(model_folder, device="cpu")
        chat(model, few, system="d")
    finally:
        template.unlink()
    first, *said = capsys.readouterr().out.split("\n", 1)
    assert first.startswith("This model has a chat template: it answers.")
    answer = model.generate("d\nab\n", max_new_tokens=4, temperature=0)
    second = model.generate(f"d\nab\n{answer}\n\ncd\n", max_new_tokens=4, temperature=0)
    assert said == [f"{answer}\n{second}\n{answer}\n"]


def test_a_system_message_needs_a_template(model: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        chat(model, system="Be brief.")


def test_the_text_grows_turn_by_turn(talk: Callable[..., str], model: LanguageModel) -> None:
    first = model.generate("春眠", max_new_tokens=8, seed=1)
    second = model.generate(f"春眠{first}\nab", max_new_tokens=8, seed=1)
    third = model.generate(f"春眠{first}\nab{second}", max_new_tokens=8, seed=1)
    assert talk("春眠", "ab", "", "quit", "never read") == f"{first}\n{second}\n{third}\n"


def test_reset_begins_anew(talk: Callable[..., str], model: LanguageModel) -> None:
    text = model.generate("ab", max_new_tokens=8, seed=1)
    assert talk("ab", "/reset", "ab", "/quit") == f"{text}\n" * 2


def test_behind_an_end_token_another_text_begins() -> None:
    tokenizer = train_tokenizer(["ab cd"], TokenizerConfig(kind="char", eos=True))
    assert tokenizer.eos_id is not None
    model = Transformer(ModelConfig("llama", tokenizer.vocab_size, 16, 1, 8, 2)).eval()
    model.initialise()
    session = Session(LanguageModel(model, tokenizer), Sampling(max_new_tokens=1))
    session.ids, session.text = [*tokenizer.encode("ab"), tokenizer.eos_id], "ab"
    session.answer("cd")
    assert session.ids[:-1] == [*tokenizer.encode("ab"), tokenizer.eos_id, *tokenizer.encode("cd")]
    assert session.text.startswith("ab\n\ncd")


def test_settings_are_shown_and_changed(talk: Callable[..., str], model: LanguageModel) -> None:
    text = model.generate("ab", max_new_tokens=4, temperature=0)
    said = talk("/set temperature 0", "/set max_new_tokens 4", "/set seed none", "ab")
    assert said == f"temperature = 0.0\nmax_new_tokens = 4\nseed = None\n{text}\n"
    assert "stop = ('a b', 'c')" in talk('/set stop ["a b", "c"]')
    assert "stop = ('END',)" in talk("/set stop END")
    assert "top_p = 1.0" in talk("/set")


def test_a_long_session_goes_on_in_the_window(talk: Callable[..., str]) -> None:
    said = talk(*["ab"] * 12, sampling=Sampling(20, seed=1))
    assert "error" not in said


def test_save_writes_the_whole_text(
    talk: Callable[..., str], tmp_path: Path, model: LanguageModel
) -> None:
    file = tmp_path / "story.txt"
    said = talk("春眠", f"/save {file}", f"/save {tmp_path}/no/where.txt", "/save")
    text = "春眠" + model.generate("春眠", max_new_tokens=8, seed=1)
    assert file.read_text(encoding="utf-8") == text
    assert f"saved {len(text)} characters to" in said
    assert "where.txt cannot be written: No such file" in said
    assert "/save needs the name of a file" in said


def test_mistakes_are_named_and_the_session_goes_on(
    talk: Callable[..., str], model: LanguageModel
) -> None:
    said = talk("/sett", "/set heat 1", "/set top_k x", "xyz", "ab")
    assert "there is no command /sett. /help lists them." in said
    assert "unknown setting heat" in said
    assert "top_k = 'x' is not of type int" in said
    assert "'x' (U+0078) at position 0" in said
    assert said.endswith(model.generate("ab", max_new_tokens=8, seed=1) + "\n")


def test_help_names_every_command(talk: Callable[..., str]) -> None:
    said = talk("/help")
    assert all(word in said for word in ("/reset", "/set", "/save", "/help", "quit", "Ctrl-C"))


def test_a_pipe_speaks_utf8(model_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", CHAT.format(n=8), str(model_folder)],
        input="春眠\nquit\n".encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    expected = load(model_folder, device="cpu").generate("春眠", max_new_tokens=8, seed=1)
    assert done.stdout.decode().replace("\r\n", "\n").endswith(f"{expected}\n")


class Terminal:
    """A process behind a pseudo-terminal."""

    def __init__(self, command: list[str], cache: Path) -> None:
        import pty  # absent on Windows
        import termios

        self.here, there = pty.openpty()
        termios.tcsetwinsize(there, (24, 80))
        ours = {"SCRATCHLM_CACHE": str(cache), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        environment = {**os.environ, **ours}
        self.process = subprocess.Popen(
            command,
            stdin=there,
            stdout=there,
            stderr=there,
            env=environment,
            start_new_session=True,
        )
        os.close(there)
        self.seen = ""

    def wait_for(self, pattern: str, seconds: float = 60) -> None:
        """Read on until the pattern has come; what stands behind it is left to the next call."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            assert time.monotonic() < end, f"{pattern!r} did not come in {self.seen!r}"
            if select.select([self.here], [], [], 0.1)[0]:
                self.seen += os.read(self.here, 65536).decode(errors="replace")
        self.seen = self.seen[found.end() :]

    def type(self, keys: str) -> None:
        """Send keys as a keyboard would."""
        os.write(self.here, keys.encode())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_terminal_has_history_arrow_keys_and_ctrl_c(model_folder: Path, tmp_path: Path) -> None:
    code = CHAT.format(n=100_000)
    terminal = Terminal([sys.executable, "-c", code, str(model_folder)], tmp_path / "cache")
    try:
        terminal.wait_for("base model.*" + PROMPT)
        terminal.type("春眠\r")
        terminal.wait_for("春眠.*[abcd春眠不觉晓]{3}")
        terminal.process.send_signal(2)  # what Ctrl-C does while the model writes
        terminal.wait_for(PROMPT)
        terminal.type("/set max_new_tokens 5\r")
        terminal.wait_for("max_new_tokens = 5.*" + PROMPT)
        terminal.type("\x1b[A")  # arrow up
        terminal.wait_for("/set max_new_tokens 5")
        terminal.type("\x03")  # Ctrl-C at the prompt drops the line only
        terminal.wait_for("quit, or Ctrl-D, leaves.*" + PROMPT)
        terminal.type("\x04")
        assert terminal.process.wait(timeout=30) == 0
    finally:
        terminal.process.kill()
    kept = (tmp_path / "cache" / "chat_history").read_text(encoding="utf-8")
    assert "春眠" in kept
