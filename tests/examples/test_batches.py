"""Examples in batches: each once an epoch, and the same steps however they lie in rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import DataError
from scratchlm.data.rows import IGNORE
from scratchlm.examples.batches import ExampleLoader, lay_out
from scratchlm.examples.encode import Example
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training import fine_tuning
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig, Trainer

V = 30


def examples_of(n: int, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        length = int(rng.integers(2, 20))
        targets = rng.integers(V, size=length)
        targets[: length // 2] = IGNORE
        made.append(Example(rng.integers(V, size=length), targets, f"file:{i + 1}"))
    return made


def found(batch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The examples in a batch, read back from its segments."""
    back = []
    for tokens, targets, segments in zip(batch.tokens, batch.targets, batch.segments):
        for number in segments.unique():
            at = segments == number
            if (targets[at] != IGNORE).any():
                back.append((tuple(tokens[at].tolist()), tuple(targets[at].tolist())))
    return sorted(back)


def plain(examples) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return sorted((tuple(e.tokens.tolist()), tuple(e.targets.tolist())) for e in examples)


@settings(deadline=None)
@given(st.integers(1, 40), st.booleans())
def test_a_batch_holds_its_examples_whole(n, packed):
    some = examples_of(n, seed=n)
    batch = lay_out(some, packed=packed)
    assert found(batch) == plain(some)
    assert len(batch.tokens) <= n
    assert (batch.segments.diff(dim=1) >= 0).all()  # parts lie side by side


def test_packing_takes_fewer_rows():
    some = examples_of(40)
    packed, padded = lay_out(some, packed=True), lay_out(some, packed=False)
    assert len(padded.tokens) == 40
    assert packed.tokens.numel() < 0.7 * padded.tokens.numel()


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 7), st.integers(0, 3))
def test_an_epoch_has_each_example_once(n, size, seed):
    some = examples_of(n)
    loader = ExampleLoader(some, size, seed=seed)
    places = [i for k in range(2 * n) for i in loader._places(k)]
    for epoch in range(2):
        assert sorted(places[epoch * n : (epoch + 1) * n]) == list(range(n))
    first, second = places[:n], places[n : 2 * n]
    assert n < 8 or first != second


def test_held_out_examples_come_once_in_order():
    some = examples_of(10)
    loader = ExampleLoader(some, 4, train=False)
    assert loader.n_batches == 3
    assert sorted(x for batch in loader.batches() for x in found(batch)) == plain(some)
    with pytest.raises(IndexError, match="no batch 3"):
        loader.batch(3)


def test_ranks_share_a_batch():
    some = examples_of(13)
    whole = ExampleLoader(some, 6, seed=1)
    parts = [ExampleLoader(some, 6, seed=1, rank=r, world_size=3) for r in range(3)]
    for n in range(5):
        assert found(whole.batch(n)) == sorted(x for part in parts for x in found(part.batch(n)))
    last = ExampleLoader(some, 6, train=False, rank=2, world_size=3).batch(2)
    assert found(last) == []  # one example is left, and it is another's


def test_no_examples_is_an_error():
    with pytest.raises(DataError, match="no examples"):
        ExampleLoader([], 4)


def losses(some, *, packed: bool, micro_batch: int, accumulate: int) -> list[float]:
    torch.manual_seed(0)
    model = Transformer(ModelConfig("llama", V, 32, 2, 32, 2))
    model.initialise()
    loader = ExampleLoader(some, micro_batch, packed=packed)
    kept: list[float] = []
    Trainer(
        model,
        loader.batches,
        TrainConfig(steps=25, micro_batch=micro_batch, accumulate=accumulate, precision="float32"),
        OptimConfig(lr=3e-3, beta2=0.999),
        ScheduleConfig("constant"),
        seq_len=32,
        goal=fine_tuning.answers(),
        hooks=[(1, lambda t: kept.append(t.last.loss_nats))],
    ).run()
    return kept


def test_packed_padded_and_micro_batched_runs_have_one_loss_curve():
    some = examples_of(50)
    packed = losses(some, packed=True, micro_batch=8, accumulate=1)
    assert packed[-1] < packed[0]
    for other in (
        losses(some, packed=False, micro_batch=8, accumulate=1),
        losses(some, packed=True, micro_batch=2, accumulate=4),
        losses(some, packed=False, micro_batch=1, accumulate=8),
    ):
        np.testing.assert_allclose(other, packed, rtol=0, atol=1e-5)


def test_the_better_answer_has_an_even_segment():
    def pair(n: int) -> Example:
        parts = np.repeat([0, 1], [n // 2, n - n // 2])
        return Example(np.where(parts == 0, 1, 2), np.full(n, 5), "here", parts)

    batch = lay_out([pair(14), pair(6), pair(6)], packed=True)
    assert len(batch.tokens) == 2  # the short ones share a row
    learned = batch.targets != IGNORE
    assert (batch.segments[learned] % 2 == batch.tokens[learned] - 1).all()
    assert batch.segments[1].unique().tolist() == [0, 1, 2, 3, 4]  # the last one is padding
