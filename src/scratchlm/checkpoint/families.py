"""What each family's weights and sizes are called on the hub: the one table of foreign names.

A family is data: rows that name a weight here and there, with three rules between the two
(transpose, i-th of n, tied), settings that name a field here and there, and the fields of theirs
whose value we rely on. What stands in none of these lists is refused, never ignored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from scratchlm.model.config import ModelConfig


@dataclass(frozen=True)
class Row:
    """One weight: its name here and there, and how the two differ.

    "{i}" in a name stands for the layer, "{e}" for the expert.
    """

    ours: str
    theirs: str
    transpose: bool = False  # theirs is (inputs, outputs), ours (outputs, inputs)
    part: int = 0  # ours is piece `part` ...
    parts: int = 1  # ... of that many equal pieces of theirs, along the outputs
    tied: bool = False  # left out when the head is the embedding

    def shape_of(self, theirs: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of ours that follows from theirs."""
        shape = theirs[::-1] if self.transpose else theirs
        if self.parts > 1 and shape:
            whole, rest = divmod(shape[0], self.parts)
            shape = (-1 if rest else whole, *shape[1:])  # -1 matches no shape of ours
        return shape

    def numbered(self, config: ModelConfig) -> Iterator["Row"]:
        """The row of each layer and expert of a model of that shape."""
        for i in range(config.n_layers if "{i}" in self.ours else 1):
            for e in range(config.n_experts if "{e}" in self.ours else 1):
                ours, theirs = (
                    name.replace("{i}", str(i)).replace("{e}", str(e))
                    for name in (self.ours, self.theirs)
                )
                yield replace(self, ours=ours, theirs=theirs)


REQUIRED = object()


@dataclass(frozen=True)
class Setting:
    """One field of `ModelConfig` and its name in config.json."""

    ours: str
    theirs: str
    default: Any = REQUIRED  # what transformers takes when config.json is silent
    null: bool = False  # null means 0: there is none
    also: str = ""  # another name of theirs, which is read too
    words: tuple[tuple[str, Any], ...] = ()  # theirs are words, each with a value of ours


@dataclass(frozen=True)
class Names:
    """All that is known about a family's files."""

    architecture: str  # the class in transformers
    prefix: str  # of weight names; absent from files that were saved without the head
    rows: tuple[Row, ...]
    settings: tuple[Setting, ...]
    fixed: dict[str, tuple[Any, ...]]  # what we compute; the first value is the one we write
    rope: float = 0.0  # the base of the angles when config.json is silent; 0: no angles
    layer_types: bool = False  # local layers are listed by name
    dropouts: tuple[str, ...] = ()  # fields that take `ModelConfig.dropout`
    no_dropouts: tuple[str, ...] = ()  # fields that we write as 0: theirs drops less than ours
    harmless: frozenset[str] = frozenset()  # fields that change no logits


def _affine(ours: str, theirs: str) -> tuple[Row, Row]:
    return Row(f"{ours}.weight", f"{theirs}.weight"), Row(f"{ours}.bias", f"{theirs}.bias")


def _conv1d(ours: str, theirs: str, part: int = 0, parts: int = 1) -> tuple[Row, Row]:
    """GPT-2's linear layer, which OpenAI kept as (inputs, outputs)."""
    return (
        Row(f"{ours}.weight", f"{theirs}.weight", transpose=True, part=part, parts=parts),
        Row(f"{ours}.bias", f"{theirs}.bias", part=part, parts=parts),
    )


_GELUS = (("gelu_new", False), ("gelu_pytorch_tanh", False), ("gelu", True))
_GPT2_HARMLESS = frozenset({
    "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj",
})  # fmt: skip

