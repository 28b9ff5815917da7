"""Loss, perplexity and bits per byte of any text, with a window that slides over long documents.

A document longer than the model's context is read in windows of `seq_len` tokens, `stride` apart.
Each target counts exactly once, in the first window that holds it: behind a document's first window
it has at least seq_len - stride tokens before it. So `stride` weighs cost against context: seq_len
reads every token once, and the first targets of each window have next to no context; half of it
(the default) reads each token twice. It is the recipe of transformers' documentation ("Perplexity
of fixed-length models"), whose windows of L tokens hold L - 1 targets: theirs of (L, stride) are
ours of (seq_len = L - 1, stride). Their code counts each window behind the first with one target
too few; here a sum travels with its true count.

The first token of a document has something before it only where a token begins texts:

    auto    the begin token where the tokenizer's maker puts one before every text, else none
    none    nothing: the first token is context, and has no target
    begin   the begin token
    end     the end token, as our own shards have it between documents, and as lm-evaluation-harness
            has it for tokenizers without a begin token
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress, counted
from scratchlm.corpus.encodings import Errors
from scratchlm.corpus.read import Document, Tally, find_files, read_documents
from scratchlm.data.rows import IGNORE
from scratchlm.evaluation.loss import HeldOut, evaluating
from scratchlm.evaluation.windows import Encoded, Window, batched, cut_windows, rows_of
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.surrogates import to_utf8
from scratchlm.tokenizer.tokenizer import Tokenizer

Begin = Literal["auto", "none", "begin", "end"]

BATCH_TOKENS = 8192  # of a batch, where its rows are not given
_CHUNK_NUMBERS = 1 << 23  # logits that exist at a time: 32 MB in float32
_SURPRISES = 8  # windows that are kept to be shown
_LEAST_TARGETS = 16  # of a window that is shown: a few rare words are no finding


@dataclass(frozen=True)
class Surprise:
    """A window of text that the model foretold badly.

    place       the document: its file and line
    loss_nats   the mean of the window's targets
    """

    place: str
    text: str
    loss_nats: float


@dataclass(frozen=True)
class TextLoss(HeldOut):
    """The loss over documents, and how it was taken; `n_bytes` is of the text behind the targets.

    n_documents      with at least one target
    n_first          first tokens of documents, which had no target
    n_unknown        targets that are the unknown token, which is foretold without its text
    begin            what stood before each document: "none", "begin" or "end"
    document_nats    (documents,) float64, those without a target included: 0
    document_bytes   (documents,) int64, likewise
    window_nats      (windows,) float64, in the order of the text
    window_bytes     (windows,) int64: of the tokens that are their targets
    surprising       the windows with the highest loss, the worst first
    """

    n_documents: int = 0
    n_first: int = 0
    n_unknown: int = 0
    seq_len: int = 0
    stride: int = 0
    begin: Begin = "none"
    document_nats: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False)
    document_bytes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)
    window_nats: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False)
    window_bytes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)
    surprising: tuple[Surprise, ...] = ()

    @property
    def perplexity(self) -> float:
        """e to the mean loss; not to be compared between tokenizers."""
        return math.exp(min(self.loss_nats, 700.0))  # which e to the 710th exceeds float64


def text_loss(
    model: Transformer,
    tokenizer: Tokenizer,
    documents: Iterable[Document],
    *,
    seq_len: int = 0,
    stride: int = 0,
    begin: Begin = "auto",
    batch_size: int = 0,
    progress: Progress | None = None,
) -> TextLoss:
    """The loss of a model over documents; it does not depend on how they are batched.

    documents    pieces of long ones follow each other, as `read_documents` gives them: memory holds
                 one piece and a few batches, whatever the length of the text
    seq_len      tokens of a window; 0 takes the model's longest
    stride       tokens from one window to the next; 0 takes half of seq_len
    begin        what stands before a document: see above
    batch_size   windows that are computed at a time; 0 takes as many as hold 8,192 tokens
    progress     advanced by the bytes of text that are done
    raises       ConfigError for impossible settings and a loss that is no number; DataError where
                 no document has a target, and for text that the tokenizer cannot write
    """
    seq_len, stride = _window_sizes(model, seq_len, stride)
    prefix, begin = _prefix(tokenizer, begin)
    rows = batch_size or max(1, BATCH_TOKENS // seq_len)
    sums = _Sums(tokenizer)
    windows = cut_windows(_encoded(tokenizer, documents, prefix, sums), prefix, seq_len, stride)
    dynamic = model.config.rope_scaling.kind == "dynamic"  # its angles depend on a row's length
    with evaluating(model) as device:
        for batch in batched(windows, rows, equal_lengths=dynamic):
            sums.add(batch, _window_nats(model, batch, device))
            if progress is not None:
                progress.advance(round(sums.n_bytes_done) - progress.done)
    result = sums.result(seq_len, stride, begin)
    _say_what_is_special(result)
    return result


def files_loss(
    model: Transformer,
    tokenizer: Tokenizer,
    paths: Sequence[Path | str],
    *,
    errors: Errors = "strict",
    text_key: str = "text",
    document_separator: str | None = None,
    seq_len: int = 0,
    stride: int = 0,
    begin: Begin = "auto",
    batch_size: int = 0,
) -> TextLoss:
    """`text_loss` of files and folders of any kind that `read_documents` reads, with progress.

    errors, text_key, document_separator    of `read_documents`
    raises                                  what `find_files`, `read_documents`, `text_loss` raise
    """
    files, tally = find_files(paths), Tally()
    documents = read_documents(
        files, errors=errors, text_key=text_key, document_separator=document_separator, tally=tally
    )
    with Progress("reading", sum(file.n_bytes for file in files)) as progress:
        result = text_loss(
            model,
            tokenizer,
            documents,
            seq_len=seq_len,
            stride=stride,
            begin=begin,
            batch_size=batch_size,
            progress=progress,
        )
    tally.report()
    return result


def _window_sizes(model: Transformer, seq_len: int, stride: int) -> tuple[int, int]:
    longest = model.config.max_seq_len
    seq_len = seq_len or longest
    if not 1 <= seq_len <= longest:
        raise ConfigError(
            f"seq_len = {seq_len} is not a length of the model's windows: it has a context of "
            f"{longest} tokens. Use 1 to {longest}, or 0 for all of it."
        )
    stride = stride or max(1, seq_len // 2)
    if not 1 <= stride <= seq_len:
        raise ConfigError(
            f"stride = {stride} is not in 1 to seq_len = {seq_len}: between windows that are "
            "farther apart tokens would be left out. Use 0 for half of seq_len."
        )
    return seq_len, stride


def _prefix(tokenizer: Tokenizer, begin: Begin) -> tuple[list[int], Begin]:
    """The ids before each document, and what they are called."""
    if begin not in get_args(Begin):
        raise ConfigError(f"begin = {begin!r} is not one of {', '.join(get_args(Begin))}.")
    if begin == "auto":
        begin = "begin" if tokenizer.begins and tokenizer.bos_id is not None else "none"
    if begin == "none":
        return [], begin
    token = tokenizer.bos_id if begin == "begin" else tokenizer.eos_id
    if token is None:
        raise ConfigError(
            f'begin = "{begin}", but this {tokenizer.kind} tokenizer has no such token. '
            'Use "none": the first token of each document then has no target.'
        )
    return [token], begin


def _encoded(
    tokenizer: Tokenizer, documents: Iterable[Document], prefix: list[int], sums: "_Sums"
) -> Iterator[Encoded]:
    """The ids of each piece; what is counted by document is put into `sums`."""
    number, continues, has_ids = 0, False, False
    for document in documents:
        try:
            text = to_utf8(document.text)
            ids = tokenizer.encode_bytes(text, continues=continues)
        except DataError as bad:
            raise DataError(f"{document.place}: {bad}") from None
        n_bytes = len(text)
        if len(ids) and not has_ids and not prefix:
            n_bytes -= min(n_bytes, sums.bytes_of_first(int(ids[0]), text))
        sums.open_document(number, n_bytes)
        has_ids = has_ids or len(ids) > 0
        yield Encoded(ids, len(text), number, document.place, document.ends)
        continues = not document.ends
        if document.ends:
            number, has_ids = number + 1, False


@torch.inference_mode()
def _window_nats(
    model: Transformer, windows: Sequence[Window], device: torch.device
) -> list[float]:
    """The nats of each window's targets, summed in float64; only these reach the head."""
    tokens, targets = rows_of(windows)
    wanted = targets != IGNORE
    hidden = model.hidden(tokens.to(device))[wanted.to(device)]  # (N, D)
    nats = _nats(model, hidden, targets[wanted].to(device)).cpu().double()
    sums = [part.sum().item() for part in nats.split([window.n_scored for window in windows])]
    for window, total in zip(windows, sums, strict=True):
        if not math.isfinite(total):
            raise ConfigError(
                f"{window.place}: the loss is {total}, which is no number: the model's weights or "
                "activations leave the range of their type. Load it in float32."
            )
    return sums


