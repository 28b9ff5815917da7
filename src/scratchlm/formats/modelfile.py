"""A Modelfile for ollama: the weights' file, how messages are written, where an answer ends.

ollama's templates are Go's, the models' are Jinja's. One is made of the other by watching: the
Jinja template writes a few conversations, and what stands between the messages goes into Go's. The
result is held against a longer conversation; a template that is no such row of pieces is refused.
"""

from dataclasses import dataclass

from scratchlm.base.errors import ConfigError
from scratchlm.tokenizer.chat_template import ChatTemplate

_SYSTEM, _USER, _ANSWER, _NEXT = "\ue000", "\ue001", "\ue002", "\ue003"  # no template writes them


@dataclass(frozen=True)
class Pieces:
    """What stands before and behind each message, and the system message where none is given."""

    before_system: str
    behind_system: str
    before_user: str
    behind_user: str
    before_answer: str
    behind_answer: str
    default_system: str = ""

    def write(self, messages: list[dict[str, str]]) -> str:
        """A conversation that ends with a user's message, and the beginning of the answer."""
        around = {
            "system": (self.before_system, self.behind_system),
            "user": (self.before_user, self.behind_user),
            "assistant": (self.before_answer, self.behind_answer),
        }
        parts = [
            around[message["role"]][0] + message["content"] + around[message["role"]][1]
            for message in messages
        ]
        return "".join(parts) + self.before_answer


def pieces_of(template: ChatTemplate, bos: str) -> Pieces:
    """What a template puts around messages.

    bos      the begin token that ollama puts before everything by itself, or ""
    raises   ConfigError for a template that puts something else before different messages
    """
    system, user = _message("system", _SYSTEM), _message("user", _USER)
    answer, further = _message("assistant", _ANSWER), _message("user", _NEXT)

    def render(*messages: dict[str, str], prompt: bool) -> str:
        return template.render(messages, prompt=prompt).removeprefix(bos)

    asked = render(system, user, prompt=True)
    begin, _, rest = asked.partition(_SYSTEM)
    between, _, behind = rest.partition(_USER)
    _, _, behind_user = render(system, user, prompt=False).partition(_USER)
    _, _, behind_answer = render(system, user, answer, prompt=False).partition(_ANSWER)
    longer = render(system, user, answer, further, prompt=True)
    to_next = longer.partition(_ANSWER)[2].partition(_NEXT)[0]
    before_user = to_next.removeprefix(behind_answer)
    pieces = Pieces(
        before_system=begin,
        behind_system=between.removesuffix(before_user),
        before_user=before_user,
        behind_user=behind_user,
        before_answer=behind.removeprefix(behind_user),
        behind_answer=behind_answer,
        default_system=_default_system(render(user, prompt=True), begin, between),
    )
    if pieces.write([system, user, answer, further]) != longer:
        raise ConfigError(
            "this model's chat template is no row of messages with something before and behind "
            "each, so no Modelfile can be made of it. Export to gguf, which holds the template as "
            "it is."
        )
    return pieces


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _default_system(alone: str, begin: str, between: str) -> str:
    """The system message that a template writes when there is none."""
    head = alone.partition(_USER)[0]
    if begin and head.startswith(begin) and head.endswith(between):
        return head[len(begin) : len(head) - len(between)]
    return ""


def modelfile(file: str, context: int, pieces: Pieces | None, stops: list[str]) -> str:
    """The text of a Modelfile.

    file     name of the weights' file beside it
    pieces   None: a base model, which continues what is written
    stops    texts that end an answer
    """
    lines = [f"FROM ./{file}", f"PARAMETER num_ctx {context}"]
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    if pieces is None:
        return "\n".join([*lines, 'TEMPLATE """{{ .Prompt }}"""', ""])
    if pieces.default_system:
        lines.append(f"SYSTEM {_quoted(pieces.default_system)}")
    roles = [
        ('if eq .Role "system"', pieces.before_system, pieces.behind_system),
        ('else if eq .Role "user"', pieces.before_user, pieces.behind_user),
        ("else", pieces.before_answer, pieces.behind_answer),
    ]
    each = "".join(
        f"{{{{ {condition} }}}}{_go(before)}{{{{ .Content }}}}{_go(behind)}"
        for condition, before, behind in roles
    )
    whole = f"{{{{ range .Messages }}}}{each}{{{{ end }}}}{{{{ end }}}}{_go(pieces.before_answer)}"
    return "\n".join([*lines, f"TEMPLATE {_quoted(whole)}", ""])


def _go(text: str) -> str:
    """Text as Go's templates have it."""
    return text.replace("{{", '{{ "{{" }}')


def _quoted(text: str) -> str:
    if '"""' in text:
        raise ConfigError('a Modelfile cannot hold three quotation marks in a row ("""). ')
    return f'"""{text}"""'
