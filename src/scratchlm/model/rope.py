"""How fast the pairs of a head turn from position to position (RoPE, arXiv:2104.09864).

And how that is stretched for contexts longer than those that a model was trained on.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scratchlm.base.errors import ConfigError


@dataclass(frozen=True)
class RopeScaling:
    """A way to stretch the angles. What is 0 is derived, or not used by that kind."""

    kind: Literal["none", "linear", "dynamic", "yarn", "llama3"] = "none"  # which way
    factor: float = 1.0  # longest context / the trained one
    original_max_seq_len: int = 0  # the trained one, in tokens (all but linear)
    low_freq_factor: float = 1.0  # llama3: fewer turns than this in the trained context are slowed
    high_freq_factor: float = 4.0  # llama3: more than this are left alone
    beta_fast: float = 32.0  # yarn: more turns than this in the trained context are left alone
    beta_slow: float = 1.0  # yarn: fewer than this are slowed by the whole factor
    attention_factor: float = 0.0  # yarn: of queries and keys; 0 derives it
    mscale: float = 0.0  # yarn: takes part in deriving it, together with mscale_all_dim
    mscale_all_dim: float = 0.0  # yarn: likewise
    truncate: bool = True  # yarn: round the borders between fast and slow to whole pairs

    def __post_init__(self) -> None:
        if self.kind == "none":
            return
        if self.factor < 1:
            raise ConfigError(f"rope_scaling.factor = {self.factor} must be at least 1.")
        if self.kind != "linear" and self.original_max_seq_len < 1:
            raise ConfigError(
                f"rope_scaling.original_max_seq_len = {self.original_max_seq_len}: "
                f"kind {self.kind} needs the length that the model was trained on."
            )
        if self.kind == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                f"rope_scaling.low_freq_factor = {self.low_freq_factor} must be above 0 and below "
                f"high_freq_factor = {self.high_freq_factor}."
            )
        if self.kind == "yarn" and not 0 < self.beta_slow < self.beta_fast:
            raise ConfigError(
                f"rope_scaling.beta_slow = {self.beta_slow} must be above 0 and below "
                f"beta_fast = {self.beta_fast}."
            )


PLAIN = RopeScaling()


def frequencies(
    d_head: int, theta: float, scaling: RopeScaling = PLAIN, seq_len: int = 0
) -> tuple[Tensor, float]:
    """Radians per position of each pair of a head, (Dh/2,) float32, and a factor of cos and sin.

    seq_len   tokens of the context at hand, which only kind dynamic asks for
    source    transformers, modeling_rope_utils.py
    """
    if scaling.kind == "dynamic":  # NTK-aware: the base grows with the context
        length = max(seq_len, scaling.original_max_seq_len) / scaling.original_max_seq_len
        theta *= (scaling.factor * length - (scaling.factor - 1)) ** (d_head / (d_head - 2))
    # On the CPU even under the meta device: no file holds them, so they must have their values.
    steps = torch.arange(0, d_head, 2, dtype=torch.float32, device="cpu") / d_head
    plain = theta**-steps
    if scaling.kind == "linear":
        return plain / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return _llama3(plain, scaling), 1.0
    if scaling.kind == "yarn":
        return _yarn(plain, theta, scaling), _attention_factor(scaling)
    return plain, 1.0


def _llama3(plain: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow pairs are slowed by the factor, fast ones not, those between by a part of it."""
    turns = scaling.original_max_seq_len * plain / (2 * math.pi)  # in the trained context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / scaling.factor + kept * plain


def _yarn(plain: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    """Likewise, where the share goes by the number of the pair (arXiv:2309.00071)."""
    d_head = 2 * len(plain)

    def pair_of(turns: float) -> float:
        """Which pair turns so often in the trained context."""
        length = scaling.original_max_seq_len / (turns * 2 * math.pi)
        return d_head * math.log(length) / (2 * math.log(theta))

    first, last = pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, d_head - 1)
    pairs = torch.arange(len(plain), dtype=torch.float32, device="cpu")
    slowed = ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)
    return slowed * plain / scaling.factor + (1 - slowed) * plain


def _attention_factor(scaling: RopeScaling) -> float:
    if scaling.attention_factor:
        return scaling.attention_factor

    def of(mscale: float) -> float:
        return 0.1 * mscale * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return of(scaling.mscale) / of(scaling.mscale_all_dim)
    return of(1.0)
