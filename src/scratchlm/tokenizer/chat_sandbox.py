"""Jinja as chat templates have it: the environment of transformers, and what it refuses.

A template reaches no attribute of Python's (Jinja's sandbox). Whatever multiplies text is refused
beforehand where the product would be too large; how long a template may run, and how much memory
it may take by any other way, the system decides for the process that runs it (`chat_worker.py`).

Imports nothing of ours but errors, for that process starts with it.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST_TEXT = 1 << 24  # characters of a rendering, and of any text on the way to it
_PADDING = {"center", "ljust", "rjust", "zfill", "expandtabs"}
_TO_BYTES = {"encode", "to_bytes", "translate"}  # which would be looked after like text
_MULTIPLIES = ("center", "indent", "wordwrap", "batch", "slice", "tojson")
_WIDE = re.compile(r"\*|\d{7,}|\{[^{}]*\{")  # in a format: a width from elsewhere, or a large one


class Program:
    """A template that can be run.

    raises   TemplateError, or RecursionError, for a source that does not parse
    """

    def __init__(self, source: str) -> None:
        self._environment = _Environment()
        self._template = self._environment.from_string(source)

    def run(self, variables: dict[str, Any]) -> tuple[str, list[tuple[int, int]] | None]:
        """The text, and the characters that `{% generation %}` blocks wrote.

        The second is None where a block's text does not stand where it seemed to: in a macro, or
        under a filter.

        raises   whatever a stranger's program raises
        """
        tracked = self._environment.tracked = _Tracked()
        context = self._template.new_context(variables)
        pieces = []
        for piece in self._template.root_render_func(context):  # `render` rewrites tracebacks
            pieces.append(piece)
            tracked.written += len(piece)
            _check_size(tracked.written)
        text = "".join(pieces)
        found = all(text[at : at + len(part)] == part for at, part in tracked.blocks)
        return text, [(at, at + len(part)) for at, part in tracked.blocks] if found else None


class _Tracked:
    """How much is written, and where blocks of generation stand in it."""

    def __init__(self) -> None:
        self.written = 0
        self.blocks: list[tuple[int, str]] = []


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %}: bounds what the model wrote; the text is as is."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 has it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_track"), [], [], body).set_lineno(line)

    def _track(self, caller: Callable[[], str]) -> str:
        text = caller()
        tracked: _Tracked = self.environment.tracked  # type: ignore[attr-defined]
        tracked.blocks.append((tracked.written, text))
        return text


class _Generator(CodeGenerator):
    """Jinja's compiler, with a look at what `~` is about to join."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        join = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        if frame.eval_ctx.volatile:
            join = "(markup_join if context.eval_ctx.volatile else str_join)"
        self.write(f"{join}(environment.checked((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")


class _Environment(ImmutableSandboxedEnvironment):
    """What transformers sets up for chat templates (`_compile_jinja_template`), within sizes."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    code_generator_class = _Generator

    def __init__(self) -> None:
        loops = "jinja2.ext.loopcontrols"
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loops])
        self.tracked = _Tracked()
        self.filters["tojson"] = _to_json
        for name in (*_MULTIPLIES, "join", "replace", "format"):
            self.filters[name] = _guarded(name, self.filters[name])
        self.globals |= {
            "raise_exception": _refuse,
            "strftime_now": lambda form: datetime.now().strftime(form),
            "dict": lambda *args, **named: dict(*args, **named),  # no attributes, such as mro
            "namespace": _Namespace,
        }

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        return "".join(_Environment.checked(list(parts)))

    @staticmethod
    def checked(parts: Any) -> Any:
        """The same, once it is known that their texts are not too long together."""
        _check_size(sum(len(part) for part in parts if isinstance(part, str)))
        return parts

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise TemplateError("it raises a number to a power")
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check_size((len(left) + len(right)) * _weight(left))
        if operator == "*" and (hasattr(left, "__len__") or hasattr(right, "__len__")):
            _check_size(_size(left) * _size(right) * _weight(left, right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **named: Any) -> Any:
        method = getattr(obj, "__wrapped__", obj)  # Jinja wraps `format`
        if isinstance(method, BuiltinMethodType):
            _check_method(method.__self__, method.__name__, args, named)
        return super().call(context, obj, *args, **named)


class _Namespace(Namespace):
    """Jinja's namespace without names of Python's own."""

    def __init__(*args: Any, **named: Any) -> None:
        self, *values = args
        Namespace.__init__(self, *values, **named)
        for name in dict(*values, **named):
            _check_name(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name that begins with _, such as {name!r}")


def _check_size(n: int) -> None:
    if n > MOST_TEXT:
        raise TemplateError(f"it makes a text of over {MOST_TEXT} characters")


def _check_format(form: str) -> None:
    if _WIDE.search(form):
        raise TemplateError("it formats text to a width that is too large, or not written out")


def _check_method(value: Any, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Refuse a call of a built-in method whose result could be too long."""
    given = (*args, *named.values())
    if name in _TO_BYTES:
        raise TemplateError(f"it calls {name}")
    if not isinstance(value, str):
        return
    if name in _PADDING:
        widest = max([8, *(n for n in given if isinstance(n, int))])
        _check_size(widest * max(1, value.count("\t") if name == "expandtabs" else 1))
    elif name in ("format", "format_map"):
        _check_format(value)
    elif name == "replace" and len(given) > 1:
        _check_size(len(value) * max(1, _size(given[1])))
    elif name == "join" and given:
        _check_join(given[0], value)


def _check_join(parts: Any, between: Any) -> None:
    if hasattr(parts, "__len__"):
        total = sum(len(part) for part in parts if isinstance(part, str))
        _check_size(total + len(parts) * _size(between))


def _weight(*values: Any) -> int:
    """Bytes of an item; one of a list is an address, and may be a value of its own."""
    return 1 if any(isinstance(value, str) for value in values) else 16


def _size(value: Any) -> int:
    """A number itself; the length of what has one."""
    if isinstance(value, int):
        return abs(value)
    return len(value) if hasattr(value, "__len__") else 1


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that looks first at what it is given: the value, then how often or how wide."""
    context = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja's own, in front

    @functools.wraps(function)
    def checked(*args: Any, **named: Any) -> Any:
        given = (*args[context:], *named.values())
        if given and name == "join":
            value = given[0] if hasattr(given[0], "__len__") else list(given[0])
            args = (*args[:context], value, *args[context + 1 :])
            _check_join(value, given[1] if len(given) > 1 else "")
        elif given and name == "format":
            _check_format(str(given[0]))
        elif given and name == "replace":
            _check_size(_size(given[0]) * max(map(_size, given[2:]), default=1))
        elif name in _MULTIPLIES:
            most = max([1, *(_size(one) for one in given[1:] if isinstance(one, int | str))])
            _check_size(most * max(1, _size(given[0]) if given else 1))
        return function(*args, **named)

    return checked


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(reason: Any) -> NoReturn:
    raise TemplateError(reason)
