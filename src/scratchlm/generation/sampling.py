"""From logits to the next token: pure functions in a row, then one draw (stage 11)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.config import from_dict
from scratchlm.base.errors import ConfigError

History = Sequence[Sequence[int]]  # per row, the ids of prompt and completion so far
Processor = Callable[[Tensor, History], Tensor]  # logits (B, V) float32 -> the same shape


@dataclass(frozen=True)
class Sampling:
    """How each next token is chosen, and when the text ends."""

    max_new_tokens: int = 200  # tokens to write at most
    temperature: float = 0.8  # below 1 plainer, above 1 wilder; 0 always takes the likeliest token
    top_k: int = 0  # draw only from the k likeliest tokens; 0 = off
    top_p: float = 1.0  # draw only from the fewest tokens that together are this likely; 1 = off
    min_p: float = 0.0  # never draw what is less likely than this share of the likeliest; 0 = off
    repetition_penalty: float = 1.0  # above 1 makes tokens that occurred before less likely
    seed: int | None = None  # the same seed gives the same text; none: another text each time
    stop: tuple[str, ...] = ()  # strings that end the text; they are not part of it

    def __post_init__(self) -> None:
        limits = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < math.inf, "0 or a positive number"),
            "top_k": (self.top_k >= 0, "0 (off) or a positive number"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1 (off)"),
            "min_p": (0 <= self.min_p <= 1, "from 0 (off) to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "positive; 1 is off"),
            "seed": (self.seed is None or self.seed >= 0, "0 or a positive number"),
            "stop": ("" not in self.stop, "strings of at least one character"),
        }
        for name, (holds, allowed) in limits.items():
            if not holds:
                raise ConfigError(f"{name} = {getattr(self, name)!r} must be {allowed}.")


def sampling_of(settings: dict[str, Any]) -> Sampling:
    """Settings by name, checked as those of a config file; `stop` may be a single string."""
    stop = settings.get("stop", ())
    return from_dict(Sampling, {**settings, "stop": (stop,) if isinstance(stop, str) else stop})


def processors(sampling: Sampling) -> list[Processor]:
    """What is done to the logits before a token is chosen, in the order of transformers."""
    chain: list[Processor] = []
    if sampling.repetition_penalty != 1:
        chain.append(partial(penalise_repetition, penalty=sampling.repetition_penalty))
    if sampling.temperature == 0:
        return chain
    if sampling.temperature != 1:
        chain.append(partial(divide, temperature=sampling.temperature))
    if sampling.top_k:
        chain.append(partial(keep_top_k, k=sampling.top_k))
    if sampling.top_p < 1:
        chain.append(partial(keep_top_p, p=sampling.top_p))
    if sampling.min_p:
        chain.append(partial(keep_min_p, p=sampling.min_p))
    return chain


def penalise_repetition(logits: Tensor, history: History, *, penalty: float) -> Tensor:
    """Push the logits of tokens that occurred towards "unlikely" by a factor (arXiv:1909.05858)."""
    logits = logits.clone()
    for row, ids in zip(logits, history, strict=True):
        used = torch.tensor(ids, device=logits.device)
        row[used] = torch.where(row[used] < 0, row[used] * penalty, row[used] / penalty)
    return logits


def divide(logits: Tensor, history: History, *, temperature: float) -> Tensor:  # noqa: ARG001
    """Sharpen (temperature below 1) or flatten (above 1) the distribution."""
    return logits / temperature


def keep_top_k(logits: Tensor, history: History, *, k: int) -> Tensor:  # noqa: ARG001
    """Only the k likeliest tokens, and what ties with the last of them (arXiv:1805.04833)."""
    least = logits.topk(min(k, logits.shape[-1])).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Tensor, history: History, *, p: float) -> Tensor:  # noqa: ARG001
    """Only the fewest likeliest tokens whose probabilities sum to p (arXiv:1904.09751)."""
    ascending, order = logits.sort()
    drop = ascending.softmax(-1).cumsum(-1) <= 1 - p
    drop[:, -1] = False
    return logits.masked_fill(drop.scatter(1, order, drop), -math.inf)


def keep_min_p(logits: Tensor, history: History, *, p: float) -> Tensor:  # noqa: ARG001
    """Only tokens at least p times as likely as the likeliest one (arXiv:2407.01082)."""
    least = logits.amax(-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < least, -math.inf)


def generator_of(seed: int, sample: int) -> torch.Generator:
    """The source of chance for sample number `sample`, whatever else is drawn beside it."""
    mixed = np.random.SeedSequence([seed, sample]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


def choose(
    logits: Tensor, history: History, sampling: Sampling, generators: Sequence[torch.Generator]
) -> Tensor:
    """The next token of each row.

    logits      (B, V) float32, finite
    generators  one per row, on the CPU; each gives one number per token (none when greedy)
    returns     (B,) int64 on the CPU

    The draw itself is made on the CPU, so that a seed means the same on every device.
    """
    for process in processors(sampling):
        logits = process(logits, history)
    if sampling.temperature == 0:
        return logits.argmax(-1).cpu()
    chances = logits.softmax(-1).cpu().double().cumsum(-1)  # (B, V)
    numbers = [torch.rand(1, generator=g, dtype=torch.float64) for g in generators]
    # Times the last sum, which rounding leaves beside 1; "right" passes over tokens of chance 0.
    marks = torch.stack(numbers) * chances[:, -1:]  # (B, 1)
    return torch.searchsorted(chances, marks, right=True)[:, 0]
