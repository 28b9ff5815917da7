"""Conversations as the text that a model was trained on: Jinja templates, as the hub has them.

A template comes with a model, so it is a stranger's program. It runs in Jinja's sandbox, where it
reaches no attribute of Python's, loops 100,000 times at most and multiplies no text to gigabytes.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.base.files import read_json
from scratchlm.tokenizer.tokenizer import Tokenizer

Messages = Sequence[dict[str, Any]]  # {"role": "user", "content": "..."}

TEMPLATE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"
_MOST_BYTES = 1 << 20  # the longest on the hub have under 20 kB
_MARK = "\ue000"  # a character that no template writes
_MOST_REPEATED = 1 << 20  # characters that a product of text and number may have


class ChatTemplate:
    """Writes a conversation out as a model has it.

    source      Jinja, as transformers reads it (`apply_chat_template`)
    tokenizer   whose begin and end tokens the template may name
    raises      CheckpointError for a template that does not parse
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        self.source = source
        self._tokenizer = tokenizer
        names = {i: name for name, i in tokenizer.special_tokens.items()}
        self._tokens = {
            f"{role}_token": names.get(getattr(tokenizer, f"{role}_id"), "")
            for role in ("bos", "eos", "pad", "unk")
        }
        try:
            self._template = _Sandbox().from_string(source)
        except (TemplateError, RecursionError) as bad:
            raise CheckpointError(f"the model's chat template does not parse: {bad}.") from None

    def render(self, messages: Messages, *, prompt: bool = True, **variables: Any) -> str:
        """The text of a conversation, control tokens by name.

        prompt      the beginning of the model's next answer follows
        variables   further ones that the template asks for, such as enable_thinking
        raises      DataError for messages that the template refuses
        """
        known = {**self._tokens, "tools": None, "documents": None}
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=prompt, **known, **variables
            )
        except Exception as bad:  # a stranger's program fails in any way
            reason = str(bad) or type(bad).__name__
            raise DataError(
                f"the model's chat template refuses this conversation: {reason}"
            ) from None

    def encode(self, messages: Messages, *, prompt: bool = True, **variables: Any) -> list[int]:
        """The ids of `render`."""
        text = self.render(messages, prompt=prompt, **variables)
        return self._tokenizer.encode(text, allowed_special=True)

    def answer_end(self) -> list[int]:
        """The control token that ends an answer, as a list; none where text does."""
        talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        try:
            _, _, behind = self.render(talk, prompt=False).partition(_MARK)
        except DataError:  # it does not take the shortest conversation
            return []
        ids = self._tokenizer.encode(behind, allowed_special=True)[:1]
        return [i for i in ids if i in self._tokenizer.special_tokens.values()]


def read_template(folder: Path) -> str | None:
    """The chat template of a model folder, where there is one.

    raises   CheckpointError for a file that is too long or not UTF-8
    """
    path = folder / TEMPLATE
    if path.is_file():
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path} has over {_MOST_BYTES} bytes: it is no chat template.")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as bad:
            raise CheckpointError(f"{path} is not UTF-8 at byte {bad.start}.") from None
    config = folder / _CONFIG
    values = read_json(config, CheckpointError) if config.is_file() else {}
    found = values.get("chat_template") if isinstance(values, dict) else None
    if isinstance(found, list):  # several by name
        named = [one for one in found if isinstance(one, dict) and one.get("name") == "default"]
        found = named[0].get("template") if named else None
    return found if isinstance(found, str) else None


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %}: bounds what the model wrote; the text is as is."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 has it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_as_is"), [], [], body).set_lineno(line)

    @staticmethod
    def _as_is(caller: Any) -> str:
        text: str = caller()
        return text


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up, without products that fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        loops = "jinja2.ext.loopcontrols"
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loops])
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(form)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or any(
            hasattr(one, "__len__") and isinstance(n, int) and len(one) * n > _MOST_REPEATED
            for one, n in ((left, right), (right, left))
        ):
            raise TemplateError("a product of it is too large")
        return super().call_binop(context, operator, left, right)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(reason: str) -> NoReturn:
    raise TemplateError(reason)
