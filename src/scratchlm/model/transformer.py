"""The one model: a decoder-only transformer whose parts are chosen by its family.

    tokens (B, T) -> embedding (B, T, D) -> n_layers x Block (B, T, D) -> norm -> logits (B, T, V)

Families differ in data only (`model/config.py`): there is no decision by name here. Weights keep
the dtype they were made or loaded in; `compute_dtype` is what they are multiplied in, so that
training in bfloat16 keeps float32 weights and needs no autocast.
"""

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scratchlm.model import functional
from scratchlm.model.attention import Where, attend, fused
from scratchlm.model.cache import KVCache
from scratchlm.model.config import ModelConfig
from scratchlm.model.experts import Experts
from scratchlm.model.functional import Angles
from scratchlm.model.rope import frequencies
from scratchlm.native import ops


class Linear(nn.Linear):
    """`nn.Linear` that multiplies in the dtype of its input, whatever its weights are kept in."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Embedding(nn.Embedding):
    """`nn.Embedding` that draws nothing on the meta device, where drawing takes over a second."""

    def reset_parameters(self) -> None:
        """Draw the rows anew, in place, if there are any to draw."""
        if not self.weight.is_meta:
            super().reset_parameters()


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size); the mean is taken in float32."""
        return functional.rms_norm(x, self.weight, self.eps)


