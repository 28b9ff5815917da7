"""Continue a prompt: `scratchlm generate`."""

import sys
from pathlib import Path
from typing import TextIO

from scratchlm.base.errors import DataError
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request
from scratchlm.recipes.load import LanguageModel

_FILE = "FILE:"


def generate(
    model: LanguageModel,
    prompt: str = "",
    sampling: Sampling | None = None,
    *,
    n: int = 1,
    window: bool = False,
    echo: bool = True,
    out: TextIO | None = None,
) -> list[str]:
    """Write n continuations of a prompt; returns them, without the prompt.

    prompt     text; "-" reads standard input, "FILE:path" a file; "" starts a new text
    sampling   None: the defaults of `Sampling`
    n          1 is written as it comes; more are made together and written in numbered blocks
    window     use the last part of a prompt that is longer than the context
    echo       write the prompt before each continuation
    out        None: standard output
    raises     DataError for a prompt that cannot be read; ConfigError for one that is too long
    """
    out = out or sys.stdout
    text = read_prompt(prompt)
    request = Request(model.prompt_ids(text), sampling or Sampling(), n=n, window=window)
    shown = text if echo else ""
    if n == 1:
        return [_write_one(model, request, shown, out)]
    texts = [""] * n
    for token in model.engine.stream(request):
        texts[token.sample] += token.text
    for number, written in enumerate(texts, start=1):
        print(f"--- {number} of {n} ---\n{shown}{written}\n", file=out)
    return texts


def read_prompt(prompt: str) -> str:
    """The text that a prompt means: itself, standard input ("-") or a file ("FILE:path").

    One line end at the very end is dropped: editors and shells put it there.
    raises   DataError naming the file that is not there or not UTF-8
    """
    if prompt != "-" and not prompt.startswith(_FILE):
        return prompt
    place = "standard input" if prompt == "-" else prompt.removeprefix(_FILE)
    try:
        text = sys.stdin.read() if prompt == "-" else Path(place).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"the prompt {place} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"the prompt {place} is not UTF-8 at byte {error.start}: save it as UTF-8."
        ) from None
    return text.removesuffix("\n")


def _write_one(model: LanguageModel, request: Request, shown: str, out: TextIO) -> str:
    """Write a continuation as it comes, and a line end where it has none."""
    written = ""
    for token in model.engine.stream(request):  # refuses a bad request before anything is written
        print(shown + token.text, end="", flush=True, file=out)
        written, shown = written + token.text, ""
    if not written.endswith("\n"):
        print(file=out)
    return written
