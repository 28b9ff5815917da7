"""Talk to a model in the terminal: `scratchlm chat`."""

import sys
import tomllib
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from scratchlm.base.config import to_dict
from scratchlm.base.errors import ConfigError, DataError, UserError
from scratchlm.base.files import write_text
from scratchlm.base.log import warn
from scratchlm.base.runtime import cache_folder
from scratchlm.generation.sampling import Sampling, sampling_of
from scratchlm.generation.sequence import Request
from scratchlm.recipes.load import LanguageModel
from scratchlm.tokenizer.chat_template import ChatTemplate

HELP = """\
With a base model: write a beginning, and the model goes on. The text grows: what you write next is
set on a new line behind it, and Enter alone lets the model go on by itself.
With a model that has a chat template: write, and it answers.

  /reset              forget the text and begin a new one
  /set                show the settings
  /set NAME VALUE     change one, such as: /set temperature 0.5
  /save FILE          write the text so far to a file
  /help               this
  quit                leave; so do /quit and Ctrl-D. Ctrl-C stops the present answer only"""


def chat(model: LanguageModel, sampling: Sampling | None = None, *, system: str = "") -> None:
    """Read lines from standard input, answer them on standard output, until `quit` or its end.

    A model with a chat template answers; any other continues what was written.

    system   what a model with a chat template is told before everything else
    raises   ConfigError for a system message without a chat template

    A terminal gets line editing, arrow keys and a history that is kept between sessions; a pipe is
    read line by line.
    """
    session = open_session(model, sampling or Sampling(), system)
    print(session.first_line())
    read = terminal_reader() if sys.stdin.isatty() and sys.stdout.isatty() else input
    while True:
        try:
            line = read()
        except EOFError:
            return
        except KeyboardInterrupt:
            print("quit, or Ctrl-D, leaves.")
            continue
        except UnicodeDecodeError as error:
            raise DataError(f"standard input is not UTF-8 at byte {error.start}.") from None
        if line.strip() in ("quit", "/quit"):
            return
        try:
            session.answer(line)
        except UserError as error:
            print(f"error: {error}")


def open_session(model: LanguageModel, sampling: Sampling, system: str) -> "Session":
    """A dialogue where the model has a chat template, else one growing text."""
    if model.template:
        return Dialogue(model, sampling, model.template, system)
    if system:
        raise ConfigError("this model has no chat template, so it takes no system message.")
    return Session(model, sampling)


def terminal_reader() -> Callable[[], str]:
    """Line editing with arrow keys; what was typed before is kept in the user's cache folder."""
    history: History = InMemoryHistory()
    file = cache_folder() / "chat_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        history = FileHistory(str(file))
    except OSError as error:
        warn(f"{file} cannot be written ({error.strerror}): this session's history is not kept.")
    session: PromptSession[str] = PromptSession("> ", history=history)
    return session.prompt


class Session:
    """One growing text, written by the user and the model in turns."""

    def __init__(self, model: LanguageModel, sampling: Sampling) -> None:
        self.model = model
        self.tokenizer = model.required_tokenizer
        self.sampling = sampling
        self.reset()

    def first_line(self) -> str:
        """What kind of model this is, and what it will therefore do."""
        return (
            "This is a base model: it continues your text, it does not answer. It sees the last "
            f"{self.model.model.config.max_seq_len} tokens at most. /help lists the commands."
        )

    def reset(self) -> None:
        """Begin a new text."""
        self.ids: list[int] = []
        self.text = ""

    def answer(self, line: str) -> None:
        """Obey a command, or continue the text with this line behind it.

        raises   UserError for what cannot be done; the text is then as before
        """
        word, _, rest = line.strip().partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: print(HELP),
            "/reset": lambda _: self.reset(),
            "/set": self.set,
            "/save": self.save,
        }
        if word in commands:
            commands[word](rest.strip())
        elif word.startswith("/"):
            raise ConfigError(f"there is no command {word}. /help lists them.")
        else:
            self.go_on(line)

    def set(self, words: str) -> None:
        """Change a setting: "temperature 0.5"; without words, show them all."""
        name, _, value = words.partition(" ")
        if name:
            self.sampling = sampling_of({**to_dict(self.sampling), name: parse(value.strip())})
        for setting, now in vars(self.sampling).items():
            if name in ("", setting):
                print(f"{setting} = {now}")

    def save(self, path: str) -> None:
        """Write the text so far to a file."""
        if not path:
            raise ConfigError("/save needs the name of a file: /save story.txt")
        try:
            write_text(Path(path), self.written())
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}.") from None
        print(f"saved {len(self.written())} characters to {path}")

    def written(self) -> str:
        """The text so far."""
        return self.text

    def go_on(self, line: str) -> None:
        """Put a line behind the text and let the model write; Ctrl-C ends its part."""
        self.ids, self.text = self._with(line)
        self._write(Request(tuple(self.ids), self.sampling, window=True))

    def _write(self, request: Request) -> None:
        """Print what the model writes, as it comes, and put it behind the text."""
        with closing(self.model.engine.stream(request)) as tokens, suppress(KeyboardInterrupt):
            for token in tokens:
                self.ids.append(token.id)
                self.text += token.text
                print(token.text, end="", flush=True)
        print()

    def _with(self, line: str) -> tuple[list[int], str]:
        """The ids and the text with a line behind them, on a line of its own."""
        if not self.ids:
            return self.model.prompt_ids(line), line
        if self.ids[-1] == self.tokenizer.eos_id:  # the model ended the text: this is another one
            return self.ids + self.tokenizer.encode(line), f"{self.text}\n\n{line}"
        if line and not self.text.endswith("\n"):
            line = "\n" + line
        return self.ids + self.tokenizer.encode(line, continues=True), self.text + line


class Dialogue(Session):
    """Messages in turns, written out by the model's chat template."""

    def __init__(
        self, model: LanguageModel, sampling: Sampling, template: ChatTemplate, system: str
    ) -> None:
        self.template, self.system = template, system
        self._ends = tuple(template.answer_end())
        super().__init__(model, sampling)

    def first_line(self) -> str:
        """What kind of model this is, and what it will therefore do."""
        return (
            "This model has a chat template: it answers. It sees the last "
            f"{self.model.model.config.max_seq_len} tokens at most. If it talks nonsense, try "
            "/set temperature 0.2. /help lists the commands."
        )

    def reset(self) -> None:
        """Begin a new conversation."""
        super().reset()
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def go_on(self, line: str) -> None:
        """Say a line to the model and let it answer; Ctrl-C ends its answer."""
        if not line.strip():
            return
        messages = [*self.messages, {"role": "user", "content": line}]
        self.ids, self.text = self.template.encode(messages), ""
        self._write(Request(tuple(self.ids), self.sampling, ends=self._ends, window=True))
        self.messages = [*messages, {"role": "assistant", "content": self.text}]

    def written(self) -> str:
        """The conversation so far, each message behind its role."""
        return "\n\n".join(f"{one['role']}: {one['content']}" for one in self.messages) + "\n"


def parse(value: str) -> Any:
    """A setting as it is typed: a number or list as in TOML, `none`, or else plain text."""
    if value == "none":
        return None
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value
