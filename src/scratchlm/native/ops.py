"""The kernels as differentiable PyTorch functions, for bfloat16 on a CPU.

Each is equal, up to the rounding of bfloat16, to the PyTorch code beside its call in `model/` and
`training/`, which stays the reference and serves everywhere else.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scratchlm.native import library as lib

CHUNK = 32  # rows that kernels/pointwise.h does in one task


def available(device: torch.device) -> bool:
    """Whether the kernels can run there: built, on the CPU, not inside torch.compile."""
    return device.type == "cpu" and not torch.compiler.is_compiling() and lib.library() is not None


def usable(x: Tensor) -> bool:
    """Whether the kernels can take x: `available`, and bfloat16."""
    return x.dtype == torch.bfloat16 and available(x.device)


def _run(name: str, arguments: ctypes.Structure) -> None:
    kernels = lib.library()
    assert kernels is not None, "the caller asked `usable`"
    kernels.run(name, arguments, torch.get_num_threads())


def _at(x: Tensor | None) -> int | None:
    """The address of a packed tensor."""
    assert x is None or x.is_contiguous()
    return None if x is None else x.data_ptr()


def _float32(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.detach().to(torch.float32).contiguous()


def draw_seed() -> int:
    """32 random bits from torch's default generator, so that a resumed run draws the same."""
    return int(torch.randint(2**32, (), dtype=torch.int64))


def attention(q: Tensor, k: Tensor, v: Tensor, segments: Tensor | None, drop: float) -> Tensor:
    """Causal attention: softmax(q k / sqrt(Dh)) v, and its gradient, without (T, T) in memory.

    q         (B, T, H, Dh)   Dh even
    k, v      (B, T, K, Dh)   K divides H
    segments  (B, T) int64 or None: tokens see only tokens of their own number
    drop      share of the weights zeroed
    returns   (B, T, H, Dh)
    """
    small = None if segments is None else segments.to(torch.int32).contiguous()
    seed = draw_seed() if drop else 0
    out: Tensor = _Attention.apply(
        q.contiguous(), k.contiguous(), v.contiguous(), small, drop, seed
    )
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, segments: Tensor | None, drop: float, seed: int
    ) -> Tensor:
        B, T, H, Dh = q.shape
        out, lse = torch.empty_like(q), torch.empty(B, H, T)
        ctx.settings = {
            "B": B,
            "T": T,
            "H": H,
            "K": k.shape[2],
            "D": Dh,
            "seed": seed,
            "drop": drop,
        }
        ctx.save_for_backward(q, k, v, segments, out, lse)
        _run("attention_forward", _attention(ctx.settings, ctx.to_save))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: recomputed activations are given out only once
        d_out = d_out.contiguous()
        dq, dk, dv = (torch.empty_like(x) for x in saved[:3])
        arguments = _attention(ctx.settings, saved)
        arguments.d_out, arguments.dq = _at(d_out), _at(dq)
        arguments.dk, arguments.dv = _at(dk), _at(dv)
        _run("attention_backward", arguments)
        return dq, dk, dv, None, None, None


