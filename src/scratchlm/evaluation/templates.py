"""The small template language of task files: text with fields of a record in it. It runs no code.

Question: {goal}       a field
{choices.text}         a field of a field; where it stands alone, it may be a list
{text|last_word}       changed by a filter; several filters follow each other
{{ }}                  braces
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from scratchlm.base.config import nearest
from scratchlm.base.errors import ConfigError, DataError

FILTERS: dict[str, Callable[[str], str]] = {
    "strip": str.strip,
    "capitalize": str.capitalize,
    "last_word": lambda text: text.split(" ")[-1],
    "but_last_word": lambda text: " ".join(text.split(" ")[:-1]),
}
_PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")
_FIELD = re.compile(r"\{([^{}|]+)((?:\|[^{}|]+)*)\}")


class Template:
    """One template.

    text     as it stands in the task file
    name     what messages call it: file and setting
    raises   ConfigError for braces that do not pair up, and an unknown filter
    """

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._parts: list[str | tuple[str, list[str]]] = []
        for part in filter(None, _PARTS.split(text)):
            if part in ("{{", "}}"):
                self._parts.append(part[0])
            elif found := _FIELD.fullmatch(part):
                self._parts.append((found[1], self._known(found[2].split("|")[1:])))
            elif part[0] in "{}":
                raise ConfigError(
                    f"{name} = {text!r}: {part!r} is no field. Write {{name}} for a field, and "
                    "{{ or }} for a brace."
                )
            else:
                self._parts.append(part)

    def _known(self, filters: list[str]) -> list[str]:
        for one in filters:
            if one not in FILTERS:
                raise ConfigError(f"{self._name}: unknown filter {one}.{nearest(one, {*FILTERS})}")
        return filters

    def render(self, values: Mapping[str, Any], place: str) -> str:
        """The text for one record, which stands at `place`.

        raises   DataError for a field that the record does not have, or that is no text
        """
        return "".join(
            part if isinstance(part, str) else self._text(*part, values, place)
            for part in self._parts
        )

    def value(self, values: Mapping[str, Any], place: str) -> Any:
        """As `render`, but a field that stands alone keeps its type: a number, a list."""
        if len(self._parts) == 1 and not isinstance(self._parts[0], str) and not self._parts[0][1]:
            return self._find(self._parts[0][0], values, place)
        return self.render(values, place)

    def _text(self, field: str, filters: list[str], values: Mapping[str, Any], place: str) -> str:
        found = self._find(field, values, place)
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise DataError(
                f"{place}: the field {field} is not text but {type(found).__name__}, and "
                f"{self._name} puts it into a text."
            )
        text = str(found)
        for one in filters:
            text = FILTERS[one](text)
        return text

    def _find(self, field: str, values: Mapping[str, Any], place: str) -> Any:
        found: Any = values
        for key in field.split("."):
            if isinstance(found, list):
                found = [self._find(key, one, place) for one in found]
                continue
            if not isinstance(found, Mapping) or key not in found:
                there = sorted(found) if isinstance(found, Mapping) else []
                raise DataError(
                    f"{place}: there is no field {field}, which {self._name} asks for."
                    f"{nearest(key, {*map(str, there)}) if there else ''}"
                )
            found = found[key]
        return found
