"""Evaluation texts that a model was trained on: the exam held against the shards of the run.

What counts as an overlap is what `cleaning/overlap.py` takes for one before training: a run of 13
words (8 in sets of short texts) or of 20 Han or kana characters, without punctuation and capitals
(arXiv:2005.14165, appendix C). Here the evaluation texts are the small side and make the index;
the training text streams by once, however many sets are asked about.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from scratchlm.base.errors import DataError
from scratchlm.base.files import MANIFEST, read_json, sha256_of
from scratchlm.base.progress import Progress
from scratchlm.cleaning.overlap import Benchmarks
from scratchlm.data.shards import Split, is_shards_folder, open_shards
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.words import SEGMENTERS

EXAMPLES = 20  # of a set, the longest
_BLOCK = 1 << 17  # characters of small documents that are searched at once: 13 times the speed
_SLICE = 1 << 18  # tokens of a long document that are decoded at a time
_LAP = 1 << 10  # tokens that two slices share: more than a run has in any tokenizer

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Passage:
    """A document of the training text, or a part of a long one, and where it lies."""

    place: str
    text: str


@dataclass(frozen=True)
class SharedText:
    """Words that the training text shares with an evaluation item; as the training text has them.

    item    number of the item, from 0
    place   the shard and its document
    """

    item: int
    place: str
    text: str


@dataclass(frozen=True)
class Overlap:
    """What one evaluation set shares with the training text.

    n_items         texts of the set
    shares          by number of the item: the share of its runs that the training text has; who is
                    not in it has none. None: there was no training text to search
    n_too_short     items that are shorter than a run, of which nothing can be said
    run_lengths     words (or Han and kana) of a run in this set
    n_documents     training documents, or slices of long ones, that hold a run of it
    searched        the folders whose text was read
    not_searched    what the model was trained on beside, and why it was not read
    """

    n_items: int
    shares: dict[int, float] | None
    n_too_short: int = 0
    run_lengths: tuple[int, ...] = ()
    n_documents: int = 0
    examples: tuple[SharedText, ...] = ()
    searched: tuple[str, ...] = ()
    not_searched: tuple[str, ...] = ()

    @property
    def found(self) -> frozenset[int] | None:
        """The items that share a run with the training text; None where nothing was searched."""
        return None if self.shares is None else frozenset(self.shares)

    @property
    def n_found(self) -> int | None:
        """How many these are."""
        return None if self.shares is None else len(self.shares)


@dataclass(frozen=True)
class TrainingText:
    """What is left of the text that a model was trained on.

    shards     folders that are what the run read
    examples   files and folders of its fine-tuning, of which it has learned a part
    missing    what it read beside, with the reason why that is not at hand
    """

    shards: tuple[Path, ...] = ()
    examples: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def training_overlap(
    texts: Sequence[str], folder: Path | str, examples: Iterable[Passage] | None = None
) -> Overlap:
    """What evaluation texts share with what a model was trained on.

    texts     each an item as one text: question and answers
    folder    a run, its model or one of its checkpoints; another folder has no text at hand
    examples  what a fine-tuning has learned of the files that `find_training_text` names, since who
              splits them knows; None: they are not searched, which the result says
    raises    DataError for shards that are damaged
    """
    return training_overlaps({"": texts}, folder, examples)[""]


def training_overlaps(
    sets: Mapping[str, Sequence[str]],
    folder: Path | str,
    examples: Iterable[Passage] | None = None,
) -> dict[str, Overlap]:
    """`training_overlap` of several sets by name: the training text is read once for all."""
    training = find_training_text(Path(folder))
    splits = [(path, open_shards(path, "train", verify=False)) for path in training.shards]
    search = _Search(sets)
    for passage in examples or ():
        search.add(passage)
    with Progress(
        "comparing with the training text", sum(s.n_tokens for _, s in splits), "tokens"
    ) as progress:
        for path, split in splits:
            for passage in passages(split, Tokenizer.load(path), progress):
                search.add(passage)
    searched, missing = [path.as_posix() for path in training.shards], list(training.missing)
    if examples is not None:
        searched += training.examples
    else:
        missing += [f"{name}, examples of a fine-tuning" for name in training.examples]
    return search.results(tuple(searched), tuple(missing))


def find_training_text(folder: Path) -> TrainingText:
    """The shards that a model was trained on, those of the models it began from included.

    folder    a run, its model or one of its checkpoints
    returns   shards that are still what the run read, by the checksum in its run.json
    """
    found = TrainingText()
    seen: set[Path] = set()
    at: Path | None = folder
    while at is not None and at.resolve() not in seen:
        seen.add(at.resolve())
        more, at = _read_run(at)
        found = TrainingText(
            _united(found.shards, more.shards),
            _united(found.examples, more.examples),
            _united(found.missing, more.missing),
        )
    return found


def _united(some: tuple[_Item, ...], others: tuple[_Item, ...]) -> tuple[_Item, ...]:
    return tuple(dict.fromkeys((*some, *others)))


def _read_run(folder: Path) -> tuple[TrainingText, Path | None]:
    """What a run has read, and the model that it began from, if from any."""
    run = _run_of(folder)
    if run is None:
        unknown = (
            f"{folder} is not in the folder of a run of scratchlm (there is no run.json), so what "
            "it was trained on is not known"
        )
        return TrainingText(missing=(unknown,)), None
    facts = read_json(run / "run.json")
    data = facts.get("data") if isinstance(facts, dict) else None
    if not isinstance(data, dict):
        raise DataError(f"{run / 'run.json'} does not name the run's data: it was damaged.")
    before = facts.get("init") or facts.get("base")  # of a pretraining, of a fine-tuning
    origin = Path(before) if isinstance(before, str) else None
    if "base" in facts:
        return TrainingText(examples=tuple(data)), origin
    places = {name: _same_shards(run, name, sha256) for name, sha256 in data.items()}
    gone = [
        f"{name}, which {run} has read, is gone, moved or not the same"
        for name, place in places.items()
        if place is None
    ]
    return TrainingText(tuple(filter(None, places.values())), missing=tuple(gone)), origin


def _run_of(folder: Path) -> Path | None:
    """The run that a folder is, or is the model or a checkpoint of."""
    folder = folder.resolve()
    inside = [folder]
    if folder.name == "model":
        inside.append(folder.parent)
    if folder.parent.name == "checkpoints":
        inside.append(folder.parent.parent)
    return next((place for place in inside if (place / "run.json").is_file()), None)


def _same_shards(run: Path, name: str, sha256: object) -> Path | None:
    """The folder of shards that a run calls `name`, there or where it would be in a moved run."""
    for place in (Path(name), run / Path(name).name, run.parent / Path(name).name):
        if place.is_dir() and is_shards_folder(place) and sha256_of(place / MANIFEST) == sha256:
            return place
    return None


def passages(split: Split, tokenizer: Tokenizer, progress: Progress) -> Iterator[Passage]:
    """The documents of a split as text, without control tokens; long ones in slices that overlap.

    progress   advanced by the tokens that were decoded
    """
    decode = _decoder(tokenizer)
    starts = np.cumsum([0, *(shard.header.n_documents for shard in split.shards)])
    for number in range(split.n_documents):
        start, stop = split.document_span(number)
        shard = int(np.searchsorted(starts, number, side="right")) - 1
        path = split.shards[shard].path
        place = f"{path.as_posix()}, document {number - starts[shard] + 1}"
        for at in range(start, stop, _SLICE):
            ids = split.read(at, min(at + _SLICE + _LAP, stop))
            yield Passage(place, decode(ids))
            progress.advance(min(_SLICE, stop - at))


class _decoder:
    """Ids to text at 80 MB/s; `Tokenizer.decode` takes each id by itself."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pieces = tokenizer.pieces()
        self._control = list(tokenizer.special_tokens.values())
        for token in self._control:
            self._pieces[token] = b""
        self._has_gaps = tokenizer.kind in SEGMENTERS  # between words, which pieces do not hold

    def __call__(self, ids: np.ndarray) -> str:
        if self._has_gaps:
            return self._tokenizer.decode(ids.tolist(), skip_special=True)
        return b"".join(map(self._pieces.__getitem__, ids.tolist())).decode("utf-8", "replace")


