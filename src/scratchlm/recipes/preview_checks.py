"""What must hold of the batches that a trainer gets, held against the batches themselves."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from scratchlm.base.progress import counted
from scratchlm.data.rows import IGNORE
from scratchlm.recipes.preview_facts import Amount, Check
from scratchlm.recipes.preview_rows import Stretch, amount_of
from scratchlm.tokenizer.show import visible
from scratchlm.tokenizer.tokenizer import Tokenizer

_SHOWN = 3  # places that a check names

END = "end token in the loss"
IDS = "ids below the vocabulary"
TYPE = "ids fit the shards' type"
SAME_TOKENIZER = "one tokenizer"
SAME_EXAMPLES = "examples of the run"
TARGETS = "no example without a target"
PADDING = "no loss on padding"
NOTHING_CUT = "nothing cut silently"
NEXT = "targets are the next tokens"
CLASS = "the class at the last token"


class Findings:
    """What was found in the batches that were looked at.

    end      the id that closes a text; None where there is none
    bound    ids and targets are below it
    """

    def __init__(self, end: int | None, bound: int) -> None:
        self.amount = Amount()
        self.batches: list[int] = []  # their numbers
        self.strangers: list[str] = []  # stretches that are no whole example
        self.n_ends = 0  # targets that are the end token
        self.n_next = 0  # targets that were compared with the token behind them
        self._end, self._bound = end, bound
        self._wrong: dict[str, list[str]] = defaultdict(list)

    def add(self, batch: int, rows: Sequence[Sequence[Stretch]]) -> None:
        """Look at a batch."""
        self.amount += amount_of(rows)
        self.batches.append(batch)
        for r, row in enumerate(rows, 1):
            where = f"row {r} of batch {batch}"
            if not any(one.learned.any() for one in row):
                self._wrong[TARGETS].append(where)
            for one in row:
                place = f"{where} ({one.place})" if one.place else where
                if one.padding:
                    self._look_at_padding(one, place)
                else:
                    self._look_at(one, place)

    def _look_at_padding(self, one: Stretch, place: str) -> None:
        if n := int(one.learned.sum()):
            self._wrong[PADDING].append(f"{place}: {n} of {len(one.targets)} have one")

    def _look_at(self, one: Stretch, place: str) -> None:
        self._look_at_ids(one, place)
        if not one.place:
            self.strangers.append(place)
        if one.label:
            return
        behind, asked = one.tokens[1:], one.targets[:-1]
        learned = asked != IGNORE
        self.n_next += int(learned.sum())
        if (other := np.flatnonzero(learned & (asked != behind))).size:
            at = int(other[0])
            self._wrong[NEXT].append(
                f"{place}: at position {at} the target is {asked[at]}, and {behind[at]} follows"
            )
        if one.closed and one.targets[-1] != IGNORE:
            self._wrong[NEXT].append(f"{place}: its last target is in the text behind it")
        if self._end is not None:
            self.n_ends += int((one.targets == self._end).sum())
            if ((behind == self._end) & ~learned).any():
                self._wrong[END].append(place)

    def _look_at_ids(self, one: Stretch, place: str) -> None:
        met = one.tokens if one.label else np.concatenate((one.tokens, one.targets[one.learned]))
        if met.size and (met.max() >= self._bound or met.min() < 0):
            worst = met.max() if met.max() >= self._bound else met.min()
            self._wrong[IDS].append(f"{place} has the id {worst}")

    def wrong(self, name: str) -> str:
        """Where something is wrong, in words; "" where nothing is."""
        return listed(self._wrong[name])

    def padding_check(self) -> Check:
        """No position of padding has a target."""
        wrong = self.wrong(PADDING)
        n = counted(self.amount.padding, "padded position")
        return Check(PADDING, not wrong, wrong or f"none of {n} has a target")

    def next_check(self) -> Check:
        """Each target is what stands behind its position, in the same text."""
        wrong = self.wrong(NEXT)
        n = counted(self.n_next, "target")
        return Check(NEXT, not wrong, wrong or f"{n} compared with the tokens of the same text")


def listed(places: Sequence[str]) -> str:
    """The first places, and how many more there are."""
    more = len(places) - _SHOWN
    return visible("; ".join(places[:_SHOWN])) + (f"; and {more:,} more" if more > 0 else "")


def tokenizer_check(tokenizer: Tokenizer, others: Sequence[tuple[str, str]]) -> Check:
    """Whether all that was made with a tokenizer was made with this one.

    others   (what it is, its SHA-256)
    """
    wrong = [f"{what} has {sha[:12]}" for what, sha in others if sha != tokenizer.hash]
    if wrong:
        said = f"{listed(wrong)}, and the tokenizer in use is {tokenizer.hash[:12]}: ids would mean"
        return Check(SAME_TOKENIZER, False, f"{said} other text. Prepare the text again.")
    if not others:
        return Check(SAME_TOKENIZER, None, "nothing was made with a tokenizer yet")
    return Check(SAME_TOKENIZER, True, f"{', '.join(what for what, _ in others)}: the same SHA-256")