def _nats(model: Transformer, hidden: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(head(hidden))[target] of each row, (N,) float32, a chunk of logits at a time."""
    size = max(1, _CHUNK_NUMBERS // model.config.vocab_size)
    parts = [
        F.cross_entropy(model.head(h).float(), t, reduction="none")
        for h, t in zip(hidden.split(size), targets.split(size), strict=True)
    ]
    return torch.cat(parts)


class _Sums:
    """What is summed while the windows go by."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lengths, self._pieces = tokenizer.byte_lengths(), tokenizer.pieces()
        self._nats: list[float] = []  # by document, as are these
        self._targets: list[int] = []
        self._bytes: list[int] = []
        self._n_unknown = 0
        self._windows: list[tuple[int, float, int]] = []  # index, nats, bytes
        self._worst: list[tuple[float, int, Window]] = []  # a heap, the mildest on top
        self.n_bytes_done = 0.0

    def bytes_of_first(self, token: int, text: bytes) -> int:
        """The bytes that a document's first token stands for, without SentencePiece's own space."""
        added = self._pieces[token][:1] == b" " != text[:1]
        return int(self._lengths[token]) - added

    def open_document(self, number: int, n_bytes: int) -> None:
        """Count the bytes of one more piece of a document."""
        if number == len(self._nats):
            self._nats.append(0.0)
            self._targets.append(0)
            self._bytes.append(0)
        self._bytes[number] += n_bytes

    def add(self, windows: Sequence[Window], nats: Sequence[float]) -> None:
        """Count a batch."""
        for window, total in zip(windows, nats, strict=True):
            self._nats[window.number] += total
            self._targets[window.number] += window.n_scored
            self.n_bytes_done += window.n_bytes
            targets = window.ids[-window.n_scored :]
            if self._tokenizer.unk_id is not None:
                self._n_unknown += int((targets == self._tokenizer.unk_id).sum())
            self._windows.append((window.index, total, int(self._lengths[targets].sum())))
            if window.n_scored >= _LEAST_TARGETS:
                entry = (total / window.n_scored, -window.index, window)
                push = heapq.heappush if len(self._worst) < _SURPRISES else heapq.heappushpop
                push(self._worst, entry)

    def result(self, seq_len: int, stride: int, begin: Begin) -> TextLoss:
        """The sums over all documents that have a target."""
        targets = np.array(self._targets, dtype=np.int64)
        kept = targets > 0
        if not kept.any():
            raise DataError(
                "no document has a token to foretell: each has fewer than two. Give longer text, "
                'or begin = "end" for a tokenizer with an end token.'
            )
        nats, n_bytes = np.array(self._nats), np.array(self._bytes, dtype=np.int64) * kept
        _, window_nats, window_bytes = zip(*sorted(self._windows), strict=True)
        return TextLoss(
            nats=math.fsum(nats),
            n_targets=int(targets.sum()),
            n_bytes=int(n_bytes.sum()),
            n_documents=int(kept.sum()),
            n_first=len(kept) if begin == "none" else 0,
            n_unknown=self._n_unknown,
            seq_len=seq_len,
            stride=stride,
            begin=begin,
            document_nats=nats,
            document_bytes=n_bytes,
            window_nats=np.array(window_nats),
            window_bytes=np.array(window_bytes, dtype=np.int64),
            surprising=tuple(map(self._surprise, sorted(self._worst, reverse=True))),
        )

    def _surprise(self, entry: tuple[float, int, Window]) -> Surprise:
        loss_nats, _, window = entry
        ids = window.ids[-window.n_scored :].tolist()
        return Surprise(window.place, self._tokenizer.decode(ids, continues=True), loss_nats)


def _say_what_is_special(result: TextLoss) -> None:
    if result.n_first:
        say(
            f"{counted(result.n_first, 'first token')} of documents had no target: this tokenizer "
            "puts nothing before a text."
        )
    if result.n_unknown:
        warn(
            f"{result.n_unknown:,} of {result.n_targets:,} targets are the unknown token, which is "
            "foretold without its text: perplexity and bits per byte are too low, and cannot be "
            "compared with those of another tokenizer."
        )
