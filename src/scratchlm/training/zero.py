"""DeepSpeed's ZeRO (arXiv:1910.02054), for those who have it: AdamW's state in parts.

In stage 1 each process keeps and computes AdamW's state for its part of the weights alone, in stage
2 the gradients too. Stage 3 shares the weights, which here is `parallel.shard`, PyTorch's own. What
is saved is what one process alone would save, so that a run goes on with or without DeepSpeed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from scratchlm.base.errors import ConfigError
from scratchlm.model.transformer import Transformer
from scratchlm.training.objectives import Objective
from scratchlm.training.optimizers import OptimConfig, Optimizers
from scratchlm.training.parallel import ObjectiveModule

MEANS = ("exp_avg", "exp_avg_sq")  # AdamW's state of a weight, beside the number of steps


class Zero(Optimizers):
    """AdamW in the hands of DeepSpeed's engine, which sums the gradients over the processes.

    stage     1 or 2
    raises    ConfigError where DeepSpeed takes another device
    """

    def __init__(
        self,
        model: Transformer,
        config: OptimConfig,
        scaler: torch.amp.GradScaler,
        objective: Objective,
        stage: int,
    ) -> None:
        super().__init__(model, config, scaler)
        deepspeed = _deepspeed(next(model.parameters()).device)
        self._adamw = self.parts[0]
        # The engine puts its own flat parts in the place of the weights in these groups.
        groups = [{**group, "params": [*group["params"]]} for group in self._adamw.param_groups]
        self._flat = torch.optim.AdamW(groups, fused=True)
        self._engine, *_ = deepspeed.initialize(
            model=ObjectiveModule(model, objective),
            optimizer=self._flat,
            config={
                "train_micro_batch_size_per_gpu": 1,  # it divides by it only where it reports
                "gradient_clipping": config.grad_clip,
                "zero_optimization": {"stage": stage},
                "zero_allow_untested_optimizer": True,
            },
            dist_init_required=False,
        )
        self._states = deepspeed.utils
        for group in self._flat.param_groups:
            for part in group["params"]:
                means = {key: torch.zeros_like(part) for key in MEANS}
                self._flat.state[part] = {"step": torch.zeros((), device=part.device), **means}
        # What its first step would do: now the states are found by weight.
        self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def objective(
        self, _: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        """That of the run, seen by the engine."""
        loss: Tensor = self._engine(tokens, targets, segments)
        return loss

    @contextmanager
    def summing(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch, as `Processes.summing`."""
        self._engine.set_gradient_accumulation_boundary(last)
        yield

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to that of the weights."""
        self._engine.backward(loss, scale_wrt_gas=False)

    def grad_norm(self) -> Tensor:
        """Length of the gradient of all weights, on all processes; once before `step`."""
        return torch.as_tensor(self._engine.optimizer.scaled_global_norm())

    def step(self, norm: Tensor) -> None:  # noqa: ARG002
        """Change the weights; the engine shortens the gradient by the length that it found."""
        for own, theirs in zip(self._adamw.param_groups, self._flat.param_groups, strict=True):
            theirs["lr"] = own["lr"]
        self._engine.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self._engine.optimizer.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        """As that of AdamW alone, put together from all processes, which call it alike."""
        n_steps = next(state["step"] for state in self._flat.state.values())
        for weight in self._adamw.weights():
            means = {key: self._states.safe_get_full_optimizer_state(weight, key) for key in MEANS}
            self._adamw.state[weight] = {"step": n_steps.clone(), **means}
        state = super().state_dict()
        self._adamw.state.clear()
        return state

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from `state_dict`, of any number of processes."""
        super().load_state_dict(states)
        for weight, state in self._adamw.state.items():
            for key in MEANS:
                self._states.safe_set_full_optimizer_state(weight, state[key], key)
        n_steps = next(state["step"] for state in self._adamw.state.values())  # of all weights
        for flat in self._flat.state.values():
            flat["step"].copy_(n_steps)
        self._adamw.state.clear()


def _deepspeed(device: torch.device) -> Any:
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    deepspeed.utils.logger.setLevel(logging.WARNING)
    if (kind := get_accelerator().device_name()) != device.type:
        raise ConfigError(
            f"DeepSpeed takes {kind} here, and the run {device.type}. Set the environment variable "
            f"DS_ACCELERATOR={device.type}, or parallel.zero = 0."
        )
    return deepspeed
