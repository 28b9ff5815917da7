"""Both ways of attention must be the same function, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from scratchlm.model import attention
from scratchlm.model.attention import Where, attend


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("kind", ["causal", "mask", "all"])
def test_matmul_equals_sdpa(kv_heads, kind):
    g = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 8, 16, generator=g, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, 8, 16, generator=g, requires_grad=True) for _ in range(2))
    mask = torch.rand(2, 1, 8, 8, generator=g) > 0.4 if kind == "mask" else None
    if mask is not None:
        mask = mask | torch.eye(8, dtype=torch.bool)
    causal = kind == "causal"
    ours = attention._by_matmul(q, k, v, mask, causal=causal, drop=0.0)
    theirs = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=kv_heads != 4
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    direction = torch.randn(ours.shape, generator=g)
    mine = torch.autograd.grad((ours * direction).sum(), (q, k, v))
    reference = torch.autograd.grad((theirs * direction).sum(), (q, k, v))
    for a, b in zip(mine, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_on_a_cpu_takes_the_products_up_to_the_measured_length(monkeypatch):
    taken = []
    monkeypatch.setattr(attention, "fused", lambda *_: False)
    monkeypatch.setattr(
        attention, "_by_matmul", lambda q, *_a, **_k: taken.append(q.shape) or q.clone()
    )
    for length, dtype in [(16, torch.bfloat16), (16, torch.float32), (600, torch.bfloat16)]:
        x = torch.randn(1, length, 1, 8, dtype=dtype)
        attend(x, x, x, Where(None, True, None, None), drop=0.0)
    assert taken == [(1, 1, 16, 8)]
