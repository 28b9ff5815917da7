"""TOML and dataclasses: strict, helpful, and the same after a round trip."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from scratchlm.base.config import from_dict, read_toml, to_dict, write_toml
from scratchlm.base.errors import ConfigError


@dataclass(frozen=True)
class Part:
    lr: float = 1e-3
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Source:
    path: Path
    weight: float = 1.0


@dataclass(frozen=True)
class Whole:
    part: Part = field(default_factory=Part)
    sources: tuple[Source, ...] = ()
    names: tuple[str, ...] = ()
    steps: int = 10
    flag: bool = False
    maybe: str | None = None
    pairs: tuple[tuple[int, float], ...] = ()


def test_round_trip(tmp_path):
    config = Whole(
        Part(0.25, "b"),
        (Source(Path("a/b"), 2.0),),
        ("詩", "x"),
        steps=3,
        flag=True,
        maybe="yes",
        pairs=((2, 0.5), (3, 1.0)),
    )
    write_toml(tmp_path / "c.toml", config)
    assert read_toml(Whole, tmp_path / "c.toml") == config
    write_toml(tmp_path / "d.toml", Whole())
    assert read_toml(Whole, tmp_path / "d.toml") == Whole()
    assert "maybe" not in to_dict(Whole())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step = 3", "c.toml: unknown setting step. Did you mean steps?"),
        ("[part]\nlearning = 1", "unknown setting part.learning. There are: kind, lr."),
        ('[part]\nlr = "x"', "part.lr = 'x' is not of type float."),
        ('[part]\nkind = "c"', "part.kind = 'c' is not one of 'a', 'b'."),
        ("steps = true", "steps = True is not of type int."),
        ("steps = 1.5", "steps = 1.5 is not of type int."),
        ("flag = 1", "flag = 1 is not of type bool."),
        ("maybe = 1", "maybe = 1 is not of type str."),
        ("[[sources]]\nweight = 1", "missing setting sources[0].path."),
        ("part = 3", "part = 3 is not of type Part."),
        ("pairs = [[1, 0.5], [2]]", "pairs[1] = [2] does not have 2 items."),
        ("pairs = [[0.5, 1]]", "pairs[0][0] = 0.5 is not of type int."),
        ("steps = ", "is not valid TOML"),
    ],
)
def test_bad_settings_are_named(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_toml(Whole, path)
    assert message in str(error.value)


def test_whole_numbers_serve_as_floats_and_missing_files_are_named(tmp_path):
    assert from_dict(Whole, {"part": {"lr": 1}}).part.lr == 1.0
    with pytest.raises(ConfigError, match=r"nothing\.toml does not exist"):
        read_toml(Whole, tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_toml(Whole, tmp_path)
