"""Real weights: stories260K of llama2.c says what it says there, token for token.

The reference logits and the 201 greedy ids beside the weights were made with transformers 5.23 and
with llama2.c. Tolerance 1e-4: CPU kernels differ by machine.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from scratchlm.checkpoint.folder import load_model
from scratchlm.model.cache import KVCache
from scratchlm.model.transformer import Transformer


@pytest.fixture(scope="module")
def model(shared_data: Path) -> Transformer:
    return load_model(shared_data / "models" / "stories260K" / "hf")


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> dict[str, np.ndarray]:
    with np.load(shared_data / "models" / "stories260K" / "reference_logits.npz") as stored:
        return dict(stored)


@torch.no_grad()
def test_logits_equal_the_stored_ones(model: Transformer, reference: dict[str, np.ndarray]):
    logits = model(torch.from_numpy(reference["input_ids"])[None])[0]
    torch.testing.assert_close(logits, torch.from_numpy(reference["logits"]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_greedy_text_equals_the_stored_one(model: Transformer, reference: dict[str, np.ndarray]):
    tokens = torch.tensor([[1]])
    while tokens.shape[1] < 201:
        tokens = torch.cat((tokens, model(tokens)[:, -1:].argmax(-1)), dim=1)
    assert tokens[0].tolist() == reference["greedy_ids"].tolist()


@torch.no_grad()
def test_greedy_text_with_cache_is_the_same(model: Transformer, reference: dict[str, np.ndarray]):
    cache = KVCache(model.config, batch=1, size=201)
    tokens = [1]
    while len(tokens) < 201:
        logits = model(torch.tensor([tokens[-1:]]), cache=cache)
        cache.advance(1)
        tokens.append(int(logits[0, -1].argmax()))
    assert tokens == reference["greedy_ids"].tolist()
