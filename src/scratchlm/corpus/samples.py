"""For each rule the worst texts that it kept and the best that it dropped: what to judge it by."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from scratchlm.cleaning.quality import Judgement
from scratchlm.corpus.read import Document

N_SAMPLES = 5  # shown of each rule and side
_HELD = 4 * N_SAMPLES  # of those that were kept, since later steps drop some of them
_EXCERPT = 400  # characters


@dataclass(frozen=True, order=True, slots=True)
class Sample:
    """A text near the limit of a rule.

    score    see `Finding`: above 1 it was dropped
    number   among the documents that this pass kept; -1: dropped
    """

    score: float
    id: str
    source: str
    excerpt: str
    limit: float
    language: str
    number: int


def excerpt(text: str) -> str:
    """The beginning of a text, as far as a reader needs it."""
    text = text.strip()
    return text if len(text) <= _EXCERPT else text[:_EXCERPT].rstrip() + " \u2026"


class Samples:
    """The texts nearest to each rule's limit, from either side.

    kept, dropped   by rule: heaps, the first is the one to give way
    """

    def __init__(self) -> None:
        self.kept: dict[str, list[tuple[float, Sample]]] = {}
        self.dropped: dict[str, list[tuple[float, Sample]]] = {}

    def see(self, document: Document, judged: Judgement, language: str, number: int) -> None:
        """Look at a document and what the rules found; `number` as in `Sample`."""
        for found in judged.findings[-1:] if judged.reason else judged.findings:
            heaps, sign = (self.dropped, -1.0) if found.drops else (self.kept, 1.0)
            heap = heaps.setdefault(found.rule, [])
            if len(heap) == _HELD and sign * found.score < heap[0][0]:
                continue
            text = excerpt(document.text)
            facts = (document.id, document.source, text, found.limit, language)
            self._add(heap, sign, Sample(found.score, *facts, number))

    @staticmethod
    def _add(heap: list[tuple[float, Sample]], sign: float, sample: Sample) -> None:
        heapq.heappush(heap, (sign * sample.score, sample))
        if len(heap) > _HELD:
            heapq.heappop(heap)

    def add(self, values: dict[str, Any], first: int) -> None:
        """Take in what another's `as_json` gave; `first` is added to its numbers."""
        for heaps, name, sign in ((self.kept, "kept", 1.0), (self.dropped, "dropped", -1.0)):
            for rule, samples in values[name].items():
                for one in samples:
                    number = one["number"] + first if one["number"] >= 0 else -1
                    sample = Sample(**{**one, "number": number})
                    self._add(heaps.setdefault(rule, []), sign, sample)

    def as_json(self) -> dict[str, Any]:
        """For files: the best first."""
        return {
            name: {rule: [asdict(one) for one in best_first(heap)] for rule, heap in heaps.items()}
            for name, heaps in (("kept", self.kept), ("dropped", self.dropped))
        }


def best_first(heap: Iterable[tuple[float, Sample]]) -> Iterator[Sample]:
    """The samples of a heap, those nearest to the limit first; of equals the first by name."""
    return (sample for _, sample in sorted(heap, key=lambda one: (-one[0], one[1].id)))
