"""`scratchlm VERB ...`: one table of verbs, each imported only when it is called.

Exit status: 0 done; 2 something that the user can mend; 130 interrupted, also when the run was
saved; 141 whoever read our output has left; 143 ended by SIGTERM. Anything else is a bug of ours
and shows its traceback.
"""

import errno
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from scratchlm import __version__
from scratchlm.base.config import nearest
from scratchlm.base.errors import ConfigError, UserError
from scratchlm.base.log import show_log

if TYPE_CHECKING:
    from scratchlm.cli.command import Command

TERMINATED = 143  # exit status after SIGTERM, as shells have it

# verb -> (its Command, one line of help), in the order of the path from a text to a chat
VERBS = {
    "quickstart": ("quickstart:Quickstart", "a first model, from a text that ships with this"),
    "build": ("quickstart:Build", "any text of yours to a model, in one command"),
    "corpus get": ("corpus_get:Get", "known data sets, and any of the hubs"),
    "corpus urls": ("corpus:Urls", "dumps of links to pages worth fetching"),
    "corpus fetch": ("corpus_fetch:Fetch", "pages of the web into archives"),
    "corpus extract": ("corpus_extract:Extract", "the text of pages and of files of any kind"),
    "corpus clean": ("corpus:Clean", "keep what is worth training on, and say why"),
    "corpus report": ("corpus_report:Report", "a page that shows what was kept and dropped"),
    "corpus segment": ("corpus_segment:Segment", "words parted by spaces, as tutorials want"),
    "tokenizer train": ("tokenizer:Train", "learn a vocabulary from your text"),
    "tokenizer encode": ("tokenizer:Encode", "text to ids, or to its pieces in colour"),
    "tokenizer decode": ("tokenizer:Decode", "ids back to text"),
    "tokenizer compare": ("tokenizer:Compare", "bytes per token and speed, side by side"),
    "prepare": ("prepare:Prepare", "text to token shards, which training reads"),
    "plan": ("plan:PlanRun", "what a run will take: memory, time, disk, before it"),
    "pretrain": ("pretrain:Pretrain", "a model from a config file"),
    "preview": ("preview:Preview", "what a model will see: tokens, and what is learned of them"),
    "finetune sft": ("finetune:Sft", "teach a model to answer, from conversations"),
    "finetune classify": ("finetune:Classify", "teach it to tell classes of texts apart"),
    "finetune dpo": ("finetune:Dpo", "teach it which answers are better, from pairs"),
    "finetune distill": ("finetune:Distill", "teach it what a larger model knows"),
    "classify": ("classify:Classify", "which class a text is of"),
    "evaluate": ("evaluate:Evaluate", "what a model can do, in numbers with their intervals"),
    "generate": ("generate:Generate", "let a model continue a prompt"),
    "chat": ("generate:Chat", "write with a model in turns"),
    "import": ("formats:Import", "a model of another program as a model folder"),
    "export": ("export:Export", "a model for llama.cpp, ollama or llama2.c, with proof"),
    "inspect": ("formats:Inspect", "what a model is, without loading it"),
    "bench": ("bench:Bench", "how fast this machine trains and writes, as a table"),
}


def main(words: list[str] | None = None) -> int:
    """Do what the command line asks (None: this process's own) and return the exit status."""
    words = list(sys.argv[1:] if words is None else words)
    if verbose := "--verbose" in words:
        words.remove("--verbose")
    speak_utf8()
    show_log()
    try:
        with tidying_up():
            status = run(words)
        sys.stdout.flush()  # here a reader who left can still be answered
        return status
    except KeyboardInterrupt:
        start = "\n" if sys.stderr.isatty() else ""  # behind the ^C, or in a half-written line
        print(f"{start}interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is left in the buffer goes nowhere, or Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UserError, OSError) as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {reason(error)}", file=sys.stderr)
        return 2


def reason(error: UserError | OSError) -> str:
    """What an error says; the system's errors begin with the file, as ours do."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full. Free space, or write to another one."
    return str(error)


def run(words: list[str]) -> int:
    """Answer what is asked about scratchlm itself, or run one verb."""
    family = [verb for verb in VERBS if words and verb.startswith(f"{words[0]} ")]
    if words == ["--version"]:
        print(f"scratchlm {__version__}")
    elif not words or (family and len(words) == 1):
        print_verbs(family or list(VERBS), sys.stderr)
        return 2
    elif words[0] in ("-h", "--help"):
        print_verbs(list(VERBS), sys.stdout)
    elif family and words[1] in ("-h", "--help"):
        print_verbs(family, sys.stdout)
    else:
        parse(words).run()
    return 0


def parse(words: list[str]) -> "Command":
    """The command that a command line means, ready to run; a wrong option ends the program."""
    verb = find_verb(words)
    return command_of(verb).parse(verb, words[len(verb.split()) :])


def command_of(verb: str) -> "type[Command]":
    """The class of a verb; its module is imported now."""
    module, name = VERBS[verb][0].split(":")
    with leaving_at_once():
        command: type[Command] = getattr(importlib.import_module(f"scratchlm.cli.{module}"), name)
    return command


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process: raised while libraries are imported, it can be lost in them."""

    def leave(*_: object) -> None:
        os.write(2, b"interrupted\n")
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, or somebody else's
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def tidying_up() -> Iterator[None]:
    """Let SIGTERM end the process as an error does, so that nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def find_verb(words: list[str]) -> str:
    """The verb, of one word or two, that a command line begins with."""
    for n_words in (2, 1):
        if (verb := " ".join(words[:n_words])) in VERBS:
            return verb
    family = {verb for verb in VERBS if verb.startswith(f"{words[0]} ")}
    unknown = " ".join(words[:2]) if family else words[0]
    known = family or {verb.split()[0] for verb in VERBS}
    raise ConfigError(f"there is no verb {unknown!r}.{nearest(unknown, known)}")


def print_verbs(verbs: list[str], stream: TextIO) -> None:
    """The help text of scratchlm as a whole, or of the verbs that share their first word."""
    width = max(map(len, verbs))
    print("usage: scratchlm VERB ...\n", file=stream)
    print("Build your own language model from scratch.\n", file=stream)
    for verb in verbs:
        print(f"  {verb:{width}}  {VERBS[verb][1]}", file=stream)
    print("\nscratchlm VERB --help   its options, with examples", file=stream)
    print("scratchlm --version     the version of this program", file=stream)
    print("... --verbose           the traceback with an error", file=stream)


def speak_utf8() -> None:
    """Windows gives pipes the encoding of a code page, which has no room for most languages."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's or a test's stream may lack it
            stream.reconfigure(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
