"""Learning from pairs of answers: DPO (arXiv:2305.18290) and its kin.

A row has the two answers of a pair as neighbouring segments, the chosen one with the even number.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.base.errors import ConfigError
from scratchlm.data.rows import IGNORE
from scratchlm.model.transformer import Transformer
from scratchlm.training.log_probs import target_log_probs
from scratchlm.training.objectives import Goal, TokenBatch

Variant = Literal["dpo", "ipo", "length-normalised"]
Reference = Callable[[Transformer], AbstractContextManager[Transformer]]


@dataclass(frozen=True)
class PreferenceConfig:
    """How pairs of answers are learned from."""

    variant: Variant = "dpo"  # dpo; ipo (arXiv:2310.12036); length-normalised (arXiv:2411.15124)
    beta: float = 0.1  # how strongly the model is held to the reference
    label_smoothing: float = 0.0  # share of pairs taken to be the wrong way round (cDPO)

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ConfigError(f"preference.beta = {self.beta} must be above 0.")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"preference.label_smoothing = {self.label_smoothing} must be in [0, 0.5)."
            )


class PreferenceGoal:
    """The loss of pairs, and how well they are told apart.

    reference   the model that answers are compared with: a context in which it is there
    """

    def __init__(self, config: PreferenceConfig, reference: Reference) -> None:
        self.config, self._reference = config, reference
        self._sums: dict[str, float] = {}

    def goal(self) -> Goal:
        """What the trainer minimises; its count is that of the pairs."""
        idle = pair_losses(torch.zeros(()), self.config).item()  # of DPO ln 2
        return Goal(self.total, count_pairs, self.take, idle)

    def take(self) -> dict[str, float]:
        """Sums over pairs since the last call: rewards, their margin, and pairs the right way."""
        names = ("reward_margin", "reward_accuracy", "reward_chosen", "reward_rejected")
        sums, self._sums = self._sums, {}
        return {name: sums.get(name, 0.0) for name in names}

    def total(
        self, model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        """Nats over all pairs, summed."""
        assert segments is not None, "pairs come in segments"
        with torch.no_grad(), self._reference(model) as reference:
            theirs = answer_log_probs(reference, tokens, targets, segments)  # (pairs, 2)
        lengths = answer_lengths(targets, segments)  # (pairs, 2)
        ours = answer_log_probs(model, tokens, targets, segments)
        if self.config.variant != "dpo":  # by token, so that long answers do not weigh more
            ours, theirs = ours / lengths, theirs / lengths
        rewards = self.config.beta * (ours - theirs)  # (pairs, 2)
        self._note(rewards.detach())
        return pair_losses(rewards[:, 0] - rewards[:, 1], self.config).sum()

    def _note(self, rewards: Tensor) -> None:
        chosen, rejected = rewards.unbind(dim=1)
        found = {
            "reward_margin": (chosen - rejected).sum(),
            "reward_accuracy": (chosen > rejected).sum(),
            "reward_chosen": chosen.sum(),
            "reward_rejected": rejected.sum(),
        }
        for name, value in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)


def pair_losses(margins: Tensor, config: PreferenceConfig) -> Tensor:
    """The loss of each pair from beta times the difference of its two log-ratios.

    DPO, equation 7, smoothed as in ericmitchell.ai/cdpo.pdf; IPO, equation 17.
    """
    if config.variant == "ipo":
        return (margins / config.beta - 1 / (2 * config.beta)) ** 2
    s = config.label_smoothing
    return -(1 - s) * F.logsigmoid(margins) - s * F.logsigmoid(-margins)


def answer_log_probs(
    model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor
) -> Tensor:
    """Log-probability of the chosen and the rejected answer of each pair, (pairs, 2), nats."""
    at = targets != IGNORE
    hidden = model.hidden(tokens, segments=segments)[at]
    found = target_log_probs(hidden, model.head.weight, targets[at])
    return _by_answer(found, targets, segments)


def answer_lengths(targets: Tensor, segments: Tensor) -> Tensor:
    """Tokens of the chosen and the rejected answer of each pair, (pairs, 2)."""
    ones = torch.ones(int((targets != IGNORE).sum()), device=targets.device)
    return _by_answer(ones, targets, segments)


def count_pairs(batch: TokenBatch) -> float:
    """Pairs in a batch."""
    assert batch.segments is not None
    return float(len(_answer_numbers(batch.targets, batch.segments).unique()) // 2)


def frozen_copy(reference: Transformer) -> Reference:
    """The reference is another model, which does not change."""
    reference.requires_grad_(False).eval()
    return lambda _: nullcontext(reference)


def _answer_numbers(targets: Tensor, segments: Tensor) -> Tensor:
    """A number for the answer of each target: rows in order, chosen before rejected."""
    row, _ = (targets != IGNORE).nonzero(as_tuple=True)
    width = segments.shape[1] + 2
    return row * (width + width % 2) + segments[targets != IGNORE]


def _by_answer(values: Tensor, targets: Tensor, segments: Tensor) -> Tensor:
    numbers, place = _answer_numbers(targets, segments).unique(return_inverse=True)
    sums = torch.zeros(len(numbers), device=values.device).index_add(0, place, values)
    return sums.view(-1, 2)
