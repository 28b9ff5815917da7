"""How likely a model finds a text behind another: what multiple choice is judged by.

What is scored is exactly what lm-evaluation-harness scores (`TemplateLM._encode_pair` and
`HFLM._loglikelihood_tokens` of its version 0.4), so that numbers can be compared with published
ones. How is not: sequences that begin alike share rows (`prefix_tree.py`), and only positions with
a target reach the head.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.base.log import warn
from scratchlm.base.progress import Progress, counted
from scratchlm.base.runtime import keep_freed_memory
from scratchlm.evaluation.prefix_tree import Group, Row, lay_out
from scratchlm.evaluation.side_by_side import side_by_side
from scratchlm.evaluation.tree_cache import TreeCache, read_stem
from scratchlm.generation.prompt import beginning
from scratchlm.model.cache import KVCache
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer

# Tokens of a batch. On a CPU more are slower: measured, two cores of a Xeon with 2 MB of cache,
# SmolLM2-135M: 1,024 read 740 to 800 tokens/s, 2,048 read 670 to 755.
_CPU_TOKENS, _GPU_TOKENS = 1024, 32_768
_FEW_TOKENS = 512  # a smaller batch is slower for each token than some padding
_CHUNK_NUMBERS = 1 << 23  # logits that exist at a time: 32 MB in float32


@dataclass(frozen=True)
class Likelihood:
    """What a model makes of one continuation.

    nats       the natural logarithm of its probability, at most 0: a sum over its tokens
    n_bytes    of the continuation as it was given, in UTF-8
    greedy     whether each of its tokens is the likeliest there
    """

    nats: float
    n_tokens: int
    n_bytes: int
    greedy: bool


@dataclass(frozen=True)
class Encoded:
    """ids (n,) int64 of context and continuation; the last `n_targets` are the continuation."""

    ids: np.ndarray
    n_targets: int
    n_bytes: int


class Scorer:
    """Gives continuations their likelihoods.

    model                  its dropout is off meanwhile; nothing else of it is changed
    max_tokens_per_batch   bounds the memory; 0 takes what suits the device. No score depends on it
                           beyond the rounding of floats
    n_cut                  contexts so far that were longer than the model's, and lost their
                           beginnings: each call warns of its own
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, *, max_tokens_per_batch: int = 0
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_seq_len = model.config.max_seq_len
        self.device = model.embedding.weight.device
        usual = _CPU_TOKENS if self.device.type == "cpu" else _GPU_TOKENS
        self.max_tokens_per_batch = max_tokens_per_batch or usual
        self.n_cut = 0
        scaling = model.config.rope_scaling
        # Up to this length the angles of a token do not depend on the length of its row.
        self._even = scaling.original_max_seq_len if scaling.kind == "dynamic" else math.inf

    @property
    def prefix_id(self) -> int:
        """What stands before a continuation without context: the begin token, or the end token."""
        tokenizer = self.tokenizer
        for token in (tokenizer.bos_id, tokenizer.eos_id):
            if token is not None:
                return token
        return beginning(tokenizer)[-1]

    def loglikelihoods(self, requests: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """The likelihood of each continuation behind its context, in the order of the requests.

        requests   (context, continuation). Both are encoded as one text; white space at the end of
                   the context counts as the continuation's. Names of control tokens are these
                   tokens. Behind an empty context stands the begin token, else the end token. What
                   is too long loses its beginning, and a warning says how often
        raises     DataError for a continuation without tokens, or longer than the model's context;
                   CheckpointError where the model's numbers are none
        """
        return self.score(self.encode(requests))

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as ids, behind a begin token where the tokenizer's maker puts one before texts.

        Names of control tokens are these tokens; a text that begins with the begin token gets no
        second one.
        """
        tokenizer = self.tokenizer
        rows = tokenizer.encode_batch(texts, allowed_special=True)
        if not tokenizer.begins or tokenizer.bos_id is None:
            return rows
        names = [name for name, i in tokenizer.special_tokens.items() if i == tokenizer.bos_id]
        begun, begin = tuple(names), tokenizer.bos_id
        return [ids if t.startswith(begun) else [begin, *ids] for t, ids in zip(texts, rows)]

    def encode(self, requests: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Requests as ids, not cut; `loglikelihoods` says how."""
        moved = [_with_spaces_moved(context, more) for context, more in requests]
        contexts = list(dict.fromkeys(context for context, _ in moved if context))
        context_ids = dict(zip(contexts, self.prompt_ids(contexts)))
        whole = self.prompt_ids([context + more for context, more in moved if context])
        alone = self.tokenizer.encode_batch(
            [more for context, more in moved if not context], allowed_special=True
        )
        wholes, alones = iter(whole), iter(alone)
        encoded = []
        for (context, more), given in zip(moved, requests):
            if context:
                before = context_ids[context]
                after = next(wholes)[len(before) :]
            else:
                before, after = [self.prefix_id], next(alones)
                if after[:1] == before:  # it begins the text itself
                    after = after[1:]
            if not before or not after:
                raise DataError(
                    f"the continuation {more!r} behind {context[-60:]!r} has no tokens of its own. "
                    "Give one of at least one token, with the space before it."
                )
            ids = np.array(before + after, dtype=np.int64)
            encoded.append(Encoded(ids, len(after), len(given[1].encode())))
        return encoded

    def rolling(self, texts: Sequence[str]) -> list[Likelihood]:
        """The likelihood of whole texts of any length, as lm-evaluation-harness has it.

        Each token counts once. The first window begins with the begin or end token; later windows
        are full, and all but the last hold one token of context before what they count.
        """
        windows, owners = [], []
        for number, ids in enumerate(self.prompt_ids(texts)):
            made = list(_windows(np.array([self.prefix_id, *ids]), self.max_seq_len))
            windows += made
            owners += [number] * len(made)
        parts: list[list[Likelihood]] = [[] for _ in texts]
        for number, one in zip(owners, self.score(windows)):
            parts[number].append(one)
        return [
            Likelihood(
                nats=math.fsum(one.nats for one in own),
                n_tokens=sum(one.n_tokens for one in own),
                n_bytes=len(text.encode()),
                greedy=all(one.greedy for one in own),
            )
            for text, own in zip(texts, parts)
        ]

    @torch.inference_mode()
    def score(self, encoded: Sequence[Encoded]) -> list[Likelihood]:
        """The likelihoods of what is encoded already; errors are those of `loglikelihoods`."""
        kept = [self._cut(one) for one in encoded]
        self._warn_of_cuts(encoded)
        if not kept:
            return []
        if self.device.type == "cpu":
            keep_freed_memory()  # a tenth of the time
        groups = self._lay_out(kept)
        sums = _Sums(kept)
        was_training = self.model.training
        self.model.eval()
        try:
            with Progress("scoring", sum(f.n_tokens for f in groups), "tokens") as progress:
                for group in groups:
                    self._score_group(group, sums, progress)
        finally:
            self.model.train(was_training)
        return sums.likelihoods()

    def _cut(self, one: Encoded) -> Encoded:
        """The last tokens that fit: the model reads all but the last of them."""
        if one.n_targets > self.max_seq_len:
            raise DataError(
                f"a continuation has {one.n_targets:,} tokens, and the model reads at most "
                f"{self.max_seq_len:,}: its likelihood as a whole cannot be had. Shorten it, or "
                "measure the text's perplexity."
            )
        return Encoded(one.ids[-(self.max_seq_len + 1) :], one.n_targets, one.n_bytes)

    def _warn_of_cuts(self, encoded: Sequence[Encoded]) -> None:
        excess = [len(one.ids) - self.max_seq_len - 1 for one in encoded]
        cut = [n for n in excess if n > 0]
        self.n_cut += len(cut)
        if cut:
            warn(
                f"{len(cut):,} of {counted(len(encoded), 'text')} are longer than the model's "
                f"context of {self.max_seq_len:,} tokens: their beginnings were cut off, "
                f"{counted(sum(cut), 'token')} in all."
            )

    def _lay_out(self, encoded: Sequence[Encoded]) -> list[Group]:
        inputs = [one.ids[:-1] for one in encoded]
        longest = max(map(len, inputs))
        flops = [self.model.flops_per_token(T) for T in (0, 1)]
        return lay_out(
            inputs,
            [one.n_targets for one in encoded],
            # Four times its share of the operations: measured, less and more were slower.
            attention=4 * (flops[1] - flops[0]) / flops[0],
            min_group=self.max_tokens_per_batch // 2,
            # A window counts tokens back along the row, not along the branch of the tree.
            share=not self.model.config.window and longest <= self._even,
        )

    def _score_group(self, group: Group, sums: "_Sums", progress: Progress) -> None:
        stem = None
        if len(group.stem):
            stem = read_stem(self.model, torch.from_numpy(group.stem).to(self.device))
            progress.advance(len(group.stem))
        batches = list(self._batches(group.rows))

        def run(rows: list[Row]) -> tuple[_Places, np.ndarray, np.ndarray]:
            with torch.inference_mode():  # which each thread has for itself
                places = _Places.of(rows, sums.encoded)
                return places, *self._log_probs(self._hidden(rows, stem), places)

        for rows, found in zip(batches, side_by_side(run, batches, self.device), strict=True):
            sums.add(*found)
            progress.advance(sum(map(len, rows)))

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Rows of about one length, the longest first, so that little is padding.

        Where there are few rows, batches are smaller, so that all workers have about as much to do.
        """
        even = sum(map(len, rows)) // (4 * torch.get_num_threads())
        most = min(self.max_tokens_per_batch, max(even, _FEW_TOKENS))
        batch: list[Row] = []
        for row in sorted(rows, key=len, reverse=True):
            if batch:
                longest, n = len(batch[0]), len(batch) + 1
                full = n * longest > most
                uneven = len(row) < (longest if longest > self._even else 3 * longest // 4)
                if full or (uneven and (longest > self._even or n * longest > _FEW_TOKENS)):
                    yield batch
                    batch = []
            batch.append(row)
        yield batch

    def _hidden(self, rows: Sequence[Row], stem: KVCache | None) -> Tensor:
        """What the head reads, (B T, D); the tokens of padding are seen by none but themselves."""
        T = len(rows[0])
        tokens = self._padded([row.tokens for row in rows], np.zeros(T, np.int64))
        if stem is None and all(row.is_chain for row in rows):
            return self.model.hidden(tokens).flatten(0, 1)
        depths = self._padded([row.depths for row in rows], np.zeros(T, np.int64))
        ends = self._padded([row.ends for row in rows], np.arange(1, T + 1))
        return self.model.hidden(tokens, cache=TreeCache(depths, ends, stem)).flatten(0, 1)

    def _padded(self, rows: Iterable[np.ndarray], padding: np.ndarray) -> Tensor:
        """(B, T) int64: each row, and behind it what `padding` has there."""
        filled = [np.concatenate((row, padding[len(row) :])) for row in rows]
        return torch.from_numpy(np.stack(filled)).to(self.device)

    def _log_probs(self, hidden: Tensor, places: "_Places") -> tuple[np.ndarray, np.ndarray]:
        """Of each target its log-probability, and whether it is the likeliest token."""
        size = max(1, _CHUNK_NUMBERS // self.model.config.vocab_size)
        log_probs, greedy = [], []
        nodes, inverse = np.unique(places.nodes, return_inverse=True)
        for start in range(0, len(nodes), size):
            chunk = torch.from_numpy(nodes[start : start + size]).to(self.device)
            logits = self.model.head(hidden[chunk]).float()  # (N, V)
            low, high = np.searchsorted(inverse, (start, start + size))
            row = torch.from_numpy(inverse[low:high] - start).to(self.device)  # (M,)
            target = torch.from_numpy(places.targets[low:high]).to(self.device)  # (M,)
            best = logits.amax(-1)  # (N,)
            of_target = logits[row, target]
            is_best = of_target == best[row]
            tied = row[is_best]  # of several best ones the first is taken, as in decoding
            is_best[is_best.clone()] = logits[tied].argmax(-1) == target[is_best]
            total = best + logits.sub_(best[:, None]).exp_().sum(-1).log()  # (N,)
            log_probs.append((of_target - total[row]).double().cpu().numpy())
            greedy.append(is_best.cpu().numpy())
        return np.concatenate(log_probs), np.concatenate(greedy)


@dataclass(frozen=True)
class _Places:
    """The targets of a batch, in the order of the places that foretell them.

    nodes     (M,) int64   places in the flattened batch
    targets   (M,) int64   ids
    numbers   (M,) int64   which sequence each belongs to
    """

    nodes: np.ndarray
    targets: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row], encoded: Sequence[Encoded]) -> "_Places":
        T = len(rows[0])
        leaves = [
            (b * T + places, encoded[i].ids[-len(places) :], np.full(len(places), i))
            for b, row in enumerate(rows)
            for i, places in row.leaves
        ]
        nodes, targets, numbers = (np.concatenate(parts) for parts in zip(*leaves))
        order = nodes.argsort(kind="stable")
        return cls(nodes[order], targets[order], numbers[order])


class _Sums:
    """What is summed of each sequence while the batches go by."""

    def __init__(self, encoded: Sequence[Encoded]) -> None:
        self.encoded = encoded
        self._nats = np.zeros(len(encoded))
        self._greedy = np.ones(len(encoded), dtype=bool)

    def add(self, places: _Places, log_probs: np.ndarray, greedy: np.ndarray) -> None:
        if not np.isfinite(log_probs).all():
            raise CheckpointError(
                "the model's logits are not numbers: its weights are damaged, or too large for "
                "float16. Load it with dtype float32, or take an earlier checkpoint."
            )
        np.add.at(self._nats, places.numbers, log_probs)
        np.logical_and.at(self._greedy, places.numbers, greedy)

    def likelihoods(self) -> list[Likelihood]:
        return [
            Likelihood(nats, one.n_targets, one.n_bytes, greedy)
            for nats, greedy, one in zip(self._nats.tolist(), self._greedy.tolist(), self.encoded)
        ]


def _with_spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """White space at the end of the context becomes the beginning of the continuation."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _windows(ids: np.ndarray, longest: int) -> Iterator[Encoded]:
    """A begun text in windows; `get_rolling_token_windows` of lm-evaluation-harness."""
    n = len(ids) - 1  # tokens to be foretold
    for start in range(0, n, longest):
        end = min(start + longest, n)
        yield Encoded(ids[max(0, end - longest) : end + 1], end - start, 0)
