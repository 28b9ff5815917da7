"""The sizes of a model, and the families: which parts a model of that name is made of."""

from dataclasses import dataclass, replace
from typing import Literal

from scratchlm.base.errors import ConfigError

FamilyName = Literal["gpt2", "llama", "qwen3"]


@dataclass(frozen=True)
class Family:
    """The parts of a family, as its paper and its code on the Hugging Face hub have them."""

    norm: Literal["layernorm", "rmsnorm"]
    ffn: Literal["gelu", "swiglu"]
    position: Literal["learned", "rope"]
    bias: bool  # on every linear layer
    qk_norm: bool  # RMSNorm on each query and key head before the rotation
    free_heads: bool  # d_model need not be a multiple of n_heads
    norm_eps: float


FAMILIES: dict[str, Family] = {
    # Radford et al. 2019; GELU in its tanh form, as OpenAI's code
    "gpt2": Family("layernorm", "gelu", "learned", True, False, False, 1e-5),
    # arXiv:2302.13971, grouped-query attention from arXiv:2307.09288
    "llama": Family("rmsnorm", "swiglu", "rope", False, False, False, 1e-5),
    # arXiv:2505.09388
    "qwen3": Family("rmsnorm", "swiglu", "rope", False, True, True, 1e-6),
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of one model. Zero means "derived": see each field, and `resolved`."""

    family: FamilyName = "qwen3"  # which parts the model is made of
    vocab_size: int = 0  # rows of the embedding; 0 takes the tokenizer's size
    max_seq_len: int = 256  # longest context in tokens
    n_layers: int = 6  # transformer blocks
    d_model: int = 384  # width of the residual stream
    n_heads: int = 6  # query heads
    n_kv_heads: int = 0  # key/value heads shared by groups of query heads; 0 takes n_heads
    d_head: int = 0  # width of one head; 0 takes d_model / n_heads
    d_ff: int = 0  # width of the feed-forward; 0 takes 4 d (gpt2) or 8/3 d rounded up to 32
    tie_embeddings: bool = True  # one matrix for embedding and output head
    dropout: float = 0.0  # share of activations zeroed in training
    rope_theta: float = 10000.0  # base of the rotation angles (families with RoPE)
    norm_eps: float = 0.0  # added to the variance; 0 takes the family's
    init: Literal["paper", "zero"] = "paper"  # the papers' normals, or output projections at zero

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ConfigError(
                f"model.family = {self.family!r} is not one of {', '.join(sorted(FAMILIES))}."
            )
        for name in ("max_seq_len", "n_layers", "d_model", "n_heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} = {getattr(self, name)} must be at least 1.")
        for name in ("vocab_size", "n_kv_heads", "d_head", "d_ff", "norm_eps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"model.{name} = {getattr(self, name)} must not be negative.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout = {self.dropout} must be in [0, 1).")
        if self.d_model % self.n_heads and not (self.d_head and self.parts.free_heads):
            raise ConfigError(
                f"model.n_heads = {self.n_heads} does not divide model.d_model = {self.d_model}: "
                f"use one of {divisors(self.d_model)}, or family qwen3 with model.d_head."
            )
        if self.n_kv_heads and self.n_heads % self.n_kv_heads:
            raise ConfigError(
                f"model.n_kv_heads = {self.n_kv_heads} does not divide model.n_heads = "
                f"{self.n_heads}: each key/value head serves an equal group of query heads. "
                f"Use one of {divisors(self.n_heads)}."
            )
        self._check_family()

    def _check_family(self) -> None:
        d_head = self.d_head or self.d_model // self.n_heads
        if self.parts.position == "rope" and d_head % 2:
            raise ConfigError(
                f"model.d_head = {d_head} must be even: RoPE turns pairs of numbers. "
                "Change model.n_heads or model.d_head."
            )
        if self.parts.position == "learned" and self.n_kv_heads not in (0, self.n_heads):
            raise ConfigError(
                f"model.n_kv_heads = {self.n_kv_heads}: family {self.family} has one key/value "
                f"head for each of its {self.n_heads} query heads. Use 0, or family llama."
            )
        if self.parts.position == "learned" and d_head * self.n_heads != self.d_model:
            raise ConfigError(
                f"model.d_head = {d_head}: family {self.family} needs n_heads * d_head = "
                f"d_model = {self.d_model}. Use 0, or family llama."
            )

    @property
    def parts(self) -> Family:
        """What the family is made of."""
        return FAMILIES[self.family]

    def resolved(self) -> "ModelConfig":
        """The same shape with every derived size as a number: what a model is made from."""
        gelu = self.parts.ffn == "gelu"
        d_ff = 4 * self.d_model if gelu else -(-self.d_model * 8 // 96) * 32
        return replace(
            self,
            n_kv_heads=self.n_kv_heads or self.n_heads,
            d_head=self.d_head or self.d_model // self.n_heads,
            d_ff=self.d_ff or d_ff,
            norm_eps=self.norm_eps or self.parts.norm_eps,
        )


def divisors(n: int) -> str:
    """The divisors of n as text, for messages: "1, 2, 3, 6"."""
    return ", ".join(str(i) for i in range(1, n + 1) if n % i == 0)
