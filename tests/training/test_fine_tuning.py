"""Goals of fine-tuning against PyTorch's own losses, and against formulas of others."""

import pytest
import torch
from torch.nn import functional as F

from scratchlm.base.errors import ConfigError
from scratchlm.data.loader import Batch
from scratchlm.data.rows import IGNORE
from scratchlm.model.classifier import Classifier
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training import cross_entropy, fine_tuning, log_probs
from scratchlm.training.log_probs import target_log_probs
from scratchlm.training.neftune import add_noise
from scratchlm.training.objectives import next_token_total

V = 37


def model_of(seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(
        ModelConfig("llama", vocab_size=V, n_layers=2, d_model=32, n_heads=2, max_seq_len=16)
    )
    model.initialise()
    with torch.no_grad():
        model.embedding.weight.mul_(10)  # so that the logits are not all the same
    return model


@pytest.fixture
def rows():
    torch.manual_seed(1)
    tokens = torch.randint(V, (3, 12))
    targets = torch.randint(V, (3, 12))
    targets[torch.rand(3, 12) < 0.6] = IGNORE
    return tokens, targets, None


def gradients(model, goal, rows):
    model.zero_grad()
    total = goal(model, *rows)
    total.backward()
    return total.detach(), [w.grad.clone() for w in model.parameters()]


def test_answers_are_the_next_tokens(rows):
    model = model_of().train()
    ours, plain = (
        gradients(model, g, rows) for g in (fine_tuning.answers().total, next_token_total)
    )
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    goal = fine_tuning.answers()
    assert goal.count(Batch(*rows)) == int((rows[1] != IGNORE).sum())


def test_label_smoothing_is_pytorchs_and_only_in_training(rows, monkeypatch):
    monkeypatch.setattr(fine_tuning, "CHUNK_NUMBERS", 4 * V)  # several chunks
    model = model_of().train()
    tokens, targets, _ = rows
    expected = F.cross_entropy(
        model(tokens).flatten(0, 1), targets.flatten(), reduction="sum", label_smoothing=0.1
    )
    goal = fine_tuning.answers(0.1).total
    torch.testing.assert_close(goal(model, *rows), expected, rtol=1e-5, atol=1e-5)
    _, grads = gradients(model, goal, rows)
    model.zero_grad()
    expected.backward()
    torch.testing.assert_close(grads, [w.grad for w in model.parameters()], rtol=1e-4, atol=1e-5)
    model.eval()
    torch.testing.assert_close(goal(model, *rows), next_token_total(model, *rows))


def test_classes_with_weights_are_pytorchs_mean():
    model = Classifier.of(model_of(), ("a", "b", "c"), "last")
    tokens = torch.randint(V, (4, 6))
    targets = torch.full((4, 6), IGNORE)
    truth = torch.tensor([0, 2, 1, 2])
    targets[:, -1] = truth
    weights = torch.tensor([0.5, 1.0, 2.0])
    goal = fine_tuning.classes(len(weights), weights)
    mean = goal.total(model, tokens, targets, None) / goal.count(Batch(tokens, targets))
    logits = model(tokens)[:, -1]
    torch.testing.assert_close(mean, F.cross_entropy(logits, truth, weight=weights))
    assert fine_tuning.classes(3).count(Batch(tokens, targets)) == 4


def test_distillation_is_hintons_sum(rows, monkeypatch):
    monkeypatch.setattr(fine_tuning, "CHUNK_NUMBERS", 5 * V)
    student, teacher = model_of().train(), model_of(7)
    tokens, targets, _ = rows
    at = targets != IGNORE
    ours, theirs = student(tokens)[at], teacher(tokens)[at].detach()
    T, share = 2.0, 0.3
    p, q = (theirs / T).softmax(-1), (ours / T).log_softmax(-1)
    divergence = (p * (p.log() - q)).sum()
    expected = share * T * T * divergence + (1 - share) * F.cross_entropy(
        ours, targets[at], reduction="sum"
    )
    goal = fine_tuning.distillation(teacher, T, share)
    torch.testing.assert_close(goal.total(student, *rows), expected, rtol=1e-5, atol=1e-5)
    assert all(weight.grad is None for weight in teacher.parameters())
    same = fine_tuning.distillation(model_of(), T, 1.0)
    assert same.total(student, *rows).item() == pytest.approx(0, abs=1e-5)


def test_a_teacher_with_other_ids_is_refused(rows):
    other = Transformer(ModelConfig("llama", V + 1, 16, 1, 32, 2))
    other.initialise()
    with pytest.raises(ConfigError, match="38 ids, the student 37"):
        fine_tuning.distillation(other, 1.0, 0.5).total(model_of(), *rows)


@pytest.mark.parametrize("frozen", [False, True])
def test_log_probs_and_their_gradients_are_autograds(frozen, monkeypatch):
    monkeypatch.setattr(log_probs, "CHUNK_NUMBERS", 3 * V)
    hidden = torch.randn(8, 16, requires_grad=True)
    weight = torch.randn(V, 16, requires_grad=not frozen)
    targets, factor = torch.randint(V, (8,)), torch.randn(8)
    ours = target_log_probs(hidden, weight, targets)
    (ours * factor).sum().backward()
    mine = [hidden.grad.clone(), None if frozen else weight.grad.clone()]
    hidden.grad = weight.grad = None
    plain = F.linear(hidden, weight).log_softmax(-1)[torch.arange(8), targets]
    (plain * factor).sum().backward()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine, [hidden.grad, weight.grad], rtol=1e-4, atol=1e-5)
    assert log_probs.CHUNK_NUMBERS != cross_entropy.CHUNK_NUMBERS  # several chunks were made


def test_noise_on_embeddings_in_training_only():
    model = model_of()
    tokens = torch.randint(V, (2, 8))
    model.eval()
    plain = model.hidden(tokens)
    add_noise(model, 5.0)
    assert torch.equal(model.hidden(tokens), plain)
    model.train()
    embedded = model.embedding(tokens)
    noise = embedded - torch.nn.functional.embedding(tokens, model.embedding.weight)
    most = 5.0 / (8 * 32) ** 0.5
    assert 0.9 * most < noise.abs().max() <= most * 1.001
