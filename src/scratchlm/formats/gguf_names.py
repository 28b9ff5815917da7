"""What llama.cpp calls the sizes and weights of the families (gguf-py/gguf/constants.py)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from scratchlm.checkpoint.families import Row, Setting
from scratchlm.model.config import ModelConfig


@dataclass(frozen=True)
class Architecture:
    """A family as GGUF has it.

    settings    names behind "ARCHITECTURE."
    unused      tensors that hold no parameter
    permuted    pairs of a query or key that RoPE turns lie beside each other, not half a head apart
    shifted     norms are stored as 1 + weight
    """

    name: str
    rows: tuple[Row, ...]
    settings: tuple[Setting, ...]
    permuted: bool = False
    shifted: bool = False
    unused: tuple[str, ...] = ("rope_freqs.weight",)


_LAYER = "blk.{i}"


def _row(ours: str, theirs: str, **rules: bool) -> Row:
    return Row(f"{ours}.weight", f"{theirs}.weight", **rules)


def _bias(ours: str, theirs: str) -> Row:
    return Row(f"{ours}.bias", f"{theirs}.bias")


_ENDS = (
    _row("embedding", "token_embd"),
    _row("norm", "output_norm"),
    _row("head", "output", tied=True),
)
_ATTENTION = (
    _row("blocks.{i}.attention_norm", f"{_LAYER}.attn_norm"),
    _row("blocks.{i}.attention.q", f"{_LAYER}.attn_q"),
    _row("blocks.{i}.attention.k", f"{_LAYER}.attn_k"),
    _row("blocks.{i}.attention.v", f"{_LAYER}.attn_v"),
    _row("blocks.{i}.attention.out", f"{_LAYER}.attn_output"),
    _row("blocks.{i}.ffn_norm", f"{_LAYER}.ffn_norm"),
)
_GATED = (
    _row("blocks.{i}.ffn.gate", f"{_LAYER}.ffn_gate"),
    _row("blocks.{i}.ffn.up", f"{_LAYER}.ffn_up"),
    _row("blocks.{i}.ffn.down", f"{_LAYER}.ffn_down"),
)
_QK_NORMS = (
    _row("blocks.{i}.attention.q_norm", f"{_LAYER}.attn_q_norm"),
    _row("blocks.{i}.attention.k_norm", f"{_LAYER}.attn_k_norm"),
)
_QKV_BIASES = tuple(_bias(f"blocks.{{i}}.attention.{x}", f"{_LAYER}.attn_{x}") for x in "qkv")
_GPT2_ROWS = (
    *_ENDS,
    _bias("norm", "output_norm"),
    _row("positions", "position_embd"),
    *(
        Row(f"blocks.{{i}}.attention.{x}.{kind}", f"{_LAYER}.attn_qkv.{kind}", part=n, parts=3)
        for n, x in enumerate("qkv")
        for kind in ("weight", "bias")
    ),
    *(
        make(f"blocks.{{i}}.{ours}", f"{_LAYER}.{theirs}")
        for ours, theirs in (
            ("attention_norm", "attn_norm"),
            ("attention.out", "attn_output"),
            ("ffn_norm", "ffn_norm"),
            ("ffn.up", "ffn_up"),
            ("ffn.down", "ffn_down"),
        )
        for make in (_row, _bias)
    ),
)

_SIZES = (
    Setting("max_seq_len", "context_length"),
    Setting("d_model", "embedding_length"),
    Setting("n_layers", "block_count"),
    Setting("d_ff", "feed_forward_length"),
    Setting("n_heads", "attention.head_count"),
)
_ROTATED = (
    *_SIZES,
    Setting("n_kv_heads", "attention.head_count_kv", None),
    Setting("d_head", "attention.key_length", None),
    Setting("norm_eps", "attention.layer_norm_rms_epsilon"),
    Setting("rope_theta", "rope.freq_base", 10_000.0),
)

_LLAMA = Architecture("llama", (*_ENDS, *_ATTENTION, *_GATED), _ROTATED, permuted=True)

# our family -> its architecture there; of several families the first is the one we read
ARCHITECTURES = {
    "gpt2": Architecture(
        "gpt2", _GPT2_ROWS, (*_SIZES, Setting("norm_eps", "attention.layer_norm_epsilon"))
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture("qwen2", (*_ENDS, *_ATTENTION, *_QKV_BIASES, *_GATED), _ROTATED),
    "qwen3": Architecture("qwen3", (*_ENDS, *_ATTENTION, *_QK_NORMS, *_GATED), _ROTATED),
    "gemma3_text": Architecture(
        "gemma3",
        (
            *_ENDS,
            *_ATTENTION,
            *_QK_NORMS,
            *_GATED,
            _row("blocks.{i}.after_attention", f"{_LAYER}.post_attention_norm"),
            _row("blocks.{i}.after_ffn", f"{_LAYER}.post_ffw_norm"),
        ),
        (*_ROTATED, Setting("window", "attention.sliding_window", None)),
        shifted=True,
    ),
}


def interleave(config: ModelConfig, name: str, weight: Tensor, *, undo: bool = False) -> Tensor:
    """Put the rows of a query or key weight in llama.cpp's order of pairs, or back.

    Source: `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py.
    """
    n_heads = _n_heads(config, name)
    if not n_heads:
        return weight
    halves = (n_heads, 2, config.d_head // 2)
    sizes = (halves[0], halves[2], halves[1]) if undo else halves
    return weight.view(*sizes, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _n_heads(config: ModelConfig, name: str) -> int:
    if ".attention.q." in name:
        return config.n_heads
    return config.n_kv_heads if ".attention.k." in name else 0


def changes(architecture: Architecture, config: ModelConfig) -> Callable[[str, Tensor], Tensor]:
    """What turns a weight of a file into ours: (our name, theirs) -> ours."""

    def change(name: str, weight: Tensor) -> Tensor:
        if architecture.permuted:
            weight = interleave(config, name, weight, undo=True)
        if architecture.shifted and weight.ndim == 1:  # norms alone have one dimension
            weight = weight.float() - 1.0
        return weight

    return change