@dataclass
class _Set:
    """One evaluation set: its runs, which items have them, and what was met.

    hashes    (r,) uint64, ascending: all its runs
    runs      (m,) places in `hashes`, beside `items` (m,): the runs of each item, item after item
    """

    benchmarks: Benchmarks
    n_items: int
    hashes: np.ndarray
    runs: np.ndarray
    items: np.ndarray
    seen: np.ndarray
    n_documents: int = 0
    examples: list[tuple[int, int, SharedText]] = field(default_factory=list)  # a heap

    @classmethod
    def collect(cls, name: str, texts: Sequence[str]) -> "_Set":
        benchmarks = Benchmarks.collect({name: texts})
        of_items = [benchmarks.runs_in(text) for text in texts] or [np.zeros(0, np.uint64)]
        hashes, runs = np.unique(np.concatenate(of_items), return_inverse=True)
        items = np.repeat(np.arange(len(of_items)), [len(found) for found in of_items])
        return cls(benchmarks, len(texts), hashes, runs, items, np.zeros(len(hashes), bool))

    def meet(self, passage: Passage, met: np.ndarray) -> None:
        """Note which of a passage's runs are the set's; `met` (n,) uint64 are those of any set."""
        known = self._places(met)
        if not len(known):
            return
        self.n_documents += 1
        if self.seen[known].all():
            return
        self.seen[known] = True
        for match in self.benchmarks.find(passage.text):
            runs = self._places(self.benchmarks.runs_in(match.text))
            item = int(self.items[np.isin(self.runs, runs)].min())
            entry = (len(match.text), -item, SharedText(item, passage.place, match.text))
            if all(entry[:2] != other[:2] for other in self.examples):
                push = heapq.heappush if len(self.examples) < EXAMPLES else heapq.heappushpop
                push(self.examples, entry)

    def _places(self, hashes: np.ndarray) -> np.ndarray:
        """Where in `self.hashes` those of `hashes` are that it has."""
        if not len(self.hashes):
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return at[self.hashes[at] == hashes]

    def shares(self) -> dict[int, float]:
        """The share of runs that were met, of each item that has such."""
        n_runs = np.bincount(self.items, minlength=self.n_items)
        n_met = np.bincount(self.items, self.seen[self.runs], minlength=self.n_items)
        return {int(item): float(n_met[item] / n_runs[item]) for item in np.flatnonzero(n_met)}


