"""A model as llama2.c's `model.bin` and `tokenizer.bin`, as its export.py and tokenizer.py write.

float32 goes as version 0, for run.c; int8 as version 2, for runq.c. Tensors go out one at a time.
"""

import struct
from pathlib import Path

import torch
from torch import Tensor

from scratchlm.base.errors import ConfigError
from scratchlm.base.files import write_whole
from scratchlm.base.progress import Progress
from scratchlm.formats.gguf_names import interleave
from scratchlm.formats.gguf_tokens import token_fields
from scratchlm.formats.llama2c import HEADER_BYTES, MAGIC, NORM_EPS, SIZES, ZERO_HEADER, layout
from scratchlm.formats.source import Source
from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import frequencies
from scratchlm.tokenizer.rules import SPACE
from scratchlm.tokenizer.tokenizer import Tokenizer

KINDS = ("f32", "q8_0")
_LARGEST_GROUP = 64  # numbers of int8 that share a scale, in export.py


def check_model(config: ModelConfig, kind: str) -> None:
    """Refuse what run.c does not compute.

    raises   ConfigError naming the setting
    """
    if kind not in KINDS:
        raise ConfigError(f"llama2.c has no type {kind}. There are: {', '.join(KINDS)}.")
    window = config.window and config.window < config.max_seq_len
    wrong = {
        f"model.family = {config.family}, not llama": config.family not in ("llama", "mistral"),
        f"model.window = {config.window}, not 0": window,
        f"model.rope_theta = {config.rope_theta:g}, not 10000": config.rope_theta != 10_000,
        f"model.rope_scaling.kind = {config.rope_scaling.kind}": config.rope_scaling.kind != "none",
        f"model.norm_eps = {config.norm_eps:g}, not {NORM_EPS:g}": config.norm_eps != NORM_EPS,
        f"model.d_head = {config.d_head}, not d_model / n_heads": (
            config.d_head * config.n_heads != config.d_model
        ),
    }
    if found := [what for what, is_wrong in wrong.items() if is_wrong]:
        raise ConfigError(
            f"llama2.c cannot compute this model: {'; '.join(found)}. Its models are of family "
            "llama, and of the paper's numbers. Export to gguf instead."
        )


def write_model(source: Source, path: Path, kind: str) -> None:
    """Write a model.bin.

    raises   ConfigError for what llama2.c does not compute, before anything is written
    """
    config = source.config
    check_model(config, kind)
    version, start = (0, ZERO_HEADER) if kind == "f32" else (2, HEADER_BYTES)
    group = 0 if kind == "f32" else group_size(config)
    pieces = list(layout(config, version, start, group))
    with path.open("wb") as file, Progress("exporting", len(pieces), unit="tensors") as shown:
        file.write(_header(config, group).ljust(start, b"\0"))
        for done, piece in enumerate(pieces, 1):
            if piece.ours:
                weight = source.weights[piece.ours]().float()
                weight = interleave(config, piece.ours, weight)
            else:
                weight = _angles(config, sine=pieces[done - 2].ours == "")
            if piece.quantised:
                for part in quantise(weight, group):
                    file.write(part.numpy().tobytes())
            else:
                file.write(weight.contiguous().numpy().tobytes())
            shown.update(done)


def _header(config: ModelConfig, group: int) -> bytes:
    sizes = [getattr(config, name) for name in SIZES]
    if not group:
        if not config.tie_embeddings:
            sizes[SIZES.index("vocab_size")] *= -1
        return struct.pack("<7i", *sizes)
    return struct.pack("<Ii7iBi", MAGIC, 2, *sizes, config.tie_embeddings, group)


def _angles(config: ModelConfig, *, sine: bool) -> Tensor:
    """(max_seq_len, Dh/2): run.c skips them, and older readers want them there."""
    turned, _ = frequencies(config.d_head, config.rope_theta)
    phase = torch.arange(config.max_seq_len)[:, None] * turned
    return phase.sin() if sine else phase.cos()


def group_size(config: ModelConfig) -> int:
    """How many numbers share a scale: the largest power of two up to 64 that fits every row.

    raises   ConfigError for a width that runq.c does not take
    """
    group = _LARGEST_GROUP
    while config.d_model % group or config.d_ff % group:
        group //= 2
    if group < 4:
        raise ConfigError(
            f"model.d_model = {config.d_model} and model.d_ff = {config.d_ff} have no common "
            "divisor of at least 4: int8 would be no smaller. Export with --type f32."
        )
    return group


def quantise(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """int8 numbers and a float32 scale for each group of them (export.py: quantize_q80)."""
    groups = weight.reshape(-1, group)
    scales = groups.abs().amax(1) / 127.0
    numbers = torch.round(groups / scales.clamp(min=1e-30)[:, None]).to(torch.int8)
    return numbers, scales


def write_tokenizer(tokenizer: Tokenizer, path: Path, n_ids: int) -> None:
    """Write a tokenizer.bin of as many pieces as the model has ids.

    raises   ConfigError for a tokenizer that run.c would read otherwise, before anything is written
    """
    pieces = tokenizer_pieces(tokenizer, n_ids)
    with write_whole(path) as file:
        file.write(struct.pack("<i", max(len(text) for text, _ in pieces)))
        for text, score in pieces:
            file.write(struct.pack("<fi", score, len(text)) + text)


def tokenizer_pieces(tokenizer: Tokenizer, n_ids: int) -> list[tuple[bytes, float]]:
    """(text, score) of each id.

    raises   ConfigError for a tokenizer that run.c would read otherwise
    """
    fields = token_fields(tokenizer, n_ids)
    if fields["model"] != "llama" or not fields["add_space_prefix"]:
        raise ConfigError(
            f"llama2.c has no tokenizer of kind {tokenizer.kind}: it takes SentencePiece BPE with "
            "a space before the text. Train the model with tokenizer.kind = sentencepiece-bpe, or "
            "export to gguf."
        )
    bytes_at = [f"<0x{byte:02X}>" for byte in range(256)]
    roles = (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id)
    if roles != (0, 1, 2) or fields["tokens"][3:259] != bytes_at:
        raise ConfigError(
            "llama2.c takes ids 0, 1 and 2 for the unknown, the begin and the end token and 3 to "
            "258 for bytes, and this tokenizer has others there. Export to gguf instead."
        )
    texts = [token.replace(SPACE, " ") for token in fields["tokens"]]
    texts[1:3] = ["\n<s>\n", "\n</s>\n"]  # as its own tokenizer.py writes them
    return [(text.encode(), score) for text, score in zip(texts, fields["scores"], strict=True)]