_GPT2 = Names(
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    rows=(
        Row("embedding.weight", "transformer.wte.weight"),
        Row("positions.weight", "transformer.wpe.weight"),
        *_affine("blocks.{i}.attention_norm", "transformer.h.{i}.ln_1"),
        *_conv1d("blocks.{i}.attention.q", "transformer.h.{i}.attn.c_attn", 0, 3),
        *_conv1d("blocks.{i}.attention.k", "transformer.h.{i}.attn.c_attn", 1, 3),
        *_conv1d("blocks.{i}.attention.v", "transformer.h.{i}.attn.c_attn", 2, 3),
        *_conv1d("blocks.{i}.attention.out", "transformer.h.{i}.attn.c_proj"),
        *_affine("blocks.{i}.ffn_norm", "transformer.h.{i}.ln_2"),
        *_conv1d("blocks.{i}.ffn.up", "transformer.h.{i}.mlp.c_fc"),
        *_conv1d("blocks.{i}.ffn.down", "transformer.h.{i}.mlp.c_proj"),
        *_affine("norm", "transformer.ln_f"),
        Row("head.weight", "lm_head.weight", tied=True),
    ),
    settings=(
        Setting("vocab_size", "vocab_size"),
        Setting("max_seq_len", "n_positions"),
        Setting("n_layers", "n_layer"),
        Setting("d_model", "n_embd"),
        Setting("n_heads", "n_head"),
        Setting("d_ff", "n_inner", None),
        Setting("norm_eps", "layer_norm_epsilon", 1e-5),
        Setting("tie_embeddings", "tie_word_embeddings", True),
        Setting("exact_gelu", "activation_function", "gelu_new", words=_GELUS),
    ),
    fixed={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    harmless=_GPT2_HARMLESS,
)


def _llama_settings(**defaults: Any) -> tuple[Setting, ...]:
    """Llama's fields and those of its kin, which differ in what absent ones mean."""
    settings = (
        Setting("vocab_size", "vocab_size"),
        Setting("max_seq_len", "max_position_embeddings", 2048),
        Setting("n_layers", "num_hidden_layers"),
        Setting("d_model", "hidden_size"),
        Setting("n_heads", "num_attention_heads"),
        Setting("n_kv_heads", "num_key_value_heads", None),
        Setting("d_head", "head_dim", None),
        Setting("d_ff", "intermediate_size"),
        Setting("norm_eps", "rms_norm_eps", 1e-6),
        Setting("tie_embeddings", "tie_word_embeddings", False),
    )
    return tuple(replace(s, default=defaults.get(s.ours, s.default)) for s in settings)


def _window(default: int | None) -> Setting:
    return Setting("window", "sliding_window", default, null=True)


_LLAMA = Names(
    architecture="LlamaForCausalLM",
    prefix="model.",
    rows=(
        Row("embedding.weight", "model.embed_tokens.weight"),
        Row("blocks.{i}.attention_norm.weight", "model.layers.{i}.input_layernorm.weight"),
        Row("blocks.{i}.attention.q.weight", "model.layers.{i}.self_attn.q_proj.weight"),
        Row("blocks.{i}.attention.k.weight", "model.layers.{i}.self_attn.k_proj.weight"),
        Row("blocks.{i}.attention.v.weight", "model.layers.{i}.self_attn.v_proj.weight"),
        Row("blocks.{i}.attention.out.weight", "model.layers.{i}.self_attn.o_proj.weight"),
        Row("blocks.{i}.ffn_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"),
        Row("blocks.{i}.ffn.gate.weight", "model.layers.{i}.mlp.gate_proj.weight"),
        Row("blocks.{i}.ffn.up.weight", "model.layers.{i}.mlp.up_proj.weight"),
        Row("blocks.{i}.ffn.down.weight", "model.layers.{i}.mlp.down_proj.weight"),
        Row("norm.weight", "model.norm.weight"),
        Row("head.weight", "lm_head.weight", tied=True),
    ),
    settings=_llama_settings(),
    fixed={
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "rope_interleaved": (False,),
    },
    rope=10_000.0,
    no_dropouts=("attention_dropout",),
    harmless=frozenset({"pretraining_tp", "is_llama_config", "max_sequence_length"}),
)

_QWEN3 = replace(
    _LLAMA,
    architecture="Qwen3ForCausalLM",
    rows=(
        *_LLAMA.rows,
        Row("blocks.{i}.attention.q_norm.weight", "model.layers.{i}.self_attn.q_norm.weight"),
        Row("blocks.{i}.attention.k_norm.weight", "model.layers.{i}.self_attn.k_norm.weight"),
    ),
    settings=_llama_settings(max_seq_len=32768, d_head=128),
    fixed={
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "use_sliding_window": (False,),
        "layer_types": (None, "full_attention"),
    },
    harmless=frozenset({"sliding_window", "max_window_layers"}),  # unread without the use_ field
)

_QWEN2 = replace(
    _QWEN3,
    architecture="Qwen2ForCausalLM",
    rows=(
        *_LLAMA.rows,
        *(
            Row(
                f"blocks.{{i}}.attention.{name}.bias",
                f"model.layers.{{i}}.self_attn.{name}_proj.bias",
            )
            for name in "qkv"
        ),
    ),
    settings=_llama_settings(max_seq_len=32768, n_kv_heads=32),
    fixed={name: known for name, known in _QWEN3.fixed.items() if name != "attention_bias"},
)

_MISTRAL = replace(
    _LLAMA,
    architecture="MistralForCausalLM",
    settings=(*_llama_settings(max_seq_len=131_072, n_kv_heads=8), _window(4096)),
    fixed={"hidden_act": ("silu", "swish")},
    harmless=frozenset(),
)

_GEMMA3 = replace(
    _QWEN3,
    architecture="Gemma3ForCausalLM",
    rows=(
        *(row for row in _QWEN3.rows if "ffn_norm" not in row.ours),
        Row(
            "blocks.{i}.after_attention.weight", "model.layers.{i}.post_attention_layernorm.weight"
        ),
        Row("blocks.{i}.ffn_norm.weight", "model.layers.{i}.pre_feedforward_layernorm.weight"),
        Row("blocks.{i}.after_ffn.weight", "model.layers.{i}.post_feedforward_layernorm.weight"),
    ),
    settings=(
        *_llama_settings(max_seq_len=131_072, n_kv_heads=4, d_head=256, tie_embeddings=True),
        Setting("query_scalar", "query_pre_attn_scalar", 256),
        Setting("global_every", "sliding_window_pattern", 6, null=True),
        _window(4096),
    ),
    fixed={
        "hidden_activation": ("gelu_pytorch_tanh",),
        "attention_bias": (False,),
        "final_logit_softcapping": (None,),
        "attn_logit_softcapping": (None,),
        "use_bidirectional_attention": (False, None),
    },
    rope=1_000_000.0,
    layer_types=True,
    harmless=frozenset({"_sliding_window_pattern", "cache_implementation"}),
)


def _experts(theirs: str, gate: str, up: str, down: str) -> tuple[Row, ...]:
    """The rows of a layer's router and of its experts."""
    ours = "blocks.{i}.ffn.experts.{e}"
    return (
        Row("blocks.{i}.ffn.router.weight", f"{theirs}.gate.weight"),
        Row(f"{ours}.gate.weight", f"{theirs}.experts.{{e}}.{gate}.weight"),
        Row(f"{ours}.up.weight", f"{theirs}.experts.{{e}}.{up}.weight"),
        Row(f"{ours}.down.weight", f"{theirs}.experts.{{e}}.{down}.weight"),
    )


_ROUTER_HARMLESS = frozenset({"output_router_logits", "router_jitter_noise"})  # training only

_MIXTRAL = replace(
    _MISTRAL,
    architecture="MixtralForCausalLM",
    rows=(
        *(row for row in _LLAMA.rows if ".ffn." not in row.ours),
        *_experts("model.layers.{i}.block_sparse_moe", "w1", "w3", "w2"),
    ),
    settings=(
        *_llama_settings(max_seq_len=131_072, n_kv_heads=8, norm_eps=1e-5),
        _window(None),
        Setting("n_experts", "num_local_experts", 8),
        Setting("n_active", "num_experts_per_tok", 2),
        Setting("balance", "router_aux_loss_coef", 0.001),
    ),
    rope=1_000_000.0,
    harmless=_ROUTER_HARMLESS,
)

_QWEN3_MOE = replace(
    _QWEN3,
    architecture="Qwen3MoeForCausalLM",
    rows=(
        *(row for row in _QWEN3.rows if ".ffn." not in row.ours),
        *_experts("model.layers.{i}.mlp", "gate_proj", "up_proj", "down_proj"),
    ),
    settings=(
        *(
            replace(s, theirs="moe_intermediate_size") if s.ours == "d_ff" else s
            for s in _llama_settings(max_seq_len=32768, n_kv_heads=4)
        ),
        Setting("n_experts", "num_experts", 128, also="num_local_experts"),
        Setting("n_active", "num_experts_per_tok", 8),
        Setting("normalise_experts", "norm_topk_prob", False),
        Setting("balance", "router_aux_loss_coef", 0.001),
    ),
    fixed={
        **{name: known for name, known in _QWEN3.fixed.items() if name != "layer_types"},
        "decoder_sparse_step": (1,),
        "mlp_only_layers": (None,),  # a list of none
    },
    harmless=frozenset({"intermediate_size", *_QWEN3.harmless, *_ROUTER_HARMLESS}),
)

# config.json's "model_type" -> names; the same word is our `ModelConfig.family`
NAMES: dict[str, Names] = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "gemma3_text": _GEMMA3,
    "mixtral": _MIXTRAL,
    "qwen3_moe": _QWEN3_MOE,
}
