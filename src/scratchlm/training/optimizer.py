"""What an optimizer is: groups of weights with settings, and a state for each weight.

Like `torch.optim.Optimizer`, whose states it reads and writes, but that class loads torch.compile's
machinery when the first one is made: most of a second at the start of every run, and again at its
end.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor


class Optimizer:
    """Groups of weights, each a dict with "params", "lr" and the optimizer's other settings."""

    def __init__(self, groups: Iterable[dict[str, Any]], **defaults: Any) -> None:
        self.param_groups = [{**defaults, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def step(self) -> None:
        """Change every weight that has a gradient, in place."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for weight in self.weights():
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Settings and states, with numbers in the place of weights, as PyTorch writes them."""
        numbers = {weight: i for i, weight in enumerate(self.weights())}
        groups = [
            {**group, "params": [numbers[weight] for weight in group["params"]]}
            for group in self.param_groups
        ]
        states = {numbers[weight]: dict(state) for weight, state in self.state.items()}
        return {"state": states, "param_groups": groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from the `state_dict` of an optimizer of equal groups."""
        for group, old in zip(self.param_groups, saved["param_groups"], strict=True):
            assert len(group["params"]) == len(old["params"]), "groups of other sizes"
            group.update({name: value for name, value in old.items() if name != "params"})
        weights = self.weights()
        self.state = {
            weights[i]: {name: value.to(weights[i].device) for name, value in state.items()}
            for i, state in saved["state"].items()
        }

    def weights(self) -> list[Tensor]:
        """Those of all groups, in their order."""
        return [weight for group in self.param_groups for weight in group["params"]]


def with_gradient(group: dict[str, Any]) -> list[Tensor]:
    """The weights of a group that have one."""
    return [weight for weight in group["params"] if weight.grad is not None]
