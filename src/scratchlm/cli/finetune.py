"""`finetune sft | classify | dpo | distill`: a model of yours learns to be useful."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from scratchlm.base.runtime import launch
from scratchlm.cli.command import INTERRUPTED, Command, Inline
from scratchlm.cli.pretrain import say_ending
from scratchlm.recipes.finetune import finetune
from scratchlm.recipes.finetune_config import (
    ClassifyConfig,
    DistillConfig,
    DpoConfig,
    FinetuneConfig,
    SftConfig,
)
from scratchlm.recipes.pretrain import Resume


@dataclass(frozen=True, kw_only=True)
class _Finetune(Command):
    """What the four verbs share; `settings` is what each adds."""

    out: Path  # the folder of the run
    resume: Resume = "auto"  # go on with the run in OUT if there is one; never; or it must be there
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is
    show: int = 3  # held-out questions that are answered before and after, and printed

    @classmethod
    def parse(cls, verb: str, words: list[str]) -> Self:
        """The model may stand first, as in all other verbs."""
        if words and not words[0].startswith("-"):
            words = ["--model", *words]
        return cls.from_words(verb, words)

    def settings_of(self) -> FinetuneConfig:
        """The settings of this method."""
        raise NotImplementedError

    def hint(self) -> str:
        """What to do with the model."""
        return f"scratchlm chat {self.out}"

    def run(self) -> None:
        """Fine-tune, tell how good it became, and print the path of the model folder."""
        result = finetune(
            self.settings_of(),
            self.out,
            resume=self.resume,
            device=self.device,
            show=self.show,
        )
        if result.interrupted:
            sys.exit(INTERRUPTED)
        say_ending(result, self.hint())
        if launch().rank == 0:
            print(result.model)


@dataclass(frozen=True, kw_only=True)
class Sft(_Finetune):
    """Teach a model to answer, from conversations: supervised fine-tuning.

    The files may be alpaca, ShareGPT, OpenAI messages, or prompts with completions, as JSON,
    JSON lines, CSV or Parquet: each record says by its keys what it is. The loss is on what the
    assistant wrote and on the end of each answer. `scratchlm preview` shows what is learned.

    Examples:
      scratchlm finetune sft runs/base --data instructions.json --out runs/chat
      scratchlm finetune sft smollm2 --data talks.jsonl --out runs/chat --lora --rank 16
      scratchlm chat runs/chat
    """

    settings: Annotated[SftConfig, Inline]

    def settings_of(self) -> FinetuneConfig:
        """Of sft."""
        return self.settings


@dataclass(frozen=True, kw_only=True)
class Classify(_Finetune):
    """Teach a model to tell classes of texts apart, from labelled texts.

    The files are tables or JSON lines with a text and a label; two columns without a header are
    understood. Accuracy on texts that were never looked at is told at the end, and OUT holds a
    confusion matrix as a picture. Use it with `scratchlm classify OUT "a text"`.

    Examples:
      scratchlm finetune classify runs/base --data SMSSpamCollection.tsv --out runs/spam
      scratchlm finetune classify smollm2 --data reviews.csv --out runs/stars --lora --test 0.2
      scratchlm classify runs/spam "WINNER!! Call now to claim your prize"
    """

    settings: Annotated[ClassifyConfig, Inline]

    def settings_of(self) -> FinetuneConfig:
        """Of classify."""
        return self.settings

    def hint(self) -> str:
        """What to do with the model."""
        return f'scratchlm classify {self.out} "a text"'


@dataclass(frozen=True, kw_only=True)
class Dpo(_Finetune):
    """Teach a model to prefer better answers, from pairs: direct preference optimisation.

    Records have a prompt, a chosen and a rejected answer, as texts or as messages. With --lora the
    model without its adapters is the reference, so that memory holds one model.

    Examples:
      scratchlm finetune dpo runs/chat --data preferences.json --out runs/better --lora
      scratchlm finetune dpo runs/chat --data p.jsonl --out runs/b --preference.variant ipo
    """

    settings: Annotated[DpoConfig, Inline]

    def settings_of(self) -> FinetuneConfig:
        """Of dpo."""
        return self.settings


@dataclass(frozen=True, kw_only=True)
class Distill(_Finetune):
    """Teach a small model what a larger one thinks: its probabilities of every next word.

    Both need the same tokenizer. The data are texts, or with --template conversations.

    Examples:
      scratchlm finetune distill runs/small --teacher runs/big --data docs/ --out runs/taught
    """

    settings: Annotated[DistillConfig, Inline]

    def settings_of(self) -> FinetuneConfig:
        """Of distill."""
        return self.settings
