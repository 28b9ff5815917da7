"""The one engine: prompts in, tokens out, many sequences at a time (stage 11).

Between two steps the cache holds every id of a sequence but its newest. A step reads the newest ids
of all sequences at once, (B, 1), and chooses one more for each. To enter is to have a prompt read
up to its last id, and sequences come and go between any two steps.
"""

import copy
from collections import deque
from collections.abc import Generator

import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.base.log import warn_once
from scratchlm.generation.cpu import threads_for
from scratchlm.generation.sampling import Sampling, choose
from scratchlm.generation.sequence import Request, Sequence, Token, sequences_of
from scratchlm.model.cache import KVCache
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer

READ_AT_ONCE = 512  # ids of a prompt: bounds the memory of the attention mask of a long one


class Engine:
    """Continues the texts of many requests together.

    model      in eval mode
    tokenizer  None: ids only, tokens have no text and nothing but their number ends them
    max_batch  sequences that are decoded together; more wait for a free place
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer | None = None, *, max_batch: int = 64
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch = max_batch
        self.max_seq_len = model.config.max_seq_len
        # A padded embedding has rows that no text leads to: they are never sampled.
        self.n_ids = model.config.vocab_size
        if tokenizer is not None:
            self.n_ids = min(self.n_ids, tokenizer.vocab_size)
        self._n_parameters = model.n_parameters()
        self._n_requests = 0
        self._made: dict[int, list[Token]] = {}  # per request, what was not yet collected
        self._waiting: deque[Sequence] = deque()
        self._batch: list[Sequence] = []
        self._reset()

    def add(self, request: Request) -> int:
        """Take up a request and return its number; its tokens come with the next steps.

        raises   ConfigError for a prompt longer than the context, unless `request.window`;
                 DataError for an empty one, or an id that the model or tokenizer does not have
        """
        self._check(request)
        self._n_requests += 1
        self._made[self._n_requests] = []
        self._waiting.extend(sequences_of(request, self._n_requests, self.tokenizer))
        return self._n_requests

    def collect(self, number: int) -> list[Token]:
        """The tokens made for a request since the last call, in order for each sample.

        raises   KeyError once every sample has finished and its last token was collected
        """
        tokens, self._made[number] = self._made[number], []
        if not any(s.number == number for s in (*self._batch, *self._waiting)):
            del self._made[number]
        return tokens

    def cancel(self, number: int) -> None:
        """Forget a request, finished or not; an unknown number is no error."""
        self._made.pop(number, None)
        self._waiting = deque(s for s in self._waiting if s.number != number)
        self._leave([i for i, s in enumerate(self._batch) if s.number == number])

    def stream(self, request: Request) -> Generator[Token]:
        """Yield the tokens of one request as they come; closing the generator cancels it.

        Several streams may run in turns: each step serves all of them.
        """
        number = self.add(request)
        try:
            running = request.n
            while running:
                for token in self.collect(number):
                    running -= token.finish is not None
                    yield token
                if running:
                    self.step()
        finally:
            self.cancel(number)

    @torch.inference_mode()
    def step(self) -> None:
        """Let waiting sequences enter, then write one token of every sequence.

        raises   CheckpointError for logits that are not numbers; then, as after any interruption,
                 all requests are dropped
        """
        try:
            self._enter_waiting()
            self._slide()
            if self._batch:
                with threads_for(len(self._batch) * self._n_parameters):
                    self._decode()
            self._leave([i for i, s in enumerate(self._batch) if s.finish])
        except BaseException:
            self._reset()  # batch and cache may no longer agree
            raise

    def _reset(self) -> None:
        self._waiting.clear()
        self._batch.clear()
        self._cache = self._new_cache(0, 1)  # one row per sequence of the batch
        self._kept: tuple[list[int], KVCache] = ([], self._new_cache(1, 1))  # last to leave
        self._version = self._weights_version()  # of what was kept

    def _check(self, request: Request) -> None:
        ids = request.prompt_ids
        if self.model.training:
            raise ConfigError("the model is in training mode, where dropout garbles: call eval().")
        if request.n < 1:
            raise ConfigError(f"n = {request.n} must be at least 1.")
        if not ids:
            raise DataError("the prompt is empty: give at least one token to continue from.")
        if not 0 <= min(ids) <= max(ids) < self.n_ids:
            raise DataError(
                f"the prompt has id {min(ids) if min(ids) < 0 else max(ids)}, but there are only "
                f"{self.n_ids} ids: it was encoded by another tokenizer."
            )
        if len(ids) > self.max_seq_len and not request.window:
            raise ConfigError(
                f"the prompt has {len(ids)} tokens, but the model reads at most "
                f"{self.max_seq_len} at a time. Shorten it, or use --window "
                f"(window = True), which reads only its last {self._half} tokens."
            )
        self._warn_of_window(request)

    def _warn_of_window(self, request: Request) -> None:
        context = f"the model's context of {self.max_seq_len} tokens"
        n_prompt = len(request.prompt_ids)
        if n_prompt > self.max_seq_len:
            warn_once(f"the prompt outgrows {context}: only its last {self._half} are used.")
        elif (
            not request.window  # where it is asked for, it is expected
            and n_prompt + request.sampling.max_new_tokens - 1 > self.max_seq_len
        ):
            warn_once(
                f"the text may outgrow {context}: from there on it sees only the last "
                f"{self._half} to {self.max_seq_len}."
            )

    def _decode(self) -> None:
        """Read the newest id of every sequence and append the one that follows."""
        newest = torch.tensor([[s.ids[-1]] for s in self._batch], device=self._device)  # (B, 1)
        logits = self.model(newest, cache=self._cache)[:, -1, : self.n_ids].float()  # (B, V)
        self._cache.advance(1)
        total = logits.logsumexp(-1)  # (B,)
        if not total.isfinite().all():
            raise CheckpointError(
                "the model's logits are not numbers: its weights are damaged, or too large for "
                "float16. Load it with dtype float32, or take an earlier checkpoint."
            )
        chosen = self._choose(logits)  # (B,)
        logprobs = logits.gather(1, chosen[:, None].to(logits.device))[:, 0] - total
        for s, token, logprob in zip(self._batch, chosen.tolist(), logprobs.tolist(), strict=True):
            self._made[s.number].append(s.take(token, logprob))

    def _choose(self, logits: Tensor) -> Tensor:
        """(B, V) -> (B,) int64: rows with equal rules together."""
        groups: dict[Sampling, list[int]] = {}
        for i, s in enumerate(self._batch):
            groups.setdefault(s.rule, []).append(i)
        chosen = torch.empty(len(self._batch), dtype=torch.int64)
        for rule, rows in groups.items():
            group = [self._batch[i] for i in rows]
            part = logits if len(groups) == 1 else logits[rows]
            chosen[rows] = choose(part, [s.ids for s in group], rule, [s.generator for s in group])
        return chosen

    def _enter_waiting(self) -> None:
        while self._waiting and len(self._batch) < self.max_batch:
            group = [self._waiting.popleft()]
            while (
                self._waiting
                and self._waiting[0].number == group[0].number
                and len(self._batch) + len(group) < self.max_batch
            ):
                group.append(self._waiting.popleft())
            self._enter(group)

    def _slide(self) -> None:
        """Where the context is full, forget all but its last half and read that anew."""
        full = [i for i, s in enumerate(self._batch) if s.n_window > self.max_seq_len]
        moving = [self._batch[i] for i in full]
        self._leave(full)
        for sequence in moving:
            self._enter([sequence])

    def _enter(self, group: list[Sequence]) -> None:
        """Read what samples of one prompt share, once, and put them into the batch."""
        for s in group:
            if s.n_window > self.max_seq_len:
                s.start = len(s.ids) - self._half
        read = self._read(group[0].window[:-1])
        read.select(torch.zeros(len(group), dtype=torch.int64, device=self._device))
        self._batch += group
        room = max(min(self.max_seq_len, s.n_window - 1 + s.left) for s in self._batch)
        self._cache = self._join([self._cache, read], room)

    def _read(self, ids: list[int]) -> KVCache:
        """A cache of one row that holds `ids`: what the kept one shares with them is not read."""
        kept_ids, kept = self._kept
        known = common_prefix(kept_ids, ids) if self._version == self._weights_version() else 0
        cache = self._join([kept], max(1, len(ids)))
        cache.advance(known - cache.lengths)
        for start in range(known, len(ids), READ_AT_ONCE):
            piece = torch.tensor([ids[start : start + READ_AT_ONCE]], device=self._device)
            with threads_for(piece.numel() * self._n_parameters):
                self.model.hidden(piece, cache=cache)
            cache.advance(piece.shape[1])
        return cache

    def _leave(self, rows: list[int]) -> None:
        """Take sequences out of the batch; the last is kept for a prompt that goes on from it."""
        if not rows:
            return
        self._kept = self._batch[rows[-1]].window[:-1], self._rows(rows[-1:])
        self._version = self._weights_version()
        staying = [i for i in range(len(self._batch)) if i not in rows]
        self._cache = self._rows(staying)
        self._batch = [self._batch[i] for i in staying]

    def _rows(self, rows: list[int]) -> KVCache:
        """A copy of these rows of the batch's cache."""
        part = copy.copy(self._cache)
        part.select(torch.tensor(rows, dtype=torch.int64, device=self._device))
        return part

    def _new_cache(self, batch: int, size: int) -> KVCache:
        dtype = self.model.compute_dtype or self.model.embedding.weight.dtype
        return KVCache(self.model.config, batch, size, device=self._device, dtype=dtype)

    def _join(self, caches: list[KVCache], size: int) -> KVCache:
        """One cache with room for `size` tokens that holds the rows of all `caches` in turn."""
        whole = self._new_cache(sum(len(cache.lengths) for cache in caches), size)
        start = 0
        for cache in caches:
            rows, n = slice(start, start + len(cache.lengths)), min(cache.longest, size)
            pairs = zip(whole.keys + whole.values, cache.keys + cache.values, strict=True)
            for new, old in pairs:
                new[rows, :, :n] = old[:, :, :n]
            whole.lengths[rows] = cache.lengths
            start = rows.stop
        whole.advance(torch.zeros_like(whole.lengths))  # finds the longest anew
        return whole

    def _weights_version(self) -> int:
        """A number that changes with the weights: what an older model read must not be kept."""
        weights = self.model.parameters()
        return sum(0 if weight.is_inference() else weight._version for weight in weights)

    @property
    def _device(self) -> torch.device:
        return self.model.embedding.weight.device

    @property
    def _half(self) -> int:
        return max(1, self.max_seq_len // 2)


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many ids two lists begin with in common."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
