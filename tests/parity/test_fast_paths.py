"""Fast paths equal the plain one: packed documents and the cache give the full forward's logits.

Tolerance 1e-5 in float32: sums of up to 40 products in another order; measured here: under 3e-6.
"""

import pytest
import torch

from scratchlm.model.cache import KVCache
from scratchlm.model.transformer import Transformer

pytestmark = pytest.mark.usefixtures("_no_grad")


@pytest.fixture
def _no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(params=[torch.float32, torch.float64], ids=["sdpa", "matmul"])
def model(model: Transformer, request: pytest.FixtureRequest) -> Transformer:
    """Both kernels of `attend`: on a CPU all but float32 takes the matrix products."""
    if model.config.rope_scaling.kind == "dynamic":
        pytest.skip("its angles follow from the length of the context, which differs here")
    return model.to(request.param)


def make_cache(model: Transformer) -> KVCache:
    return KVCache(model.config, batch=3, size=40, dtype=model.embedding.weight.dtype)


def close(fast: torch.Tensor, plain: torch.Tensor) -> None:
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_packed_documents_equal_each_alone(model: Transformer, tokens: torch.Tensor):
    cuts = [(0, 5), (5, 6), (6, 20), (20, 33)]
    segments = torch.empty_like(tokens)
    for number, (start, end) in enumerate(cuts):
        segments[:, start:end] = number
    packed = model(tokens, segments=segments)
    for start, end in cuts:
        close(packed[:, start:end], model(tokens[:, start:end]))


def test_segments_may_differ_by_row(model: Transformer, tokens: torch.Tensor):
    segments = torch.zeros_like(tokens)
    segments[1, 10:] = 1
    segments[2, 30:] = 7
    packed = model(tokens, segments=segments)
    close(packed[0], model(tokens[:1])[0])
    close(packed[1, 10:], model(tokens[1:2, 10:])[0])
    close(packed[2, 30:], model(tokens[2:, 30:])[0])


@pytest.mark.parametrize("pieces", [[33], [1] * 33, [20, 1, 1, 7, 4]], ids=["all", "ones", "mixed"])
def test_cache_equals_full_forward(model: Transformer, tokens: torch.Tensor, pieces: list[int]):
    cache = make_cache(model)
    logits, start = [], 0
    for n in pieces:
        logits.append(model(tokens[:, start : start + n], cache=cache))
        cache.advance(n)
        start += n
    close(torch.cat(logits, dim=1), model(tokens))


def test_cache_of_uneven_lengths_equals_each_alone(model: Transformer, tokens: torch.Tensor):
    """Prompts padded on the right, then token by token, one row growing by two at a time."""
    lengths = torch.tensor([9, 4, 1])
    cache = make_cache(model)
    plain = [model(tokens[i : i + 1])[0] for i in range(3)]
    logits = model(tokens[:, :9], cache=cache)
    for row, n in enumerate(lengths):
        close(logits[row, :n], plain[row][:n])
    cache.advance(lengths)
    for counts in ([1, 1, 1], [2, 1, 2], [1, 3, 3], [1, 3, 3], [1, 3, 7], [4, 4, 4]):
        steps = torch.tensor(counts)
        T = int(steps.max())
        chunk = torch.zeros(3, T, dtype=torch.int64)  # padding is token 0
        for row, n in enumerate(counts):
            at = int(cache.lengths[row])
            chunk[row, :n] = tokens[row, at : at + n]
        logits = model(chunk, cache=cache)
        for row, n in enumerate(counts):
            at = int(cache.lengths[row])
            close(logits[row, :n], plain[row][at : at + n])
        cache.advance(steps)
    assert cache.longest == int(cache.lengths.max())


def test_cache_becomes_even_again_and_rows_can_be_chosen(model: Transformer, tokens: torch.Tensor):
    cache = make_cache(model)
    model(tokens[:, :8], cache=cache)
    cache.advance(torch.tensor([8, 5, 8]))
    cache.select(torch.tensor([2, 0, 0]))  # the uneven row goes
    rows = tokens[[2, 0, 0]]
    logits = model(rows[:, 8:12], cache=cache)
    close(logits, model(rows[:, :12])[:, 8:])
    cache.advance(torch.tensor([4, 2, 4]))
    cache.select(torch.tensor([1]))
    close(model(rows[1:2, 10:20], cache=cache), model(rows[1:2, :20])[:, 10:])
