"""A classifier has the body of a language model; it reads each text at its own end."""

import pytest
import torch

from scratchlm.model.classifier import Classifier
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer


@pytest.fixture
def base():
    torch.manual_seed(0)
    model = Transformer(
        ModelConfig("llama", vocab_size=31, n_layers=2, d_model=32, n_heads=2, max_seq_len=32)
    )
    model.initialise()
    return model.eval()


def test_the_body_is_that_of_the_language_model(base):
    model = Classifier.of(base, ("ham", "spam"), "last").eval()
    tokens = torch.randint(31, (2, 9))
    assert torch.equal(model.hidden(tokens), base.hidden(tokens))
    assert model(tokens).shape == (2, 9, 2)
    assert model.n_parameters() == base.n_parameters() + 2 * 32  # the base's head was tied


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_texts_that_share_a_row_are_scored_as_alone(base, pooling):
    model = Classifier.of(base, ("a", "b", "c"), pooling).eval()
    texts = [torch.randint(31, (n,)) for n in (5, 3, 7)]
    alone = []
    for text in texts:
        at = torch.zeros(1, len(text), dtype=torch.bool)
        at[0, -1] = True
        alone.append(model.scores(text[None], at))
    packed = torch.cat([*texts, torch.zeros(4, dtype=torch.int64)])[None]
    segments = torch.tensor([[0] * 5 + [1] * 3 + [2] * 7 + [3] * 4])
    at = torch.zeros_like(packed, dtype=torch.bool)
    at[0, [4, 7, 14]] = True
    together = model.scores(packed, at, segments)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_the_mean_is_that_of_all_states_of_the_text(base):
    model = Classifier.of(base, ("a", "b"), "mean").eval()
    tokens = torch.randint(31, (1, 6))
    at = torch.zeros(1, 6, dtype=torch.bool)
    at[0, 3] = True  # two tokens of padding behind the text
    expected = model.head(model.hidden(tokens)[:, :4].mean(dim=1))
    torch.testing.assert_close(model.scores(tokens, at), expected, rtol=1e-5, atol=1e-6)
