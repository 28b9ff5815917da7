"""Which optimizer changes which weights, how fast, and how the speed goes over the run."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scratchlm.base.errors import ConfigError
from scratchlm.checkpoint.sharded import whole
from scratchlm.model.transformer import Transformer
from scratchlm.training.adamw import AdamW
from scratchlm.training.muon import Muon
from scratchlm.training.optimizer import Optimizer


@dataclass(frozen=True)
class OptimConfig:
    """How weights are changed."""

    optimizer: Literal["adamw", "muon"] = "adamw"  # muon takes the matrices, AdamW the rest
    lr: float = 1e-3  # peak learning rate of the matrices, after warm-up
    embedding_lr: float = 0.0  # of embeddings; 0 takes lr (with muon: 0.01)
    head_lr: float = 0.0  # of an untied output head; 0 takes embedding_lr
    scalar_lr: float = 0.0  # of norms and biases; 0 takes embedding_lr
    weight_decay: float = 0.1  # decoupled decay of the matrices; embeddings and norms have none
    beta1: float = 0.9  # AdamW's memory of the gradient
    beta2: float = 0.95  # AdamW's memory of its square
    eps: float = 1e-8  # AdamW's least denominator
    momentum: float = 0.95  # Muon's memory of the gradient
    momentum_warmup: int = 0  # steps in which Muon's momentum rises from 0.85
    ns_steps: int = 5  # iterations that make Muon's update orthogonal
    muon_beta2: float = 0.95  # Muon's memory of each neuron's squared update (NorMuon); 0 = off
    grad_clip: float = 1.0  # longest gradient; longer ones are shortened to it; 0 = off

    def __post_init__(self) -> None:
        for name in ("lr", "eps"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"optim.{name} = {getattr(self, name)} must be above 0.")
        for name in ("embedding_lr", "head_lr", "scalar_lr", "weight_decay", "grad_clip"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optim.{name} = {getattr(self, name)} must not be negative.")
        for name in ("beta1", "beta2", "momentum", "muon_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optim.{name} = {getattr(self, name)} must be in [0, 1).")
        if self.ns_steps < 1:
            raise ConfigError(f"optim.ns_steps = {self.ns_steps} must be at least 1.")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate goes over the steps of a run."""

    kind: Literal["constant", "cosine", "linear", "wsd"] = "cosine"  # wsd: warm up, hold, cool down
    warmup: int = 0  # steps in which the rate rises from 0 to its peak
    floor: float = 0.1  # share of the peak that is left at the last step
    cooldown: float = 0.2  # share of the steps in which wsd falls to the floor

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ConfigError(f"schedule.warmup = {self.warmup} must not be negative.")
        if not 0 <= self.floor <= 1:
            raise ConfigError(f"schedule.floor = {self.floor} must be in [0, 1].")
        if not 0 < self.cooldown <= 1:
            raise ConfigError(f"schedule.cooldown = {self.cooldown} must be in (0, 1].")


def lr_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The share of the peak learning rate at `step` (0 is the first) of a run of `steps`."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - config.warmup)
    if config.kind == "constant":
        return 1.0
    if config.kind == "cosine":
        fall = (1 - math.cos(math.pi * done)) / 2
    elif config.kind == "linear":
        fall = done
    else:
        fall = max(0.0, (step / steps - (1 - config.cooldown)) / config.cooldown)
    return 1 - (1 - config.floor) * fall


class Optimizers:
    """The one or two optimizers of a run, as one: from the loss on, to changed weights.

    model    its frozen weights are left out
    scaler   of the loss: float16 needs one
    raises   ConfigError where every weight is frozen
    """

    def __init__(
        self, model: Transformer, config: OptimConfig, scaler: torch.amp.GradScaler
    ) -> None:
        self.model, self.config = model, config
        # Any: typed for PyTorch's optimizers, it asks of one only its groups and its step.
        self.scaler: Any = scaler
        matrices, rest = _groups(model, config)
        adamw: dict[str, Any] = {"betas": (config.beta1, config.beta2), "eps": config.eps}
        if config.optimizer == "muon":
            muon = Muon(
                [matrices],
                momentum=config.momentum,
                ns_steps=config.ns_steps,
                beta2=config.muon_beta2,
            )
            parts: list[Optimizer] = [muon, AdamW(rest, **adamw)]
        else:
            parts = [AdamW([matrices, *rest], **adamw)]
        self.parts = [part for part in parts if part.weights()]
        if not self.parts:
            raise ConfigError(
                "every weight of the model is frozen: there is nothing to train. Add adapters "
                "(--lora), or let some layers be trained."
            )
        for part in self.parts:
            for group in part.param_groups:
                group["peak_lr"] = group["lr"]

    def set_step(self, step: int, factor: float) -> None:
        """Set every learning rate to `factor` of its peak, and Muon's momentum for this step."""
        warm = min(1.0, step / self.config.momentum_warmup) if self.config.momentum_warmup else 1.0
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = group["peak_lr"] * factor
                if isinstance(part, Muon):
                    group["momentum"] = 0.85 + (self.config.momentum - 0.85) * warm

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to that of the weights."""
        self.scaler.scale(loss).backward()

    def grad_norm(self) -> Tensor:
        """Length of the gradient of all weights, on all processes; once before `step`."""
        for part in self.parts:
            self.scaler.unscale_(part)
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        return whole(torch.nn.utils.get_total_norm(grads))

    def step(self, norm: Tensor) -> None:
        """Change the weights by a gradient of this length, shortened where it is too long."""
        if self.config.grad_clip:
            weights = self.model.parameters()
            torch.nn.utils.clip_grads_with_norm_(weights, self.config.grad_clip, norm)
        for part in self.parts:
            self.scaler.step(part)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        """What must be saved to go on exactly."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from `state_dict` of an equal config."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def _groups(model: Transformer, config: OptimConfig) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The hidden matrices, and the groups of everything else, each with its learning rate."""
    embedding_lr = config.embedding_lr or (0.01 if config.optimizer == "muon" else config.lr)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    kinds: dict[str, list[nn.Parameter]] = {"matrix": [], "table": [], "head": [], "scalar": []}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        if id(weight) in tables:
            kinds["table"].append(weight)
        elif weight.ndim < 2:
            kinds["scalar"].append(weight)
        else:
            kinds["head" if name == "head.weight" else "matrix"].append(weight)
    matrices = {"params": kinds["matrix"], "lr": config.lr, "weight_decay": config.weight_decay}
    tied = model.config.tie_embeddings
    rest = [
        {"params": kinds["table"], "lr": embedding_lr, "weight_decay": 0.0},
        {
            "params": kinds["head"],
            "lr": config.head_lr or embedding_lr,
            "weight_decay": 0.0 if tied else config.weight_decay,
        },
        {"params": kinds["scalar"], "lr": config.scalar_lr or embedding_lr, "weight_decay": 0.0},
    ]
    return matrices, [group for group in rest if group["params"]]
