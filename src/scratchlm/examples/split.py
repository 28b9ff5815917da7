"""Examples to three parts: to train on, to watch the training by, and to test at the end.

A hash of the seed and of what an example asks decides, so that the parts do not depend on the order
of the records, are the same on every machine, and never share a question: the same text in other
case or spacing is the same, and lies in one part with all its copies.

Examples without labels (conversations, preferences): the hash, as a number from 0 to 1, says it
alone. Below `test` is the test part, below `test + validation` validation. Adding and removing
others moves none; the sizes are right within chance, sqrt(n * share) or less.

Examples with labels: within each label, the texts are sorted by their hashes, and the first `test`
of them are the test part, the next `validation`, the rest train. Each label is divided alike,
within half an example, or half of the copies of the text at the cut. Adding records moves only
examples of the same label next to the two cuts, where validation lies between the others: nothing
that was trained on gets into the test until a label has grown by validation / test of its size
(with equal shares: doubled).
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.log import say, warn
from scratchlm.examples.conversations import Conversation, Preference
from scratchlm.examples.labels import Labelled
from scratchlm.examples.messages import Message

_NAMES = ("train", "validation", "test")
_SEEDS = 100  # that are tried, where a part is empty
_SHOWN = 5  # classes in a message

T = TypeVar("T", bound=Conversation | Preference | Labelled)


@dataclass(frozen=True)
class Parts(Generic[T]):
    """Three lists, each in the order in which the examples were given; no text is in two."""

    train: list[T]
    validation: list[T]
    test: list[T]


def content_of(example: Conversation | Preference | Labelled) -> str:
    """What must not lie in two parts: the text, or what is asked before the first answer.

    System messages do not count, nor do case and spaces.
    """
    if isinstance(example, Labelled):
        return _plain(example.text)
    messages = example.messages if isinstance(example, Conversation) else example.prompt
    return json.dumps([_plain(message["content"]) for message in _asked(messages)])


def _asked(messages: Sequence[Message]) -> Iterable[Message]:
    for message in messages:
        if message["role"] == "assistant":
            return
        if message["role"] != "system":
            yield message


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def split_examples(
    examples: Sequence[T],
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    key: Callable[[T], str] = content_of,
    balanced: bool = False,
) -> Parts[T]:
    """Divide examples, as the beginning of this module says.

    validation, test   shares from 0 to 1; 0: that part is empty
    key                examples of which it is equal lie in one part
    balanced           of training examples with labels, leave out those of the last hashes until
                       every class has as many as the smallest; the other parts stay
    raises             ConfigError for shares that cannot be; DataError where a part would be empty,
                       or a class have no example to train on
    """
    _check_shares(validation, test)
    keys = [key(example) for example in examples]
    places = {one: _place(seed, one) for one in keys}
    labels_of = [example.label for example in examples if isinstance(example, Labelled)]
    if balanced and not labels_of:
        raise ConfigError("balanced is for examples with labels, and these have none.")
    if len(labels_of) == len(examples):
        part_of = _by_rank(keys, labels_of, places, validation, test)
    else:
        part_of = {one: _part(place, validation, test) for one, place in places.items()}
    parts: Parts[T] = Parts([], [], [])
    for example, one in zip(examples, keys):
        getattr(parts, part_of[one]).append(example)
    shares = {"train": 1.0, "validation": validation, "test": test}
    for name in _NAMES:
        if shares[name] and not getattr(parts, name):
            cure = "" if labels_of else _other_seed(set(keys), validation, test)
            raise DataError(
                f"the part {name} would be empty, of {len(places):,} different examples with the "
                f"shares validation = {validation:g} and test = {test:g}. Give more examples, a "
                f"larger share, or 0 for no such part{cure}."
            )
    if labels_of:
        _check_classes(parts)
    if not balanced:
        return parts
    return Parts(_balanced(parts.train, key, places), parts.validation, parts.test)


def _check_shares(validation: float, test: float) -> None:
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise ConfigError(f"{name} = {share} is no share. Use a number from 0 to below 1.")
    if validation + test >= 1:
        raise ConfigError(
            f"validation = {validation} and test = {test} leave nothing to train on: their sum "
            "must be below 1."
        )


def _place(seed: int, key: str) -> float:
    """A number in [0, 1) that is as good as random, the same on every machine."""
    text = f"{seed}\0{key}".encode("utf-8", "surrogatepass")
    n_bits = 53  # of a float
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - n_bits)) / (1 << n_bits)


def _part(place: float, validation: float, test: float) -> str:
    """The part at a place from 0 to 1."""
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def _by_rank(
    keys: Sequence[str],
    labels_of: Sequence[str],
    places: dict[str, float],
    validation: float,
    test: float,
) -> dict[str, str]:
    """The part of each key; within each label, by where the middle of its copies ranks."""
    n_copies = Counter(keys)
    label_of: dict[str, str] = {}
    for one, label in zip(keys, labels_of):  # of a text with several labels, the first by name
        label_of[one] = min(label, label_of.get(one, label))
    members = defaultdict(list)
    for one, label in label_of.items():
        members[label].append(one)
    part_of = {}
    for ones in members.values():
        total, before = sum(n_copies[one] for one in ones), 0
        for one in sorted(ones, key=lambda one: (places[one], one)):
            middle = before + n_copies[one] / 2
            part_of[one] = _part(middle / total, validation, test)
            before += n_copies[one]
    return part_of


def _other_seed(keys: set[str], validation: float, test: float) -> str:
    """What to say of the first seed with which no part is empty."""
    wanted = {"train", *(["validation"] if validation else []), *(["test"] if test else [])}
    for seed in range(_SEEDS):
        if {_part(_place(seed, one), validation, test) for one in keys} >= wanted:
            return f"; or set seed = {seed}, with which none is"
    return ""


def _check_classes(parts: Parts[T]) -> None:
    """Refuse a class without training examples; say which have none in the other parts."""
    counts = {name: _counts(getattr(parts, name)) for name in _NAMES}
    classes = set().union(*counts.values())
    for name in _NAMES:
        missing = sorted(classes - counts[name].keys())
        if not missing or not counts[name]:
            continue
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        if name == "train":
            raise DataError(
                f"there is no example to train on of {shown}. Give more of each class, or set "
                "smaller shares."
            )
        warn(f"classes without an example in the part {name}: {len(missing):,} ({shown}).")


def _counts(examples: Sequence[T]) -> Counter[str]:
    return Counter(example.label for example in examples if isinstance(example, Labelled))


def _balanced(examples: Sequence[T], key: Callable[[T], str], places: dict[str, float]) -> list[T]:
    """As many of each class as the smallest has, in their order."""
    counts = _counts(examples)
    n_each = min(counts.values())
    kept: set[int] = set()
    left = dict.fromkeys(counts, n_each)
    for i in sorted(range(len(examples)), key=lambda i: (places[key(examples[i])], i)):
        example = examples[i]
        if isinstance(example, Labelled) and left[example.label]:
            left[example.label] -= 1
            kept.add(i)
    n_left_out = len(examples) - len(kept)
    say(f"Balanced: {n_each:,} examples of each class to train on, {n_left_out:,} left out.")
    return [example for i, example in enumerate(examples) if i in kept]
