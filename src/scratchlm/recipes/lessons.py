"""What a fine-tuning run learns from: files of examples, read, divided, encoded and checked."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.corpus.read import find_files, read_documents
from scratchlm.data.rows import IGNORE
from scratchlm.examples.conversations import (
    Conversation,
    Preference,
    read_conversations,
    read_preferences,
)
from scratchlm.examples.encode import (
    Example,
    Fitted,
    check,
    fit,
    of_conversation,
    of_label,
    of_preference,
    of_text,
)
from scratchlm.examples.labels import Labelled, label_names, read_labelled
from scratchlm.examples.split import Parts, split_examples
from scratchlm.recipes.finetune_config import (
    ClassifyConfig,
    DistillConfig,
    DpoConfig,
    FinetuneConfig,
    SftConfig,
)
from scratchlm.recipes.templates import Speaker
from scratchlm.tokenizer.tokenizer import Tokenizer

T = TypeVar("T", Conversation, Preference, Labelled)


@dataclass(frozen=True)
class Lesson:
    """Examples of a run, as ids.

    speaker       how conversations are written; None for labelled texts
    class_names   () where there are none
    held_out      conversations behind `validation`, whose answers are shown
    test          labelled texts that neither train nor validate
    fitted        what became of long examples, of training and validation; () for texts
    """

    tokenizer: Tokenizer
    train: list[Example]
    validation: list[Example]
    test: Sequence[Labelled] = ()
    speaker: Speaker | None = None
    class_names: tuple[str, ...] = ()
    held_out: Sequence[Conversation] = ()
    fitted: tuple[Fitted, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 of what is trained on and validated by, in hexadecimal."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for part in (self.train, self.validation):
            digest.update(len(part).to_bytes(8, "little"))
            for example in part:
                digest.update(example.tokens.tobytes() + example.targets.tobytes())
        return digest.hexdigest()


def make_lesson(config: FinetuneConfig, tokenizer: Tokenizer) -> Lesson:
    """Read the examples that a config names.

    config      with its `seq_len` set
    tokenizer   of the base, with its chat template
    raises    DataError naming file and line of a bad record; ConfigError for a template that is
              none
    """
    if not config.data:
        raise ConfigError("there is nothing to learn from: give --data FILE...")
    if isinstance(config, ClassifyConfig):
        return _of_labels(config, tokenizer)
    if isinstance(config, DistillConfig) and not config.template:
        return _of_texts(config, tokenizer)
    assert isinstance(config, SftConfig | DpoConfig | DistillConfig)
    speaker = Speaker.choose(config.template, tokenizer)
    if isinstance(config, DpoConfig):
        return _of_preferences(config, speaker)
    return _of_conversations(config, speaker)


def _of_conversations(config: SftConfig | DistillConfig, speaker: Speaker) -> Lesson:
    found = read_conversations(config.data, skip_bad=config.skip_bad, system=config.system)
    parts = split_examples(found, validation=config.validation, test=0.0, seed=config.train.seed)

    def encode(one: Conversation) -> Example:
        example = of_conversation(one, speaker.template)
        check(example, speaker.tokenizer.vocab_size, speaker.ends_answer)
        return example

    fitted = _encoded(config, parts, encode)
    train, validation = (one.examples for one in fitted)
    return Lesson(speaker.tokenizer, train, validation, (), speaker, (), parts.validation, fitted)


def _of_preferences(config: DpoConfig, speaker: Speaker) -> Lesson:
    found = read_preferences(config.data, skip_bad=config.skip_bad)
    parts = split_examples(found, validation=config.validation, test=0.0, seed=config.train.seed)
    template = speaker.template
    fitted = _encoded(config, parts, lambda one: of_preference(one, template))
    train, validation = (one.examples for one in fitted)
    prompts = [Conversation((*p.prompt, *p.chosen), p.place, p.form) for p in parts.validation]
    return Lesson(speaker.tokenizer, train, validation, (), speaker, (), prompts, fitted)


def _of_texts(config: DistillConfig, tokenizer: Tokenizer) -> Lesson:
    """Texts in rows of `seq_len`; the last rows of each text validate."""
    train: list[Example] = []
    validation: list[Example] = []
    for text, place in _whole_texts(config.data):
        rows = of_text(text, place, tokenizer, config.seq_len)
        n_train = len(rows) - round(config.validation * len(rows))
        train += rows[:n_train]
        validation += rows[n_train:]
    if not train:
        raise DataError(f"{config.data[0]} holds no text to learn from.")
    n = sum(map(len, train))
    say(f"text: {n:,} tokens to train on, in {len(train):,} rows")
    return Lesson(tokenizer, train, validation)


def _whole_texts(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Each text of files and folders, and where it stands."""
    pieces: list[str] = []
    for document in read_documents(find_files(paths)):
        pieces.append(document.text)
        if document.ends:
            yield "".join(pieces), document.place
            pieces = []


def _of_labels(config: ClassifyConfig, tokenizer: Tokenizer) -> Lesson:
    found = read_labelled(
        config.data,
        text_column=config.text_column,
        label_column=config.label_column,
        skip_bad=config.skip_bad,
    )
    class_names = label_names(found)
    number = {name: i for i, name in enumerate(class_names)}
    parts = split_examples(
        found,
        validation=config.validation,
        test=config.test,
        seed=config.train.seed,
        balanced=config.balanced,
    )

    def encode(item: Labelled) -> Example:
        return of_label(item, number[item.label], tokenizer)

    fitted = _encoded(config, parts, encode)
    train, validation = (one.examples for one in fitted)
    return Lesson(tokenizer, train, validation, parts.test, None, tuple(class_names), (), fitted)


def _encoded(
    config: FinetuneConfig, parts: Parts[T], encode: Callable[[T], Example]
) -> tuple[Fitted, Fitted]:
    """The training and the validation part as ids."""
    fitted = _fitted(config, parts.train, encode, "learn from")
    held_out = Fitted([], config.long, config.seq_len)
    if parts.validation:
        held_out = _fitted(config, parts.validation, encode, "validate by")
    train, validation = fitted.examples, held_out.examples
    n = sum(map(len, train))
    learned = sum(int((one.targets != IGNORE).sum()) for one in train)
    say(
        f"examples: {len(train):,} to train on, {len(validation):,} to validate by; {n:,} tokens, "
        f"of which {learned:,} are learned; the longest has {max(map(len, train)):,}"
    )
    return fitted, held_out


def _fitted(
    config: FinetuneConfig, items: Sequence[T], encode: Callable[[T], Example], purpose: str
) -> Fitted:
    with Progress("encoding examples", len(items), unit="examples") as progress:

        def encoded() -> Iterator[Example]:
            for i, item in enumerate(items, 1):
                yield encode(item)
                progress.update(i)

        fitted = fit(encoded(), config.seq_len, config.long, purpose)
    fitted.report()
    return fitted
