"""Settings: frozen dataclasses beside the code they configure, TOML on disk, strict both ways."""

import dataclasses
import difflib
import math
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tomli_w

from scratchlm.base.errors import ConfigError
from scratchlm.base.files import write_text

T = TypeVar("T")


def read_toml(cls: type[T], path: Path) -> T:
    """Build the dataclass `cls` (nested ones are tables) from a TOML file.

    raises   ConfigError naming the file and the key: unknown (with the nearest known one), of the
             wrong type, or refused by the dataclass itself
    """
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist. Give the path of a TOML config.") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder. Give the path of a TOML config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as bad:
        raise ConfigError(f"{path} is not valid TOML: {bad}.") from None
    try:
        return from_dict(cls, values)
    except ConfigError as bad:
        raise ConfigError(f"{path}: {bad}") from None


def write_toml(path: Path, config: Any) -> None:
    """Write a dataclass as TOML that `read_toml` turns into an equal one (None is left out)."""
    write_text(path, tomli_w.dumps(to_dict(config)))


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain values: nested tables, lists for tuples, paths as text, no None."""
    return {
        field.name: _plain(value)
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) is not None
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.as_posix() if isinstance(value, Path) else value


def from_dict(cls: type[T], values: dict[str, Any], at: str = "") -> T:
    """Build the dataclass `cls` from plain values; `at` is the dotted path for messages."""
    hints = get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown setting {at}{key}.{nearest(key, known)}")
    try:
        return cls(**{k: _convert(hints[k], v, f"{at}{k}") for k, v in values.items()})
    except TypeError:
        required = [
            f"{at}{field.name}"
            for field in dataclasses.fields(cls)  # type: ignore[arg-type]
            if field.name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if not required:
            raise
        raise ConfigError(f"missing setting {', '.join(required)}.") from None


def refuse_not_finite(config: Any, at: str = "") -> None:
    """Refuse a dataclass with a number in it, or in one inside of it, that is infinite or none.

    at       the dotted path for messages
    raises   ConfigError
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            refuse_not_finite(value, f"{at}{field.name}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{at}{field.name} = {value} is not a finite number.")


def nearest(word: str, known: set[str]) -> str:
    """ " Did you mean ...?" for the closest known word, or the list of what there is."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" Did you mean {close[0]}?" if close else f" There are: {', '.join(sorted(known))}."


def _convert(kind: Any, value: Any, at: str) -> Any:
    """Check `value` against a field's type; tuples come as lists, dataclasses as tables."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        if value is None:
            return None
        for option in options[:-1]:
            try:
                return _convert(option, value, at)
            except ConfigError:
                continue
        return _convert(options[-1], value, at)
    if origin is Literal:
        if value not in get_args(kind):
            choices = ", ".join(repr(choice) for choice in get_args(kind))
            raise ConfigError(f"{at} = {value!r} is not one of {choices}.")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            inner = (inner[0],) * len(value)
        if len(inner) != len(value):
            raise ConfigError(f"{at} = {list(value)!r} does not have {len(inner)} items.")
        return tuple(_convert(inner[i], item, f"{at}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return from_dict(kind, value, f"{at}.")  # type: ignore[arg-type]
    return _scalar(kind, value, at)


def _scalar(kind: Any, value: Any, at: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    expected = get_origin(kind) or kind
    if not isinstance(expected, type) or not isinstance(value, expected):
        wrong = True
    else:
        wrong = isinstance(value, bool) and expected is not bool
    if wrong:
        name = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"{at} = {value!r} is not of type {name}.")
    return value
