"""Control tokens added to a tokenizer that was made without them."""

from collections.abc import Container, Sequence

from scratchlm.base.errors import ConfigError
from scratchlm.tokenizer.definition import Definition, Part


def added_token(i: int, name: str, *, special: bool) -> Part:
    """An entry of `added_tokens`: matched as it is, before anything else is done to the text."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": name, "special": special, **flags}


def with_added(
    definition: Definition, names: Sequence[str], first: int, words: Container[str]
) -> Definition:
    """A tokenizer.json with new control tokens.

    first    the id of the first of them
    words    the ordinary tokens, none of which can become one
    raises   ConfigError
    """
    for name in names:
        if not name or name != name.strip() or "\n" in name:
            raise ConfigError(
                f"{name!r} cannot be a control token: a name is not empty, and has no white space "
                "around it."
            )
        if name in words:
            raise ConfigError(
                f"{name!r} is an ordinary token of this tokenizer, so text has it. Choose a name "
                "that no text has, such as <|name|>."
            )
    new = [added_token(first + k, name, special=True) for k, name in enumerate(names)]
    return {**definition, "added_tokens": [*(definition.get("added_tokens") or []), *new]}
