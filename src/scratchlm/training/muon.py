"""Muon: momentum whose update is made orthogonal (kellerjordan.github.io/posts/muon, 2024)."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from scratchlm.checkpoint.sharded import cut_like, whole
from scratchlm.native import ops
from scratchlm.training.optimizer import Optimizer, with_gradient

# Polar Express (arXiv:2505.16932): the best quintic a x + b x^3 + c x^5 for each iteration, given
# what the ones before it left, for singular values down to 1e-3; the last one serves for more.
POLAR_EXPRESS: tuple[tuple[float, ...], ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
SAFETY = 1.02  # the first quintic grows beyond 1: leave room for rounding


def coefficients(steps: int) -> list[tuple[float, ...]]:
    """a, b, c of each iteration, for a matrix that was divided by its norm."""
    table = [POLAR_EXPRESS[min(i, len(POLAR_EXPRESS) - 1)] for i in range(steps)]
    table[0] = tuple(k / SAFETY**power for k, power in zip(table[0], (1, 3, 5), strict=True))
    return table


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to each of g, about: U V^T of its SVD, in bfloat16.

    g        (n, rows, columns), any float dtype
    steps    iterations
    returns  (n, rows, columns) bfloat16; after 5 iterations singular values lie within .8 and 1.2
    """
    tall = g.shape[1] > g.shape[2]
    x = (g.transpose(1, 2) if tall else g).to(torch.bfloat16, memory_format=torch.contiguous_format)
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in coefficients(steps):
        gram = x @ x.transpose(1, 2)  # (n, r, r)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


def even_out(updates: Tensor, squares: Tensor, beta: float) -> Tensor:
    """Divide each neuron's update by the root of its mean square (NorMuon, arXiv:2510.05491).

    updates  (n, rows, columns); a neuron is a row of a tall matrix, a column of a wide one
    squares  (n, rows, 1) or (n, 1, columns): their means so far, changed in place
    beta     how slowly they forget
    returns  (n, rows, columns) float32, each matrix as long as it was
    """
    x = updates.float()
    across = 2 if squares.shape[2] == 1 else 1
    squares.lerp_(x.square().mean(dim=across, keepdim=True), 1 - beta)
    y = x / squares.sqrt().clamp(min=1e-8)
    length = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    return y * (length / torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True).clamp(min=1e-8))


class Muon(Optimizer):
    """Muon over matrices; those of one shape are made orthogonal together.

    lr            step length: the update's spectral norm times sqrt(max(1, rows / columns))
    momentum      share of the old direction that is kept
    weight_decay  decoupled, times lr
    ns_steps      iterations of `orthogonalise`
    beta2         memory of each neuron's squared update (`even_out`); 0 leaves the update as it is
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        beta2: float = 0.95,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(groups, **defaults, ns_steps=ns_steps, beta2=beta2)

    @torch.no_grad()
    def step(self) -> None:
        """Change every matrix that has a gradient, in place."""
        for group in self.param_groups:
            params = with_gradient(group)
            for p in params:
                if p not in self.state:
                    rows, columns = p.shape
                    means = (rows, 1) if rows >= columns else (1, columns)
                    squares = torch.zeros(means, device=p.device)
                    self.state[p] = {"momentum_buffer": torch.zeros_like(p), "squares": squares}
            if params and _fits_kernel(params):
                self._step_by_kernel(params, group)
                continue
            same_shape = defaultdict(list)
            for p in params:
                same_shape[p.shape].append(p)
            for alike in same_shape.values():
                self._step_together(alike, group)

    def _step_by_kernel(self, params: list[Tensor], group: dict[str, Any]) -> None:
        params = sorted(params, key=torch.numel, reverse=True)  # threads end at the same time
        states = [self.state[p] for p in params]
        ops.muon_(
            params,
            [state["momentum_buffer"] for state in states],
            [state["squares"] for state in states] if group["beta2"] else None,
            torch.tensor(coefficients(group["ns_steps"])),
            lr=group["lr"],
            keep=group["momentum"],
            weight_decay=group["weight_decay"],
            beta2=group["beta2"],
        )

    def _step_together(self, params: list[Tensor], group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        rows, columns = params[0].shape
        states = [self.state[p] for p in params]
        buffers = [state["momentum_buffer"] for state in states]
        grads = [p.grad for p in params if p.grad is not None]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, buffers, momentum)  # Nesterov: look one step ahead
        # Only a whole matrix can be made orthogonal: each process does all of them, for its part.
        updates = orthogonalise(torch.stack([whole(g) for g in ahead]), group["ns_steps"])
        if group["beta2"]:
            squares = torch.stack([state["squares"] for state in states])
            updates = even_out(updates, squares, group["beta2"])
            torch._foreach_copy_([state["squares"] for state in states], list(squares))
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        scale = max(1.0, rows / columns) ** 0.5
        steps = [cut_like(u.to(p.dtype), p) for u, p in zip(updates, params, strict=True)]
        torch._foreach_add_(params, steps, alpha=-lr * scale)


def _fits_kernel(params: list[Tensor]) -> bool:
    """Whether our kernel can take them: whole, float32 and packed, gradients too."""
    tensors = [*params, *(p.grad for p in params if p.grad is not None)]
    return ops.available(params[0].device) and all(
        t.dtype == torch.float32 and t.is_contiguous() and not hasattr(t, "full_tensor")
        for t in tensors
    )
