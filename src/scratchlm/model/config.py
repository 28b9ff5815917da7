"""The sizes of a model, and the families: which parts a model of that name is made of."""

from dataclasses import dataclass, field, replace
from typing import Literal

from scratchlm.base.errors import ConfigError
from scratchlm.model.rope import RopeScaling

FamilyName = Literal[
    "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma3_text", "mixtral", "qwen3_moe"
]


@dataclass(frozen=True)
class Family:
    """The parts of a family, as its paper and its code on the Hugging Face hub have them."""

    norm: Literal["layernorm", "rmsnorm", "rmsnorm1"] = "rmsnorm"  # rmsnorm1: times 1 + weight
    ffn: Literal["gelu", "swiglu", "geglu"] = "swiglu"
    position: Literal["learned", "rope"] = "rope"
    bias: Literal["none", "qkv", "all"] = "none"  # of the linear layers
    qk_norm: bool = False  # RMSNorm on each query and key head before the rotation
    after_norms: bool = False  # a norm behind attention and feed-forward too, before the sum
    scaled_embedding: bool = False  # times the root of d_model
    windows: bool = False  # layers may see the last `window` tokens only
    experts: bool = False  # each token passes through a few of several feed-forwards
    free_heads: bool = False  # d_model need not be a multiple of n_heads
    norm_eps: float = 1e-5


_LLAMA = Family()
_QWEN3 = Family(qk_norm=True, free_heads=True, norm_eps=1e-6)

FAMILIES: dict[str, Family] = {
    # Radford et al. 2019; GELU in its tanh form, as OpenAI's code
    "gpt2": Family("layernorm", "gelu", "learned", "all"),
    # arXiv:2302.13971, grouped-query attention from arXiv:2307.09288
    "llama": _LLAMA,
    # arXiv:2310.06825
    "mistral": replace(_LLAMA, windows=True, free_heads=True),
    # arXiv:2407.10671
    "qwen2": replace(_LLAMA, bias="qkv", norm_eps=1e-6),
    # arXiv:2505.09388
    "qwen3": _QWEN3,
    # arXiv:2503.19786
    "gemma3_text": replace(
        _QWEN3, norm="rmsnorm1", ffn="geglu", after_norms=True, scaled_embedding=True, windows=True
    ),
    # arXiv:2401.04088
    "mixtral": replace(_LLAMA, experts=True, windows=True, free_heads=True),
    "qwen3_moe": replace(_QWEN3, experts=True),
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
    exact_gelu: bool = False  # GELU by the error function, as nanoGPT has it (family gpt2)
    rope_theta: float = 10000.0  # base of the rotation angles (families with RoPE)
    norm_eps: float = 0.0  # added to the variance; 0 takes the family's
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)  # for longer contexts
    window: int = 0  # tokens that a local layer sees, its own included; 0: no layer is local
    global_every: int = 0  # every so-manieth layer sees all of them; 0: all layers are local
    local_rope_theta: float = 0.0  # base of the angles in local layers; 0: the same angles
    query_scalar: float = 0.0  # scores are divided by its root; 0 takes d_head
    n_experts: int = 0  # feed-forwards that share the tokens of a layer (families with experts)
    n_active: int = 0  # of these, how many each token passes through; 0 takes 2
    normalise_experts: bool = True  # the weights of a token's experts sum to 1
    balance: float = 0.001  # weight of the loss that keeps experts evenly used, in training
    init: Literal["paper", "zero"] = "paper"  # the papers' normals, or output projections at zero

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ConfigError(
                f"model.family = {self.family!r} is not one of {', '.join(sorted(FAMILIES))}."
            )
        for name in ("max_seq_len", "n_layers", "d_model", "n_heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} = {getattr(self, name)} must be at least 1.")
        for name in (
            "vocab_size", "n_kv_heads", "d_head", "d_ff", "norm_eps", "window", "global_every",
            "local_rope_theta", "query_scalar", "n_experts", "n_active", "balance",
        ):  # fmt: skip
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
        self._check_experts()

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

        if (self.window or self.global_every) and not self.parts.windows:
            raise ConfigError(
                f"model.window = {self.window}: family {self.family} sees all tokens in every "
                f"layer. Use 0, or one of {_families('windows')}."
            )

    def _check_experts(self) -> None:
        if not self.parts.experts:
            if self.n_experts or self.n_active:
                raise ConfigError(
                    f"model.n_experts = {self.n_experts}: family {self.family} has one "
                    f"feed-forward. Use 0, or one of {_families('experts')}."
                )
        elif not 1 <= (self.n_active or 2) <= self.n_experts:
            raise ConfigError(
                f"model.n_experts = {self.n_experts} must be at least model.n_active = "
                f"{self.n_active or 2}, the experts of each token, and family {self.family} "
                "needs both."
            )

    def is_local(self, layer: int) -> bool:
        """Whether a layer, counted from 0, sees the last `window` tokens only."""
        if not self.window:
            return False
        return not self.global_every or (layer + 1) % self.global_every != 0

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
            query_scalar=self.query_scalar or float(self.d_head or self.d_model // self.n_heads),
            n_active=self.n_active or (2 if self.parts.experts else 0),
        )


def _families(part: str) -> str:
    """The families that have a part, for messages."""
    return ", ".join(name for name, parts in FAMILIES.items() if getattr(parts, part))


def divisors(n: int) -> str:
    """The divisors of n as text, for messages: "1, 2, 3, 6"."""
    return ", ".join(str(i) for i in range(1, n + 1) if n % i == 0)
