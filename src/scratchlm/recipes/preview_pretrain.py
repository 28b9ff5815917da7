"""What pretraining gets: rows of shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratchlm.base.errors import DataError
from scratchlm.base.files import read_manifest
from scratchlm.base.progress import counted
from scratchlm.data.loader import DataConfig, Loader, open_splits
from scratchlm.data.rows import make_rows
from scratchlm.data.shards import FORMAT, VERSION, Split
from scratchlm.recipes.preview_checks import (
    END,
    IDS,
    NOTHING_CUT,
    TARGETS,
    TYPE,
    Findings,
    listed,
    tokenizer_check,
)
from scratchlm.recipes.preview_facts import Check, SplitName, Stock, Vocabulary
from scratchlm.recipes.preview_rows import Stretch, borders
from scratchlm.recipes.run_config import RunConfig
from scratchlm.tokenizer.tokenizer import Tokenizer

_MOST_IDS = 200_000_000  # that are read for the highest one: a second or two
_MOST_ENDS = 2_000  # documents whose last token is read


class ShardRows:
    """Batches of pretraining, as stretches of text, and what must hold of their shards.

    config       of the run
    data         with shards that exist
    tokenizer    of the run; the shards' own may be another, which a check says
    made_with    (what, SHA-256 of its tokenizer) of what else the run has
    name         what the only source is called; "": as its folder
    raises       DataError for shards that are damaged
    """

    method = "pretraining"

    def __init__(
        self,
        config: RunConfig,
        data: DataConfig,
        tokenizer: Tokenizer,
        split: SplitName,
        made_with: Sequence[tuple[str, str]] = (),
        name: str = "",
    ) -> None:
        self.tokenizer, self._data, self._split, self._made_with = tokenizer, data, split, made_with
        self._train = split == "train"
        self._names = [name or str(source.path / split) for source in data.sources]
        self._splits = open_splits(data, split, verify=False)
        batch_size = self._batch_size = config.train.micro_batch
        self._loader = Loader(self._splits, data, batch_size, train=self._train)
        self.n_batches = self._loader.n_batches
        self.horizon = self.n_batches or max(1, config.train.steps * config.train.accumulate)
        self.accumulate = config.train.accumulate
        self._model_ids = config.model.vocab_size or tokenizer.vocab_size
        self._lengths = [_RowLengths(one, data, self._train) for one in self._splits]

    def rows(self, n: int) -> list[list[Stretch]]:
        """Batch n as the trainer gets it."""
        batch, T = self._loader.batch(n), self._data.seq_len
        rows = []
        for r, (k, epoch, i) in enumerate(self._loader.places(n)):
            place = f"{self._names[k]}, row {i:,}"
            place += "" if epoch is None else f" of epoch {epoch}"
            tokens, targets = batch.tokens[r].numpy(), batch.targets[r].numpy()
            stop = self._lengths[k].of(i)
            whole = np.zeros(stop) if batch.segments is None else batch.segments[r, :stop].numpy()
            row = [
                Stretch(
                    tokens[at],
                    targets[at],
                    place,
                    closed=at.stop < stop,
                )
                for at in borders(whole)
            ]
            if stop < T:
                row.append(Stretch(tokens[stop:], targets[stop:], padding=True))
            rows.append(row)
        return rows

    def findings(self) -> Findings:
        """An account of batches, to be filled."""
        return Findings(self.tokenizer.eos_id, self._model_ids)

    def stock(self) -> Stock:
        """All documents of the split."""
        longest = max(int(one.document_lengths().max(initial=0)) for one in self._splits)
        n_documents = sum(one.n_documents for one in self._splits)
        return Stock(n_documents, sum(one.n_tokens for one in self._splits), None, longest)

    def vocabulary(self) -> Vocabulary:
        """Of tokenizer, shards and model."""
        own = self.tokenizer
        shards = tuple(one.tokenizer_hash for one in self._splits)
        return Vocabulary(own.kind, own.vocab_size, own.hash, self._model_ids, shards)

    def checks(self, found: Findings) -> list[Check]:
        """What must hold before the first step."""
        shards = [(name, one.tokenizer_hash) for name, one in zip(self._names, self._splits)]
        return [
            self._ends(found),
            self._ids(found),
            self._type(),
            tokenizer_check(self.tokenizer, [*self._made_with, *shards]),
            self._targets(found),
            found.padding_check(),
            self._nothing_cut(),
            found.next_check(),
        ]

    def _ends(self, found: Findings) -> Check:
        end = self.tokenizer.eos_id
        if end is None:
            joint = "an empty line" if self.tokenizer.joint() else "nothing"
            said = f"this {self.tokenizer.kind} tokenizer has none: {joint} stands between texts"
            return Check(END, None, said)
        seen, without = 0, []
        for name, split in zip(self._names, self._splits):
            # the last document of a split may be one that its end cuts
            for i in _spread(split.n_documents - 1, _MOST_ENDS):
                seen += 1
                stop = split.document_span(i)[1]
                if split.read(stop - 1, stop)[0] != end:
                    without.append(f"document {i:,} of {name}")
        if without:
            return Check(END, False, f"it does not close {listed(without)}. Run prepare again.")
        if wrong := found.wrong(END):
            return Check(END, False, f"it has no loss in {wrong}")
        if not seen and not found.n_ends:
            return Check(END, None, "no text ends here: the split is one document")
        closed = f"it closes {counted(seen, 'document')} that were looked at, and"
        return Check(
            END, True, f"{closed} {counted(found.n_ends, 'target')} of the rows ask for it"
        )

    def _ids(self, found: Findings) -> Check:
        wrong = found.wrong(IDS)
        own = self.tokenizer.vocab_size
        if own > self._model_ids:
            wrong = f"model.vocab_size = {self._model_ids:,} is below the tokenizer's {own:,}"
        highest, n_read = -1, 0
        for split in self._splits:
            most, n = _highest_id(split, _MOST_IDS // len(self._splits))
            highest, n_read = max(highest, most), n_read + n
        n_all = sum(split.n_tokens for split in self._splits)
        if not wrong and highest >= min(own, self._model_ids):
            wrong = f"the shards hold the id {highest:,}, and there are {own:,}. Run prepare again."
        read = f"all {n_all:,}" if n_read == n_all else f"{n_read:,} of {n_all:,}"
        good = f"the highest of {read} is {highest:,}, below {self._model_ids:,}"
        return Check(IDS, not wrong, wrong or good)

    def _type(self) -> Check:
        shards = [shard for split in self._splits for shard in split.shards]
        wrong = [
            f"{shard.path} stores {shard.header.vocab_size:,} ids as {shard.header.dtype}"
            for shard in shards
            if shard.header.vocab_size - 1 > np.iinfo(shard.header.dtype).max
        ]
        kinds = sorted({shard.header.dtype for shard in shards})
        most = max(shard.header.vocab_size for shard in shards)
        good = f"{' and '.join(kinds)} hold {most:,} ids"
        return Check(TYPE, not wrong, f"{listed(wrong)}. Run prepare again." if wrong else good)

    def _targets(self, found: Findings) -> Check:
        wrong = found.wrong(TARGETS)
        good = f"each of {counted(found.amount.rows, 'row')} has some"
        n_short = sum(int((one.document_lengths() < 2).sum()) for one in self._splits)
        if n_short and self._data.rows != "window":
            good += f"; {counted(n_short, 'document')} of one token have nothing to predict"
        return Check(TARGETS, not wrong, f"{wrong} has none" if wrong else good)

    def _nothing_cut(self) -> Check:
        missing, split_name = [], self._split
        for source, split in zip(self._data.sources, self._splits):
            manifest = read_manifest(source.path, FORMAT, VERSION, verify=False, error=DataError)
            wrote: dict[str, Any] = manifest["splits"][split_name]
            for what, there in (("tokens", split.n_tokens), ("documents", split.n_documents)):
                if wrote[f"n_{what}"] != there:
                    missing.append(
                        f"prepare wrote {wrote[f'n_{what}']:,} {what} into "
                        f"{source.path / split_name}, and {there:,} are there"
                    )
        if missing:
            return Check(NOTHING_CUT, False, f"{listed(missing)}. Run prepare again.")
        return Check(NOTHING_CUT, True, "; ".join(self._left_over()))

    def _left_over(self) -> list[str]:
        """What an epoch does not read, and what it reads in pieces."""
        data, T = self._data, self._data.seq_len
        said = []
        lengths = np.concatenate([one.document_lengths() for one in self._splits])
        if (n := int((lengths > T).sum())) and data.rows != "window":
            said.append(f"{counted(n, 'document')} longer than a row go on in the next")
        unread = sum(one.n_unread for one in self._lengths)
        if unread:
            n_all = sum(one.n_tokens for one in self._splits)
            when = "others do" if data.jitter else "nor does another (data.jitter)"
            said.append(f"an epoch does not read {unread:,} of {n_all:,} tokens; {when}")
        if self._train and data.last_batch == "drop" and self.n_batches is not None:
            n_rows = self._loader.n_rows
            if left := n_rows - self.n_batches * self._batch_size:
                which = "others in each epoch" if data.shuffle else "always the same"
                said.append(f"{left:,} of {n_rows:,} rows fill no batch, {which} (data.last_batch)")
        return said or ["an epoch reads every token"]


def refuse_missing(data: DataConfig) -> None:
    """Refuse sources that are not there.

    raises   DataError
    """
    for source in data.sources:
        if not source.path.is_dir():
            raise DataError(
                f"{source.path}, of data.sources, does not exist: make it with scratchlm prepare. "
                f"Paths are taken from the folder that you are in, {Path.cwd()}."
            )


class _RowLengths:
    """How many positions of each row hold text, from the ends of documents alone."""

    def __init__(self, split: Split, data: DataConfig, train: bool) -> None:
        self._split, self._data, self._train = split, data, train
        if data.rows == "padded":
            self._targets = split.document_lengths() - 1
            self._rows_up_to = np.cumsum(-(-self._targets // data.seq_len))

    def of(self, i: int) -> int:
        """Of row i."""
        T, n_tokens = self._data.seq_len, self._split.n_tokens
        if self._data.rows == "padded":
            document = int(np.searchsorted(self._rows_up_to, i, side="right"))
            before = int(self._rows_up_to[document - 1]) if document else 0
            return min(T, int(self._targets[document]) - (i - before) * T)
        if self._data.rows == "packed":
            return min(T, n_tokens - i * T)
        return T if self._train else min(T, n_tokens - 1 - i * T)

    @property
    def n_unread(self) -> int:
        """Tokens of the split that are in no row of an epoch."""
        data = self._data
        if data.rows != "window" or not self._train:
            return 0
        T, stride = data.seq_len, data.stride or data.seq_len
        rows = make_rows(self._split, "window", T, stride=stride, jitter=data.jitter)
        return self._split.n_tokens - (rows.n_rows - 1) * min(stride, T) - T - 1


def _spread(n: int, most: int) -> list[int]:
    """At most so many numbers below n, evenly spread."""
    if n <= 0:
        return []
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64)).tolist()


def _highest_id(split: Split, most: int) -> tuple[int, int]:
    """The highest of at most so many ids, evenly spread, and of how many it is."""
    block = 1 << 20
    n_blocks = -(-split.n_tokens // block)
    highest = n_read = 0
    for b in _spread(n_blocks, max(1, most // block)):
        ids = split.read(b * block, min((b + 1) * block, split.n_tokens))
        highest, n_read = max(highest, int(ids.max())), n_read + len(ids)
    return highest, n_read
