"""Which chat template conversations are written by, and the tokenizer that it takes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scratchlm.base.errors import ConfigError
from scratchlm.base.log import say
from scratchlm.tokenizer.chat_presets import PRESETS, with_preset
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer

DEFAULT = "chatml"  # for models that have learned none


@dataclass(frozen=True)
class Speaker:
    """How a model writes conversations.

    template    of the tokenizer
    tokenizer   with the tokens that the template takes; the template is saved beside it
    n_new       tokens that the model does not have yet
    """

    template: ChatTemplate
    tokenizer: Tokenizer
    n_new: int = 0

    @classmethod
    def choose(cls, name: str, tokenizer: Tokenizer) -> "Speaker":
        """By name ("chatml", "alpaca"), by a Jinja file, or "auto": the model's own, else ChatML.

        raises   ConfigError for a file that is not there, CheckpointError for one that does not
                 parse
        """
        if name == "auto" and tokenizer.chat_template is not None:
            made = tokenizer
        elif name == "auto":
            say(f"the model has no chat template: it learns {DEFAULT}")
            made = with_preset(tokenizer, DEFAULT)
        elif name in PRESETS:
            made = with_preset(tokenizer, name)
        else:
            made = tokenizer.with_chat_template(_read(name))
        assert made.chat_template is not None
        template = ChatTemplate(made.chat_template, made)
        return cls(template, made, made.vocab_size - tokenizer.vocab_size)

    @cached_property
    def _ends(self) -> set[int | None]:
        return {*self.template.answer_end(), self.tokenizer.eos_id}

    def ends_answer(self, token: int) -> bool:
        """Whether an id ends an answer."""
        return token in self._ends


def _read(name: str) -> str:
    path = Path(name)
    if not path.is_file():
        known = ", ".join(("auto", *PRESETS))
        raise ConfigError(f"--template {name}: no such file, and not one of {known}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as bad:
        raise ConfigError(f"--template {name} is not UTF-8 at byte {bad.start}.") from None
