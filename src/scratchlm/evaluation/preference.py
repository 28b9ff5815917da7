"""How well a model tells the better of two answers from the worse."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from scratchlm.evaluation.loss import evaluating
from scratchlm.model.transformer import Transformer
from scratchlm.training.objectives import TokenBatch
from scratchlm.training.preference import PreferenceGoal, count_pairs


@dataclass(frozen=True)
class PreferenceScores:
    """Sums over pairs.

    nats      of the loss
    margin    reward of the chosen answer over the rejected one: beta times the log-ratios
    n_right   pairs in which the chosen answer has the higher reward
    """

    nats: float
    n_pairs: float
    margin: float
    n_right: float

    def __str__(self) -> str:
        return (
            f"held-out loss {self.loss_nats:.4f} nats per pair, reward margin "
            f"{self.reward_margin:.4f}, {self.reward_accuracy:.1%} of {self.n_pairs:,.0f} pairs "
            "the right way round"
        )

    @property
    def loss_nats(self) -> float:
        """Mean nats per pair."""
        return self.nats / max(1.0, self.n_pairs)

    @property
    def reward_margin(self) -> float:
        """Mean reward of the chosen answer over the rejected one."""
        return self.margin / max(1.0, self.n_pairs)

    @property
    def reward_accuracy(self) -> float:
        """Share of the pairs that are the right way round, 0 to 1."""
        return self.n_right / max(1.0, self.n_pairs)

    def metrics(self) -> dict[str, float | None]:
        """By their names in metrics.jsonl."""
        return {
            "val_loss_nats": self.loss_nats,
            "val_reward_margin": self.reward_margin,
            "val_reward_accuracy": self.reward_accuracy,
        }

    def summed(self, add: Callable[..., tuple[Any, ...]]) -> "PreferenceScores":
        """The sum over processes, by `add`."""
        return PreferenceScores(*add(self.nats, self.n_pairs, self.margin, self.n_right))


@torch.inference_mode()
def preference_scores(
    model: Transformer, batches: Iterable[TokenBatch], goal: PreferenceGoal
) -> PreferenceScores:
    """Look at each pair of `batches` once, without dropout."""
    nats = n_pairs = 0.0
    goal.take()  # of a step that nobody asked about
    with evaluating(model) as device:
        for batch in batches:
            if not (n := count_pairs(batch)):
                continue
            assert batch.segments is not None
            parts = (part.to(device) for part in (batch.tokens, batch.targets, batch.segments))
            nats += goal.total(model, *parts).item()
            n_pairs += n
    sums = goal.take()
    return PreferenceScores(nats, n_pairs, sums["reward_margin"], sums["reward_accuracy"])
