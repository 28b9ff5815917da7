"""AdamW: Adam with decoupled weight decay (arXiv:1711.05101)."""

from typing import Any

import torch
from torch import Tensor

from scratchlm.training.optimizer import Optimizer, with_gradient

FUSED = ("cpu", "cuda")  # where PyTorch has it in one kernel


class AdamW(Optimizer):
    """Each weight moves against its gradient's mean, divided by the root of its square's mean.

    The bits are those of `torch.optim.AdamW(fused=True)`. A group has "params", and may have

    lr            step length
    betas         how slowly both means forget
    eps           added to the root
    weight_decay  share of a weight that is taken off in each step, times lr
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self) -> None:
        """Change every weight that has a gradient, in place."""
        for group in self.param_groups:
            params = with_gradient(group)
            if not params:
                continue
            for p in params:
                if p not in self.state:
                    step = torch.zeros((), dtype=torch.float32, device=p.device)
                    means = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                    self.state[p] = {"step": step, **means}
            update = _fused if params[0].device.type in FUSED else _one_by_one
            update(params, [self.state[p] for p in params], group)


def _fused(params: list[Tensor], states: list[dict[str, Tensor]], group: dict[str, Any]) -> None:
    steps = [state["step"] for state in states]
    torch._foreach_add_(steps, 1)
    torch._fused_adamw_(
        params,
        [p.grad for p in params if p.grad is not None],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],  # the greatest squares, which only AMSGrad keeps
        steps,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def _one_by_one(
    params: list[Tensor], states: list[dict[str, Tensor]], group: dict[str, Any]
) -> None:
    lr, (beta1, beta2) = group["lr"], group["betas"]
    for p, state in zip(params, states, strict=True):
        state["step"] += 1
        t = state["step"].item()
        assert p.grad is not None
        mean = state["exp_avg"].lerp_(p.grad, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        root = (square / (1 - beta2**t)).sqrt_().add_(group["eps"])
        p.mul_(1 - lr * group["weight_decay"])
        p.addcdiv_(mean, root, value=-lr / (1 - beta1**t))