class RMSNorm1(RMSNorm):
    """RMSNorm times 1 + weight, as Gemma has it: the weight is what was learned beyond 1."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__(size, eps)
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size); all of it in float32."""
        return functional.rms_norm(x.float(), 1.0 + self.weight.float(), self.eps).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` in the dtype of its input (arXiv:1607.06450)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return functional.layer_norm(x, self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Causal self-attention with grouped key/value heads (arXiv:2305.13245).

    local    its tokens see a window
    """

    def __init__(self, config: ModelConfig, *, local: bool) -> None:
        super().__init__()
        parts = config.parts
        d_q, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.d_head, self.local = config.d_head, local
        self.query_scale = (config.d_head / config.query_scalar) ** 0.5
        self.drop = config.dropout
        self.q = Linear(config.d_model, d_q, bias=parts.bias != "none")
        self.k = Linear(config.d_model, d_kv, bias=parts.bias != "none")
        self.v = Linear(config.d_model, d_kv, bias=parts.bias != "none")
        self.out = Linear(d_q, config.d_model, bias=parts.bias == "all")
        norm = NORMS[parts.norm]
        self.q_norm = norm(config.d_head, config.norm_eps) if parts.qk_norm else None
        self.k_norm = norm(config.d_head, config.norm_eps) if parts.qk_norm else None

    def forward(self, x: Tensor, where: Where, cache: KVCache | None, layer: int) -> Tensor:
        """(B, T, D) -> (B, T, D); `cache` is read and extended, at `layer`."""
        B, T, _ = x.shape
        where = where.local if self.local and where.local else where
        q = self._place(self.q(x).view(B, T, -1, self.d_head), self.q_norm, where)  # (B, T, H, Dh)
        k = self._place(self.k(x).view(B, T, -1, self.d_head), self.k_norm, where)  # (B, T, K, Dh)
        v = self.v(x).view(B, T, -1, self.d_head)  # (B, T, K, Dh)
        if self.query_scale != 1.0:
            q = q * self.query_scale
        if cache is not None:
            k, v = cache.extend(layer, k.transpose(1, 2), v.transpose(1, 2))  # (B, K, S, Dh)
            k, v = k.transpose(1, 2), v.transpose(1, 2)  # (B, S, K, Dh)
        y = attend(q, k, v, where, drop=self.drop if self.training else 0.0)  # (B, T, H, Dh)
        return self.out(y.reshape(B, T, -1))  # (B, T, D)

    @staticmethod
    def _place(x: Tensor, norm: nn.Module | None, where: Where) -> Tensor:
        if isinstance(norm, RMSNorm1):
            return functional.place_heads(norm(x), None, 0.0, where.angles)
        if isinstance(norm, RMSNorm):
            return functional.place_heads(x, norm.weight, norm.eps, where.angles)
        return functional.place_heads(x, None, 0.0, where.angles)


class GELUFeedForward(nn.Module):
    """W2 gelu(W1 x) (arXiv:1606.08415); GPT-2 has GELU in its tanh form."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gelu = F.gelu if config.exact_gelu else functional.gelu
        self.up = Linear(config.d_model, config.d_ff, bias=config.parts.bias == "all")
        self.down = Linear(config.d_ff, config.d_model, bias=config.parts.bias == "all")

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down(self.gelu(self.up(x)))


class GatedFeedForward(nn.Module):
    """W2 (f(Wg x) * W1 x) (arXiv:2002.05202): f is SiLU in Llama, GELU in Gemma."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gated = functional.GATES[config.parts.ffn]
        self.gate = Linear(config.d_model, config.d_ff, bias=False)
        self.up = Linear(config.d_model, config.d_ff, bias=False)
        self.down = Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down(self.gated(self.gate(x), self.up(x)))


NORMS = {"layernorm": LayerNorm, "rmsnorm": RMSNorm, "rmsnorm1": RMSNorm1}
FFNS = {"gelu": GELUFeedForward, "swiglu": GatedFeedForward, "geglu": GatedFeedForward}


class Block(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x)); in some families with norms behind both."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        parts = config.parts
        norm, ffn = NORMS[parts.norm], FFNS[parts.ffn]
        self.drop = config.dropout
        self.attention_norm = norm(config.d_model, config.norm_eps)
        self.attention = Attention(config, local=config.is_local(layer))
        self.ffn_norm = norm(config.d_model, config.norm_eps)
        self.ffn = Experts(config, ffn) if parts.experts else ffn(config)
        self.after_attention = self.after_ffn = nn.Identity()
        if parts.after_norms:
            self.after_attention = norm(config.d_model, config.norm_eps)
            self.after_ffn = norm(config.d_model, config.norm_eps)

    def forward(self, x: Tensor, where: Where, cache: KVCache | None, layer: int) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y = self.attention(self.attention_norm(x), where, cache, layer)
        x = x + self._dropped(self.after_attention(y))
        return x + self._dropped(self.after_ffn(self.ffn(self.ffn_norm(x))))

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.drop) if self.training and self.drop else x


class Transformer(nn.Module):
    """A decoder-only language model.

    config         its shape; `config.vocab_size` must be set
    compute_dtype  what activations are; None: the dtype of the weights
    recompute      in training, keep only what enters each block and compute the rest again in the
                   backward pass (activation checkpointing, arXiv:1604.06174)
    """

    inv_freq: Tensor  # (Dh/2,) radians per position
    local_inv_freq: Tensor  # the same in local layers that have angles of their own

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.vocab_size > 0, "the caller sets vocab_size from the tokenizer"
        config = config.resolved()
        parts = config.parts
        self.config = config
        self.compute_dtype: torch.dtype | None = None
        self.recompute = False
        self.embedding = Embedding(config.vocab_size, config.d_model)
        if parts.position == "learned":
            self.positions = Embedding(config.max_seq_len, config.d_model)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = NORMS[parts.norm](config.d_model, config.norm_eps)
        self.head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        inv_freq, self._angle_factor = frequencies(
            config.d_head, config.rope_theta, config.rope_scaling
        )
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        if config.local_rope_theta:
            local, _ = frequencies(config.d_head, config.local_rope_theta)
            self.register_buffer("local_inv_freq", local, persistent=False)

    def forward(
        self, tokens: Tensor, *, segments: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Logits of the token after each one: `tokens` (B, T) int64 -> (B, T, V).

        segments   (B, T) int64 or None: tokens see only tokens of their own number
        cache      read and extended by T tokens; the caller then calls `cache.advance`
        """
        return self.head(self.hidden(tokens, segments=segments, cache=cache))

    def hidden(
        self, tokens: Tensor, *, segments: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """What the head reads: (B, T) int64 -> (B, T, D) after the last norm."""
        dtype = self.compute_dtype or self.embedding.weight.dtype
        positions = self._positions(tokens, segments, cache)
        x = self.embedding(tokens)  # (B, T, D)
        if self.config.parts.scaled_embedding:
            scale = torch.tensor(self.config.d_model**0.5, dtype=x.dtype)  # rounded as theirs is
            x = x * scale.item()
        if self.config.parts.position == "learned":
            x = x + self.positions(positions)
        x = x.to(dtype)
        if self.training and self.config.dropout:
            x = functional.dropout(x, self.config.dropout)
        where = self._where(x, positions, segments, cache)
        again = self.recompute and self.training and torch.is_grad_enabled()
        for layer, block in enumerate(self.blocks):
            if again:
                x = checkpoint(block, x, where, cache, layer, use_reentrant=False)
            else:
                x = block(x, where, cache, layer)
        return self.norm(x)

    def _positions(self, tokens: Tensor, segments: Tensor | None, cache: KVCache | None) -> Tensor:
        """(B or 1, T) int64: counted from the start of each segment, or after the cache."""
        if cache is not None:
            return cache.positions(tokens.shape[1])
        steps = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)
        if segments is None:
            return steps
        starts = torch.ones_like(segments, dtype=torch.bool)
        starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
        return steps - (steps * starts).cummax(dim=1).values

    def _where(
        self, x: Tensor, positions: Tensor, segments: Tensor | None, cache: KVCache | None
    ) -> Where:
        angles = None
        if self.config.parts.position == "rope":
            angles = self._angles(x, positions, self._inv_freq(positions), self._angle_factor)
        local = None
        if self.config.window:
            mask = self._window_mask(x, segments, cache)
            turned = angles
            if self.config.local_rope_theta:
                turned = self._angles(x, positions, self.local_inv_freq, 1.0)
            local = Where(turned, False, None, mask)
        if cache is not None:
            return Where(angles, False, None, cache.mask(x.shape[1]), local)
        if segments is None or fused(x, self.config.d_head):
            return Where(angles, True, segments, None, local)
        same = segments[:, None, :, None] == segments[:, None, None, :]  # (B, 1, T, T)
        return Where(angles, True, segments, same.tril(), local)

    def _window_mask(self, x: Tensor, segments: Tensor | None, cache: KVCache | None) -> Tensor:
        """(B or 1, 1, T, S) bool: the last `window` tokens of the same segment."""
        T = x.shape[1]
        S = T if cache is None else cache.longest + T
        here = torch.arange(T, device=x.device)[None] if cache is None else cache.positions(T)
        back = here[:, None, :, None] - torch.arange(S, device=x.device)  # (B or 1, 1, T, S)
        mask = (back >= 0) & (back < self.config.window)
        if segments is not None:
            mask = mask & (segments[:, None, :, None] == segments[:, None, None, :])
        return mask

    def _inv_freq(self, positions: Tensor) -> Tensor:
        """Radians per position; of a context that is longer than the trained one, its own."""
        c = self.config
        if c.rope_scaling.kind != "dynamic":
            return self.inv_freq
        length = int(positions.max()) + 1
        return frequencies(c.d_head, c.rope_theta, c.rope_scaling, length)[0].to(positions.device)

    @staticmethod
    def _angles(x: Tensor, positions: Tensor, inv_freq: Tensor, factor: float) -> Angles:
        dtype = torch.float32 if ops.usable(x) else x.dtype
        phase = (positions[..., None].float() * inv_freq)[:, :, None]  # (B, T, 1, Dh/2)
        return (phase.cos() * factor).to(dtype), (phase.sin() * factor).to(dtype)

    def balance_loss(self) -> Tensor | None:
        """How unevenly the last forward pass in training used the experts, times its weight."""
        experts = [block.ffn for block in self.blocks if isinstance(block.ffn, Experts)]
        layers = [one.balance for one in experts if one.balance is not None]
        if not layers or not self.config.balance:
            return None
        return self.config.balance * torch.stack(layers).mean()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw every weight anew, in place.

        init = "paper"   normal(0, .02); output projections of each block divided by
                         sqrt(2 n_layers) (GPT-2, section 2.3; Llama and Qwen publish no other)
        init = "zero"    hidden matrices uniform with variance 1 / fan-in, output projections and an
                         untied head zero, so that each block starts as the identity, which a larger
                         learning rate and Muon like (arXiv:2203.03466)
        """
        zero = self.config.init == "zero"
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.ndim == 1:
                weight.fill_(0.0 if self.config.parts.norm == "rmsnorm1" else 1.0)
            elif name.endswith(("out.weight", "down.weight")):
                std = 0.0 if zero else 0.02 / math.sqrt(2 * self.config.n_layers)
                weight.normal_(0.0, std, generator=generator)
            elif name.startswith("blocks.") and zero:
                bound = math.sqrt(3 / weight.shape[1])
                weight.uniform_(-bound, bound, generator=generator)
            else:
                std = 0.0 if zero and name == "head.weight" else 0.02
                weight.normal_(0.0, std, generator=generator)

    def bare(self) -> "Transformer":
        """A model of the same shape without numbers."""
        with torch.device("meta"):
            return Transformer(self.config)

    def set_dropout(self, p: float) -> None:
        """Zero a share `p` of activations in training from now on (a loaded model has none)."""
        self.config = dataclasses.replace(self.config, dropout=p)
        for module in self.modules():
            if isinstance(module, (Attention, Block)):
                module.drop = p

    def n_parameters(self) -> int:
        """How many numbers are learned; a tied matrix counts once."""
        return sum(weight.numel() for weight in self.parameters())

    def flops_per_token(self, T: int) -> float:
        """Floating-point operations of one training token at context T, forward and backward.

        Six for each weight of a matrix product, and 12 n_layers n_heads Dh T for attention, counted
        whole (arXiv:2204.02311, appendix B). A frozen weight takes four, or two where nothing below
        it learns, so that no gradient flows back through it. The embedding look-up is free, and so
        are experts that the token does not pass through.
        """
        c = self.config
        attention = 2 * c.n_heads * c.d_head * T  # forward, of one block
        learns = any(weight.requires_grad for weight in self.embedding.parameters())
        flops = 0.0
        for part in (*self.blocks, self.head):
            learns |= any(weight.requires_grad for weight in part.parameters())
            flops += _matrix_flops(part, c, learns)
            if part is not self.head:
                flops += attention * (6 if learns else 2)
        return flops


def _matrix_flops(part: nn.Module, config: ModelConfig, learns: bool) -> float:
    """Operations of one token in the matrix products of a block or of the head.

    learns   whether a gradient flows back through it
    """
    flops = 0.0
    for name, layer in part.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        weights = [w for w in layer.parameters() if w.ndim == 2]
        base = layer.in_features * layer.out_features  # also where it is packed in 4 bits
        n = base + sum(w.numel() for w in weights if w is not layer.weight)
        trained = sum(w.numel() for w in weights if w.requires_grad)
        share = config.n_active / config.n_experts if ".experts." in name else 1.0
        flops += share * ((4 if learns else 2) * n + 2 * trained)
    return flops