def _attention(settings: dict[str, Any], tensors: tuple[Tensor | None, ...]) -> Any:
    names = ("q", "k", "v", "segments", "out", "lse")
    return lib.Attention(**settings, **dict(zip(names, map(_at, tensors), strict=True)))


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """LayerNorm over the last dimension, or without a bias RMSNorm; (..., n) -> (..., n)."""
    y: Tensor = _Norm.apply(x.contiguous(), weight, bias, eps)
    return y


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        n = x.shape[-1]
        rows = x.numel() // n
        w, b = _float32(weight), _float32(bias)
        mean = None if bias is None else torch.empty(rows)
        scale, y = torch.empty(rows), torch.empty_like(x)
        ctx.settings = {"rows": rows, "n": n, "eps": eps}
        ctx.dtype = weight.dtype
        ctx.save_for_backward(x, w, b, mean, scale)
        _run("norm_forward", _norm(ctx.settings, ctx.to_save, y=_at(y)))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, _, bias, *_ = saved = ctx.saved_tensors
        dy, dx = dy.contiguous(), torch.empty_like(x)
        chunks = -(-ctx.settings["rows"] // CHUNK)
        d_weight = torch.zeros(chunks, ctx.settings["n"])
        d_bias = None if bias is None else torch.zeros_like(d_weight)
        out = {"dy": dy, "dx": dx, "d_weight": d_weight, "d_bias": d_bias}
        addresses = {name: _at(value) for name, value in out.items()}
        _run("norm_backward", _norm(ctx.settings, saved, **addresses))
        db = None if d_bias is None else d_bias.sum(0).to(ctx.dtype)
        return dx, d_weight.sum(0).to(ctx.dtype), db, None


def _norm(settings: dict[str, Any], tensors: tuple[Tensor | None, ...], **more: Any) -> Any:
    names = ("x", "weight", "bias", "mean", "scale")
    return lib.Norm(**settings, **dict(zip(names, map(_at, tensors), strict=True)), **more)


def rotate_heads(x: Tensor, weight: Tensor | None, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    """RMSNorm of each head, if it has a weight, then RoPE.

    x         (B, T, H, Dh)         Dh even
    weight    (Dh,) or None
    cos, sin  (B or 1, T, 1, Dh/2)  float32
    returns   (B, T, H, Dh)
    """
    y: Tensor = _RotateHeads.apply(x.contiguous(), weight, eps, cos.contiguous(), sin.contiguous())
    return y


class _RotateHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, eps: float, cos: Tensor, sin: Tensor
    ) -> Tensor:
        B, T, H, Dh = x.shape
        ctx.settings = {"rows": B * T, "heads": H, "D": Dh, "eps": eps}
        ctx.settings["positions"] = cos.numel() // (Dh // 2)
        scale = None if weight is None else torch.empty(B, T, H)
        ctx.dtype = None if weight is None else weight.dtype
        y = torch.empty_like(x)
        ctx.save_for_backward(x, _float32(weight), cos, sin, scale)
        _run("heads_forward", _heads(ctx.settings, ctx.to_save, y=_at(y)))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *_ = saved = ctx.saved_tensors
        dy, dx = dy.contiguous(), torch.empty_like(x)
        chunks = -(-ctx.settings["rows"] // CHUNK)
        d_weight = None if weight is None else torch.zeros(chunks, x.shape[-1])
        addresses = {"dy": _at(dy), "dx": _at(dx), "d_weight": _at(d_weight)}
        _run("heads_backward", _heads(ctx.settings, saved, **addresses))
        dw = None if d_weight is None else d_weight.sum(0).to(ctx.dtype)
        return dx, dw, None, None, None


def _heads(settings: dict[str, Any], tensors: tuple[Tensor | None, ...], **more: Any) -> Any:
    names = ("x", "weight", "cos", "sin", "scale")
    return lib.Heads(**settings, **dict(zip(names, map(_at, tensors), strict=True)), **more)


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form; any shape."""
    y: Tensor = _GELU.apply(x.contiguous())
    return y


class _GELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        ctx.save_for_backward(x)
        _run("gelu_forward", lib.Pointwise(n=x.numel(), x=_at(x), y=_at(y)))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        dy, dx = dy.contiguous(), torch.empty_like(x)
        _run("gelu_backward", lib.Pointwise(n=x.numel(), x=_at(x), dy=_at(dy), dx=_at(dx)))
        return dx


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up; two of one shape."""
    y: Tensor = _SwiGLU.apply(gate.contiguous(), up.contiguous())
    return y


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        y = torch.empty_like(gate)
        ctx.save_for_backward(gate, up)
        _run("swiglu_forward", lib.Pointwise(n=gate.numel(), x=_at(gate), up=_at(up), y=_at(y)))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        dy, d_gate, d_up = dy.contiguous(), torch.empty_like(gate), torch.empty_like(up)
        tensors = {"x": gate, "up": up, "dy": dy, "dx": d_gate, "d_up": d_up}
        addresses = {name: _at(value) for name, value in tensors.items()}
        _run("swiglu_backward", lib.Pointwise(n=gate.numel(), **addresses))
        return d_gate, d_up


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero a share p of x at random and scale the rest up; any shape."""
    y: Tensor = _Dropout.apply(x.contiguous(), p, draw_seed())
    return y


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.settings = {"n": x.numel(), "seed": seed, "drop": p}
        return _drop(x, ctx.settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        return _drop(dy.contiguous(), ctx.settings), None, None


def _drop(x: Tensor, settings: dict[str, Any]) -> Tensor:
    y = torch.empty_like(x)
    _run("dropout", lib.Pointwise(**settings, x=_at(x), y=_at(y)))
    return y


def cross_entropy_(logits: Tensor, vocabulary: int, targets: Tensor) -> Tensor:
    """-log softmax(logits)[target] of each row, float32 nats; the logits become their gradient.

    logits      (N, Va) bfloat16, packed; columns from `vocabulary` on are not read
    targets     (N,) int64; below 0: no loss, and a gradient of zeros
    """
    nats = torch.empty(len(targets))
    targets = targets.contiguous()
    arguments = lib.CrossEntropy(
        rows=len(targets),
        V=vocabulary,
        ld=logits.shape[1],
        logits=_at(logits),
        targets=_at(targets),
        nats=_at(nats),
    )
    _run("cross_entropy", arguments)
    return nats


def muon_(
    weights: Sequence[Tensor],
    momentum: Sequence[Tensor],
    squares: Sequence[Tensor] | None,
    coefficients: Tensor,
    **settings: float,
) -> None:
    """One step of Muon on each matrix, in place; equal to `training/muon.py`.

    weights       float32 with gradients, each (rows, columns)
    momentum      of the same shapes
    squares       one number for each neuron; None: not evened out
    coefficients  (steps, 3) float32
    settings      lr, keep (share of the old momentum), weight_decay, beta2
    """
    tables: dict[str, tuple[Any, list[Any]]] = {
        "rows": (ctypes.c_long, [weight.shape[0] for weight in weights]),
        "columns": (ctypes.c_long, [weight.shape[1] for weight in weights]),
        "weight": (ctypes.c_void_p, [_at(weight) for weight in weights]),
        "gradient": (ctypes.c_void_p, [_at(weight.grad) for weight in weights]),
        "momentum": (ctypes.c_void_p, [_at(mean) for mean in momentum]),
    }
    if squares is not None:
        tables["squares"] = (ctypes.c_void_p, [_at(mean) for mean in squares])
    n = len(weights)
    arrays = {name: (kind * n)(*values) for name, (kind, values) in tables.items()}
    addresses = {name: ctypes.addressof(array) for name, array in arrays.items()}
    sizes = {"n": n, "steps": len(coefficients), "coefficients": _at(coefficients)}
    _run("muon", lib.Muon(**sizes, **addresses, **settings))
