"""Sampling: equal to transformers' processors, honest draws, clear refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scratchlm.base.errors import ConfigError
from scratchlm.generation import sampling as ours
from scratchlm.generation.sampling import Sampling, choose, generator_of, processors, sampling_of

HISTORY = [[3, 5, 5, 60], [1, 2, 3, 4], [9, 9, 9, 9]]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) * 3


def theirs(name: str, **settings: Any) -> Any:
    return getattr(pytest.importorskip("transformers.generation.logits_process"), name)(**settings)


@pytest.mark.parametrize("k", [1, 7, 200, 1000])
def test_top_k_matches_transformers(logits: Tensor, k: int) -> None:
    expected = theirs("TopKLogitsWarper", top_k=k)(torch.tensor(HISTORY), logits)
    assert torch.equal(ours.keep_top_k(logits, HISTORY, k=k), expected)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_matches_transformers(logits: Tensor, p: float) -> None:
    expected = theirs("TopPLogitsWarper", top_p=p)(torch.tensor(HISTORY), logits)
    assert torch.equal(ours.keep_top_p(logits, HISTORY, p=p), expected)


@pytest.mark.parametrize("p", [0.001, 0.05, 0.5, 1.0])
def test_min_p_matches_transformers(logits: Tensor, p: float) -> None:
    expected = theirs("MinPLogitsWarper", min_p=p)(torch.tensor(HISTORY), logits)
    assert torch.equal(ours.keep_min_p(logits, HISTORY, p=p), expected)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_repetition_penalty_matches_transformers(logits: Tensor, penalty: float) -> None:
    processor = theirs("RepetitionPenaltyLogitsProcessor", penalty=penalty)
    expected = processor(torch.tensor(HISTORY), logits.clone())
    before = logits.clone()
    assert torch.equal(ours.penalise_repetition(logits, HISTORY, penalty=penalty), expected)
    assert torch.equal(logits, before), "the caller's logits were changed"


def test_the_whole_chain_matches_transformers(logits: Tensor) -> None:
    ids = torch.tensor(HISTORY)
    expected = theirs("RepetitionPenaltyLogitsProcessor", penalty=1.2)(ids, logits.clone())
    expected = theirs("TemperatureLogitsWarper", temperature=0.7)(ids, expected)
    expected = theirs("TopKLogitsWarper", top_k=50)(ids, expected)
    expected = theirs("TopPLogitsWarper", top_p=0.8)(ids, expected)
    expected = theirs("MinPLogitsWarper", min_p=0.02)(ids, expected)
    settings = Sampling(temperature=0.7, top_k=50, top_p=0.8, min_p=0.02, repetition_penalty=1.2)
    for process in processors(settings):
        logits = process(logits, HISTORY)
    assert torch.equal(logits, expected)


def test_draws_follow_the_probabilities() -> None:
    n = 20_000
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -torch.inf]])
    settings = Sampling(temperature=1.0)
    generators = [generator_of(7, i) for i in range(n)]
    chosen = choose(logits.expand(n, -1), [[]] * n, settings, generators)
    shares = torch.bincount(chosen, minlength=5) / n
    # Five standard deviations of the mean of n draws are below .018.
    torch.testing.assert_close(shares, logits[0].softmax(-1), rtol=0, atol=0.018)
    assert shares[4] == 0


def test_greedy_takes_the_likeliest_whatever_the_filters(logits: Tensor) -> None:
    settings = Sampling(temperature=0, top_k=3, top_p=0.1)
    assert choose(logits, HISTORY, settings, []).tolist() == logits.argmax(-1).tolist()


def test_generators_differ_by_seed_and_sample_and_repeat() -> None:
    def first(seed: int, sample: int) -> float:
        return torch.rand(1, generator=generator_of(seed, sample)).item()

    numbers = {first(seed, sample) for seed in (0, 1, 2**63) for sample in range(50)}
    assert len(numbers) == 150
    assert first(1, 3) == first(1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens = 0 must be at least 1"),
        ({"temperature": -0.1}, "temperature = -0.1 must be 0 or a positive number"),
        ({"temperature": float("nan")}, "temperature = nan must be"),
        ({"top_k": -1}, "top_k = -1 must be 0"),
        ({"top_p": 0}, "top_p = 0.0 must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p = 1.5 must be"),
        ({"min_p": 2}, "min_p = 2.0 must be from 0"),
        ({"repetition_penalty": 0}, "repetition_penalty = 0.0 must be positive"),
        ({"seed": -1}, "seed = -1 must be 0 or"),
        ({"stop": ""}, "stop = \\(''(,)?\\) must be strings of at least one character"),
        ({"temprature": 1}, "unknown setting temprature. Did you mean temperature"),
        ({"top_k": "many"}, "top_k = 'many' is not of type int"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampling_of(settings)


def test_a_single_stop_string_needs_no_list() -> None:
    assert sampling_of({"stop": "END"}).stop == ("END",)
    assert sampling_of({"stop": ["a", "b"]}).stop == ("a", "b")
