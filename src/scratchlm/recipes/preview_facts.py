"""What `preview` found, for a terminal, a page and a program to show."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

SplitName = Literal["train", "val"]


@dataclass(frozen=True)
class Piece:
    """The fewest ids that make whole characters.

    text      line ends and control characters as escapes
    learned   the loss asks for it
    special   a control token
    n_lines   line ends in it
    """

    text: str
    ids: tuple[int, ...]
    learned: bool
    special: bool = False
    n_lines: int = 0


@dataclass(frozen=True)
class Part:
    """Neighbours in a row that see each other: a text, an answer of a pair; or the padding.

    place      where the user finds it
    name       "chosen" or "rejected", of a pair; "padding"; "" otherwise
    pieces     none for padding; where the last target stands behind the part, its id is here too
    n_tokens   positions of the row
    n_learned  of them, those with a loss
    label      the class that is asked for at the last token; "" where none is
    """

    place: str
    name: str
    pieces: tuple[Piece, ...]
    n_tokens: int
    n_learned: int
    label: str = ""


@dataclass(frozen=True)
class ShownRow:
    """One row of the batch, from 1 on, with its parts from left to right."""

    number: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Amount:
    """Of rows: their positions hold tokens or padding.

    examples   conversations, pairs, texts or parts of texts that do not see each other
    learned    tokens that the loss asks for
    longest    example in tokens; both answers of a pair together
    """

    rows: int = 0
    examples: int = 0
    tokens: int = 0
    learned: int = 0
    padding: int = 0
    longest: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.rows + other.rows,
            self.examples + other.examples,
            self.tokens + other.tokens,
            self.learned + other.learned,
            self.padding + other.padding,
            max(self.longest, other.longest),
        )

    @property
    def learned_share(self) -> float:
        """Of the tokens."""
        return self.learned / self.tokens if self.tokens else 0.0

    @property
    def padding_share(self) -> float:
        """Of the positions."""
        positions = self.tokens + self.padding
        return self.padding / positions if positions else 0.0


@dataclass(frozen=True)
class Stock:
    """All that a split holds.

    examples   likewise documents
    learned    targets with a loss in an epoch; None where each epoch cuts the rows elsewhere
    longest    example or document in tokens
    long       places of examples that were longer than a row, and `on_long` what became of them:
               "drop", "cut"
    empty      places of examples that were left out since nothing in them is learned
    """

    examples: int
    tokens: int
    learned: int | None
    longest: int
    long: tuple[str, ...] = ()
    on_long: str = ""
    empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """The ids, and whose they are.

    n_ids        of the tokenizer
    model_ids    that the model has
    shards       SHA-256 of the tokenizer of each source of shards; () without shards
    """

    kind: str
    n_ids: int
    sha256: str
    model_ids: int
    shards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """What must hold before the first step.

    ok       None: it says nothing here, and `detail` why
    detail   how it was seen; or what is wrong, and where
    """

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Preview:
    """What the trainer gets, and whether it is as it must be.

    place      what was looked at
    method     "pretraining", or the method of fine-tuning
    batch      number of the micro-batch that is shown, from 0 on; `step`: the step it belongs to,
               from 1 on, in training
    n_batches  of an epoch; None for a mixture of sources
    rows       the first rows of that batch; `shown`: the amounts of all of it
    looked_at  amounts of `n_looked` batches, spread over the epoch, on which checks were made
    """

    place: str
    method: str
    split: SplitName
    batch: int
    step: int | None
    n_batches: int | None
    rows: tuple[ShownRow, ...]
    shown: Amount
    looked_at: Amount
    n_looked: int
    stock: Stock
    vocabulary: Vocabulary
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no check found anything wrong."""
        return all(check.ok is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {"ok": self.ok, **asdict(self)}
