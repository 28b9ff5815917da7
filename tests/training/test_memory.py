"""The memory formula: against what autograd really keeps, and against a measured peak."""

import dataclasses

import pytest
import torch

from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.native import library
from scratchlm.training.memory import Memory, StepShape, kernels_serve, step_memory

B, V = 8, 300


def config(family: str, *, dropout: float = 0.0, n_layers: int = 2) -> ModelConfig:
    n_kv_heads = 0 if family == "gpt2" else 2
    return ModelConfig(family, V, 600, n_layers, 64, 4, n_kv_heads, dropout=dropout)


def kept_by_autograd(shape: ModelConfig, T: int, dtype: torch.dtype) -> int:
    """Bytes of all tensors, other than weights, that a forward pass keeps for the backward one."""
    model = Transformer(shape)
    model.initialise()
    model.train()
    model.compute_dtype = dtype
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens = torch.randint(V, (B, T))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.hidden(tokens)
    kept[hidden.data_ptr()] = hidden
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    ("dtype", "kernels", "T"),
    [
        (torch.bfloat16, True, 64),
        (torch.bfloat16, False, 64),  # attention by two products
        (torch.bfloat16, False, 600),  # by SDPA
        (torch.float32, False, 64),
    ],
)
def test_activations_are_what_autograd_keeps(family, dropout, dtype, kernels, T, monkeypatch):
    if not kernels:
        monkeypatch.setattr(library, "library", lambda: None)
    elif not kernels_serve("cpu", dtype, compiled=False):
        pytest.skip("our kernels were not built here")
    shape = config(family, dropout=dropout)
    memory = step_memory(shape, StepShape(B, T, dtype=dtype, kernels=kernels))
    kept = kept_by_autograd(shape, T, dtype)
    assert memory.moment == "at the loss"
    # Small tensors are left out: angles, copies of norms' weights, ids, and key heads that
    # PyTorch's plain attention repeats.
    assert memory.activations + memory.copies == pytest.approx(kept, rel=0.03)


def test_weights_gradients_and_states_are_counted_by_the_parameter():
    shape = config("qwen3")
    with torch.device("meta"):
        model = Transformer(shape)
    P = model.n_parameters()
    hidden = sum(weight.numel() for weight in model.blocks.parameters() if weight.ndim == 2)
    adamw = step_memory(shape, StepShape(B, 64, accumulate=2))
    muon = step_memory(shape, StepShape(B, 64, accumulate=2, optimizer="muon"))
    assert adamw.weights == adamw.gradients == 4 * P
    assert adamw.optimizer == 8 * P
    assert muon.optimizer == 8 * P - 4 * hidden


def test_parts_sum_up_and_shards_have_their_share():
    whole = step_memory(config("llama"), StepShape(B, 64, accumulate=2, device="cuda"))
    half = step_memory(
        config("llama"), StepShape(B, 64, accumulate=2, device="cuda", shard=2, states=2)
    )
    assert whole.total == sum(v for v in dataclasses.asdict(whole).values() if isinstance(v, int))
    assert whole.process == whole.holes == 0  # of a GPU's memory, tensors are counted
    assert half.weights == whole.weights // 2
    assert half.activations == whole.activations


def test_recomputing_keeps_one_block_at_a_time():
    def memory(n_layers: int, *, recompute: bool) -> Memory:
        return step_memory(
            config("llama", n_layers=n_layers), StepShape(64, 64, recompute=recompute)
        )

    assert memory(8, recompute=True).activations < memory(8, recompute=False).activations / 3
    more = memory(9, recompute=True).activations - memory(8, recompute=True).activations
    assert more == 64 * 64 * 64 * 4  # what enters a block


def test_the_peak_moves_with_the_shape():
    def moment(**step: object) -> str:
        return step_memory(config("gpt2"), StepShape(**{"seq_len": 64, **step})).moment

    assert moment(micro_batch=64) == "at the loss"
    assert moment(micro_batch=1, seq_len=1) == "after the backward pass"
    assert isinstance(step_memory(config("gpt2"), StepShape(1, 1)), Memory)
