"""Command lines made from dataclasses, proved on small ones."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.cli.command import Command, ConfigCommand, Inline, Paths


@dataclass(frozen=True)
class Shape:
    """How large the model is."""

    n_layers: int = 2  # blocks, one above the other
    dropout: float = 0.0  # share of activations set to zero
    tied: bool = True  # the head shares the embedding's weights

    def __post_init__(self) -> None:
        if self.n_layers < 1:
            raise ConfigError(f"model.n_layers = {self.n_layers} must be at least 1.")


@dataclass(frozen=True)
class Settings:
    """The whole run."""

    model: Shape = field(default_factory=Shape)
    stop: tuple[str, ...] = ()  # strings that end it
    seed: int | None = None  # of every random draw

    def __post_init__(self) -> None:
        if self.seed is None:
            raise ConfigError("seed is not set: only the file or an option can tell it.")


@dataclass(frozen=True)
class Train(ConfigCommand):
    """Train by a config file."""

    settings: Annotated[Settings, Inline]
    out: Path  # the folder of the run
    resume: Literal["auto", "never"] = "auto"  # go on from what the folder holds


@dataclass(frozen=True)
class Copy(Command):
    """Copy files to a place.

    Examples:
      scratchlm copy a b --to there
    """

    paths: Paths  # what to copy
    to: Path  # where it goes


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('seed = 7\nstop = ["end"]\n[model]\nn_layers = 5\n', encoding="utf-8")
    return path


def ends_with_2(command, words, capsys):
    with pytest.raises(SystemExit) as ended:
        command.parse("verb", words)
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_the_file_fills_what_no_option_says(toml):
    command = Train.parse("verb", [str(toml), "--out", "run"])
    assert command.settings == Settings(Shape(n_layers=5), stop=("end",), seed=7)
    assert (command.config, command.out, command.resume) == (toml, Path("run"), "auto")


def test_an_option_overrides_the_file(toml):
    words = [str(toml), "--out", "run", "--model.dropout", "0.1", "--model.no-tied", "--seed", "8"]
    command = Train.parse("verb", words)
    assert command.settings == Settings(Shape(5, 0.1, False), stop=("end",), seed=8)


def test_underscores_work_like_hyphens(toml):
    words = [str(toml), "--out", "run", "--model.n_layers", "3"]
    assert Train.parse("verb", words).settings.model.n_layers == 3


def test_help_shows_the_values_of_the_file(toml, capsys):
    with pytest.raises(SystemExit) as ended:
        Train.parse("verb", [str(toml), "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--model.n-layers INT blocks, one above the other (default: 5)" in text.replace("│ ", "")


def test_a_misspelt_option_names_the_nearest(toml, capsys):
    said = ends_with_2(Train, [str(toml), "--out", "run", "--model.n-layer", "3"], capsys)
    assert "Unrecognized options: --model.n-layer" in said
    assert "--model.n-layers" in said.replace("--model.n-layer,", "")


def test_a_misspelt_key_of_the_file_names_the_nearest(toml):
    toml.write_text("[model]\nn_layer = 5\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"small.toml: unknown setting model.n_layer. Did you mea"
    ):
        Train.parse("verb", [str(toml), "--out", "run"])


def test_a_refused_value_is_a_user_error(toml):
    with pytest.raises(ConfigError, match=r"model.n_layers = 0 must be at least 1"):
        Train.parse("verb", [str(toml), "--out", "run", "--model.n-layers", "0"])


def test_a_value_of_the_wrong_type_names_the_option(toml, capsys):
    said = ends_with_2(Train, [str(toml), "--out", "run", "--model.n-layers", "two"], capsys)
    assert "--model.n-layers" in said
    assert "'two'" in said


def test_the_config_file_comes_first(toml):
    with pytest.raises(ConfigError, match=r"config file comes first: scratchlm verb CONFIG"):
        Train.parse("verb", ["--out", "run", str(toml)])


def test_help_without_a_file_shows_the_defaults_of_the_program(capsys):
    with pytest.raises(SystemExit):
        Train.parse("verb", ["--help"])
    assert "(default: 2)" in capsys.readouterr().out


def test_the_file_must_be_whole_in_itself(toml):
    toml.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"small.toml: seed is not set"):
        Train.parse("verb", [str(toml), "--out", "run", "--seed", "3"])


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no-such.toml does not exist"):
        Train.parse("verb", ["no-such.toml", "--out", "run"])


def test_a_missing_option_is_named(toml, capsys):
    assert "--out" in ends_with_2(Train, [str(toml)], capsys)


def test_help_keeps_the_lines_of_the_docstring(capsys):
    with pytest.raises(SystemExit):
        Copy.parse("copy", ["--help"])
    text = capsys.readouterr().out
    assert "usage: scratchlm copy" in text
    assert "Examples:\n  scratchlm copy a b --to there\n" in text
    assert "PATH..." in text


def test_paths_come_without_a_flag():
    assert Copy.parse("copy", ["a", "b", "--to", "there"]).paths == (Path("a"), Path("b"))
