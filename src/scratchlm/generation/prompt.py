"""From a text to the ids that a model goes on from."""

from scratchlm.base.errors import DataError
from scratchlm.base.log import say
from scratchlm.tokenizer.tokenizer import Tokenizer


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a prompt, behind a begin token where its maker puts one before every text.

    An empty one begins where documents begin, and says so.

    raises   DataError for a text that the tokenizer cannot write, or an empty one where no token
             stands for a beginning
    """
    begin = [tokenizer.bos_id] if tokenizer.begins and tokenizer.bos_id is not None else []
    if ids := tokenizer.encode(text):
        return [*begin, *ids]
    ids = beginning(tokenizer)
    say(f"the prompt is empty: starting from {tokenizer.decode(ids)!r}, as a new text does.")
    return ids


def beginning(tokenizer: Tokenizer) -> list[int]:
    """What stands before the first token of a document in the training data.

    Another tool's begin token; our own joint between documents, an end token or an empty line; any
    begin token; a line end or a space.
    """
    if (tokenizer.begins or tokenizer.kind == "foreign") and tokenizer.bos_id is not None:
        return [tokenizer.bos_id]
    if joint := tokenizer.joint():
        return joint
    if tokenizer.bos_id is not None:
        return [tokenizer.bos_id]
    for blank in "\n", " ":
        try:
            ids = tokenizer.encode(blank)
        except DataError:  # a character tokenizer that never met it
            continue
        if ids:
            return ids
    raise DataError(
        f"the prompt is empty, and this {tokenizer.kind} tokenizer has no token that begins a "
        "text. Give a prompt of at least one token."
    )
