"""Small random models, and their files in the formats of other programs."""

import pytest
import torch

from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer

SIZES = {"vocab_size": 300, "max_seq_len": 64, "n_layers": 2, "d_model": 64, "n_heads": 4}


def _make_model(**changes) -> Transformer:
    """Weights far from their start, norms and biases too."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{**SIZES, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1.0 if weight.ndim == 1 else 0.0, 0.2)
    return model.eval()


@pytest.fixture(scope="session")
def make_model():
    """Makes a random model of the small sizes, changed as it is told."""
    return _make_model


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 300, (2, 31), generator=torch.Generator().manual_seed(1))
