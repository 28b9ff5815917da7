"""A verb as a frozen dataclass: its docstring is the help text, its fields are the options."""

import dataclasses
import inspect
import time
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from scratchlm.base.config import read_toml
from scratchlm.base.errors import ConfigError

BEGAN = time.monotonic()  # about when the process started: before PyTorch is imported
HELP = {"-h", "--help"}
INTERRUPTED = 130  # exit status of a run that Ctrl-C or SIGTERM ended, saved or not
Paths = Annotated[  # one or more files and folders, without a flag
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="PATH...", help_behavior_hint="(required)"),
]
Inline = tyro.conf.arg(name="")  # a nested dataclass as --seed, not --sampling.seed


@dataclass(frozen=True)
class Command:
    """One verb. The trailing comments of its fields are what `--help` says about each option."""

    @classmethod
    def parse(cls, verb: str, words: list[str]) -> Self:
        """Build the command from the words behind the verb.

        A wrong option prints what was likely meant and ends the program with status 2.
        """
        return cls.from_words(verb, words)

    @classmethod
    def from_words(cls, verb: str, words: list[str], default: Any = tyro.MISSING_NONPROP) -> Self:
        """`parse` with other default values than those of the dataclass."""
        if HELP & set(words):
            print(inspect.cleandoc(cls.__doc__ or ""), end="\n\n")  # tyro would join its lines
        return tyro.cli(
            cls,
            prog=f"scratchlm {verb}",
            description="",
            args=words,
            default=default,
            config=(tyro.conf.PositionalMetavarFromFieldName,),
        )

    def run(self) -> None:
        """Do the work; results go to standard output, all else to standard error."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConfigCommand(Command):
    """A verb whose first word is a TOML file, and each setting of that file an option as well.

    A subclass adds its other options, and `settings`: the dataclass that the file fills.
    """

    config: Annotated[Path, tyro.conf.Positional]  # a TOML file; options override what it says

    @classmethod
    def parse(cls, verb: str, words: list[str]) -> Self:
        """Read the file, then let options override it, so that `--help` shows the file's values.

        raises   ConfigError for a file that is missing or wrong, or that does not come first
        """
        if words and not words[0].startswith("-"):
            return cls.from_words(verb, words, default=cls._defaults(Path(words[0])))
        if HELP & set(words):
            return cls.from_words(verb, words)
        raise ConfigError(f"the config file comes first: scratchlm {verb} CONFIG.toml [OPTIONS]")

    @classmethod
    def _defaults(cls, path: Path) -> Self:
        settings = read_toml(typing.get_type_hints(cls)["settings"], path)
        required = {
            field.name: tyro.MISSING
            for field in dataclasses.fields(cls)
            if field.default is field.default_factory is dataclasses.MISSING
        }
        return cls(**{**required, "config": path, "settings": settings})
