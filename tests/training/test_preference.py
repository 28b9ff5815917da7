"""Learning from pairs: the formulas of TRL, packed rows, and what is measured."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scratchlm.base.errors import ConfigError
from scratchlm.data.loader import Batch
from scratchlm.data.rows import IGNORE
from scratchlm.evaluation.preference import preference_scores
from scratchlm.examples.batches import lay_out
from scratchlm.examples.encode import Example
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training.preference import (
    PreferenceConfig,
    PreferenceGoal,
    count_pairs,
    frozen_copy,
)

V = 29


def model_of(seed: int) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(
        ModelConfig("llama", vocab_size=V, n_layers=1, d_model=32, n_heads=2, max_seq_len=64)
    )
    model.initialise()
    with torch.no_grad():
        model.embedding.weight.mul_(10)
    return model


def pair(rng, n_prompt: int, n_chosen: int, n_rejected: int) -> Example:
    prompt = rng.integers(V, size=n_prompt)
    parts = [np.concatenate((prompt, rng.integers(V, size=n))) for n in (n_chosen, n_rejected)]
    targets = []
    for part in parts:
        target = part[1:].copy()
        target[: n_prompt - 1] = IGNORE
        targets.append(target)
    return Example(
        np.concatenate([part[:-1] for part in parts]),
        np.concatenate(targets),
        "here",
        np.repeat([0, 1], [len(part) - 1 for part in parts]),
    )


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    return [pair(rng, 3, 4, 6), pair(rng, 2, 9, 3), pair(rng, 5, 2, 2)]


def trl(policy, reference, pairs, config):
    """The loss of each pair as TRL 0.2x has it (trl/trainer/dpo_trainer.py, dpo_loss)."""
    losses = []
    for one in pairs:
        ratios = []
        for k in (0, 1):
            part = torch.from_numpy(one.segments == k)
            tokens = torch.from_numpy(one.tokens)[part][None]
            targets = torch.from_numpy(one.targets)[part]
            at = targets != IGNORE
            sums = []
            for model in (policy, reference):
                log_p = model(tokens)[0].log_softmax(-1)
                values = log_p[at].gather(1, targets[at][:, None])[:, 0]
                sums.append(values.sum() if config.variant == "dpo" else values.mean())
            ratios.append(sums[0] - sums[1])
        logits = ratios[0] - ratios[1]
        if config.variant == "ipo":
            losses.append((logits - 1 / (2 * config.beta)) ** 2)
        else:
            s = config.label_smoothing
            beta = config.beta
            losses.append(-F.logsigmoid(beta * logits) * (1 - s) - F.logsigmoid(-beta * logits) * s)
    return torch.stack(losses)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        PreferenceConfig(),
        PreferenceConfig("ipo", 0.3),
        PreferenceConfig("length-normalised", 2.0),
        PreferenceConfig(label_smoothing=0.2, beta=0.5),
    ],
)
def test_the_loss_is_that_of_trl(pairs, config, packed):
    policy, reference = model_of(0), model_of(1)
    batch = lay_out(pairs, packed=packed)
    goal = PreferenceGoal(config, frozen_copy(reference))
    total = goal.total(policy, batch.tokens, batch.targets, batch.segments)
    expected = trl(policy, reference, pairs, config)
    torch.testing.assert_close(total, expected.sum(), rtol=1e-5, atol=1e-5)
    total.backward()
    ours = [w.grad.clone() for w in policy.parameters()]
    policy.zero_grad()
    expected.sum().backward()
    torch.testing.assert_close(ours, [w.grad for w in policy.parameters()], rtol=1e-3, atol=1e-4)
    assert count_pairs(batch) == 3


class Stored(torch.nn.Module):
    """A model that has its logits written down."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.head = torch.nn.Linear(V, V, bias=False)
        self.head.weight = torch.nn.Parameter(torch.eye(V))

    def hidden(self, *_, **__):
        return self.logits


@pytest.mark.parametrize(
    ("variant", "tolerance"),
    [("dpo", 1e-6), ("length-normalised", 1e-6), ("ipo", 1e-5)],  # a square of small differences
)
def test_on_stored_logits_the_loss_is_that_of_trl_in_float64(variant, tolerance):
    rng = np.random.default_rng(1)
    for _ in range(20):
        one = pair(rng, 3, *rng.integers(1, 12, size=2).tolist())
        batch = lay_out([one], packed=False)
        shape = *batch.tokens.shape, V
        stored = [torch.from_numpy(rng.normal(0, 2, shape)).float() for _ in range(2)]
        config = PreferenceConfig(variant, 0.3)
        goal = PreferenceGoal(config, frozen_copy(Stored(stored[1])))
        found = goal.total(Stored(stored[0]), batch.tokens, batch.targets, batch.segments)
        expected = trl_of_logits(stored, one, config)
        assert found.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def trl_of_logits(stored, one, config):
    """`trl`, where both answers stand in one row of logits."""
    parts = [np.flatnonzero(one.segments == k) for k in (0, 1)]
    losses = []
    for logits in stored:  # of the policy, of the reference
        log_p = logits[0].double().log_softmax(-1)
        for at in parts:
            learned = [i for i in at if one.targets[i] != IGNORE]
            values = log_p[learned, one.targets[learned]]
            losses.append(values.sum() if config.variant == "dpo" else values.mean())
    chosen, rejected, chosen_before, rejected_before = losses
    margin = (chosen - chosen_before) - (rejected - rejected_before)
    if config.variant == "ipo":
        return ((margin - 1 / (2 * config.beta)) ** 2).item()
    return -F.logsigmoid(config.beta * margin).item()


def test_at_first_the_loss_is_ln_2_and_nothing_is_told_apart(pairs):
    policy = model_of(0)
    goal = PreferenceGoal(PreferenceConfig(), frozen_copy(model_of(0)))
    batch = lay_out(pairs, packed=True)
    total = goal.total(policy, batch.tokens, batch.targets, batch.segments)
    assert total.item() / 3 == pytest.approx(0.6931, abs=1e-4)
    sums = goal.take()
    assert sums["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert goal.take()["reward_margin"] == 0.0  # asked twice, counted once


def test_scores_count_pairs_that_are_the_right_way_round(pairs):
    policy, reference = model_of(0), model_of(1)
    goal = PreferenceGoal(PreferenceConfig(), frozen_copy(reference))
    batches = [lay_out(pairs[:2], packed=True), lay_out(pairs[2:], packed=True)]
    found = preference_scores(policy, batches, goal)
    losses = trl(policy, reference, pairs, PreferenceConfig())
    assert found.n_pairs == 3
    assert found.loss_nats == pytest.approx(losses.mean().item(), rel=1e-5)
    assert found.n_right == int((losses < 0.6931).sum())
    assert found.summed(lambda *values: tuple(2 * v for v in values)).loss_nats == found.loss_nats


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"preference\.beta = 0"):
        PreferenceConfig(beta=0)
    with pytest.raises(ConfigError, match=r"\[0, 0\.5\)"):
        PreferenceConfig(label_smoothing=0.5)


def test_a_batch_without_pairs_counts_none():
    assert count_pairs(lay_out([], packed=True)) == 0
    assert isinstance(lay_out([], packed=True), Batch)
