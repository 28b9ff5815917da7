"""Held-out loss: each target once, dropout off, bits per byte as defined."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scratchlm.data.loader import Batch
from scratchlm.data.rows import IGNORE
from scratchlm.evaluation.loss import held_out_loss
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer


def make_model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(
        ModelConfig(vocab_size=30, n_layers=1, d_model=16, n_heads=2, max_seq_len=8, dropout=0.5)
    )
    model.initialise()
    return model.train()


def make_batches() -> list[Batch]:
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 30, (3, 2, 9), generator=g)
    targets = ids[:, :, 1:].clone()
    targets[2, 1, 3:] = IGNORE
    return [Batch(i[:, :-1], t) for i, t in zip(ids, targets, strict=True)]


def test_the_sum_is_over_all_targets_whatever_the_batches():
    model, batches = make_model(), make_batches()
    result = held_out_loss(model, batches)
    tokens = torch.cat([b.tokens for b in batches])
    targets = torch.cat([b.targets for b in batches])
    expected = F.cross_entropy(
        model.eval()(tokens).flatten(0, 1), targets.flatten(), ignore_index=IGNORE
    )
    assert result.loss_nats == pytest.approx(expected.item(), rel=1e-6)
    assert result.n_targets == 3 * 2 * 8 - 5
    assert result.bits_per_byte is None
    assert held_out_loss(model, [Batch(tokens, targets)]).nats == pytest.approx(result.nats)


def test_the_model_trains_on_as_before():
    model = make_model()
    held_out_loss(model, make_batches())
    assert model.training


def test_bits_per_byte_counts_the_bytes_of_the_targets():
    model, batches = make_model(), make_batches()
    lengths = np.arange(30)
    result = held_out_loss(model, batches, lengths)
    kept = torch.cat([b.targets[b.targets != IGNORE] for b in batches])
    assert result.n_bytes == int(kept.sum())
    assert result.bits_per_byte == pytest.approx(result.nats / math.log(2) / result.n_bytes)