class _Search:
    """Passages against all sets; small ones are joined until they make a block."""

    def __init__(self, sets: Mapping[str, Sequence[str]]) -> None:
        self._sets = {name: _Set.collect(name, texts) for name, texts in sets.items()}
        self._all = Benchmarks.collect(sets)
        self._block: list[Passage] = []
        self._n_chars = 0
        self._n_passages = 0

    def add(self, passage: Passage) -> None:
        """Take one more passage."""
        self._n_passages += 1
        self._block.append(passage)
        self._n_chars += len(passage.text)
        if self._n_chars >= _BLOCK:
            self._search_block()

    def _search_block(self) -> None:
        """Search a block at once; only where it holds something, each passage by itself.

        What seems to be a run across the border of two passages is found in neither of them.
        """
        text = "\n".join(passage.text for passage in self._block)
        if len(self._all.runs_in(text)):
            for passage in self._block:
                met = self._all.runs_in(passage.text)
                if len(met):
                    for one in self._sets.values():
                        one.meet(passage, met)
        self._block, self._n_chars = [], 0

    def results(
        self, searched: tuple[str, ...], not_searched: tuple[str, ...]
    ) -> dict[str, Overlap]:
        """What was found, by set."""
        self._search_block()
        return {
            name: Overlap(
                n_items=one.n_items,
                shares=one.shares() if self._n_passages else None,
                n_too_short=one.benchmarks.n_too_short[name],
                run_lengths=tuple(sorted(length for _, length in one.benchmarks.runs)),
                n_documents=one.n_documents,
                examples=tuple(shared for *_, shared in sorted(one.examples, reverse=True)),
                searched=searched,
                not_searched=not_searched,
            )
            for name, one in self._sets.items()
        }
