"""llama2.c's files (github.com/karpathy/llama2.c): `model.bin`, and `tokenizer.bin` beside it.

    version 0   seven int32 sizes, then float32 weights; a negative vocabulary: the head is not tied
    version 1   "ak42", the version, the sizes, a byte that says tied, float32 weights from byte 256
    version 2   the same with the size of a group, and int8 weights with a scale for each group

Its export.py writes them. Pairs of a query or key that RoPE turns lie beside each other there.
"""

import math
import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.formats.gguf_names import interleave
from scratchlm.formats.mapped import take
from scratchlm.formats.source import Source
from scratchlm.model.config import ModelConfig
from scratchlm.tokenizer.sentencepiece import of_pieces
from scratchlm.tokenizer.sentencepiece_file import BYTE, CONTROL, NORMAL, UNKNOWN, Model, Piece
from scratchlm.tokenizer.tokenizer import Tokenizer

MAGIC = 0x616B3432  # "ak42"
SIZES = ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")
_VOCAB = SIZES.index("vocab_size")
ZERO_HEADER = 4 * len(SIZES)  # bytes, in version 0
HEADER_BYTES = 256  # from version 1 on
NORM_EPS = 1e-5  # of run.c
_MOST_LAYERS = 2**12
_MOST_TOKEN_BYTES = 64 << 20  # Llama 2's file has 424 kB
_MOST_PIECE_BYTES = 1 << 10  # Llama 2's longest has 27


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the file: of all layers one after the other, or of the model.

    quantised   in version 2, where norms stay floats
    """

    ours: str
    shape: tuple[int, ...]
    start: int
    quantised: bool = False


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a model.bin as a source; a tokenizer.bin beside it is its tokenizer.

    raises   CheckpointError for a file that is damaged or no model.bin
    """
    with path.open("rb") as file:
        if path.stat().st_size < 4 * len(SIZES):
            raise CheckpointError(f"{path} is too short for a llama2.c model.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield _source(content, path)


def _source(content: mmap.mmap, path: Path) -> Source:
    magic, version = struct.unpack_from("<Ii", content)
    if magic != MAGIC:
        version, sizes, start, group = 0, [*struct.unpack_from("<7i", content)], ZERO_HEADER, 0
        tied = sizes[_VOCAB] > 0
        sizes[_VOCAB] = abs(sizes[_VOCAB])
    else:
        if version not in (1, 2):
            raise CheckpointError(
                f"{path} is a llama2.c model of version {version}; this program reads 0, 1 and 2."
            )
        if len(content) < HEADER_BYTES:
            raise CheckpointError(f"{path} is cut short within its header. Copy it again.")
        *sizes, tied, group = struct.unpack_from("<7iBi", content, 8)
        start, group = HEADER_BYTES, group if version == 2 else 0
        if version == 2 and group < 1:
            raise CheckpointError(f"{path}: {group} numbers share a scale: it was damaged.")
    config = _config(sizes, bool(tied), path)
    pieces = list(layout(config, version, start, group))
    if any(math.prod(piece.shape) % group for piece in pieces if piece.quantised):
        raise CheckpointError(f"{path}: groups of {group} do not fill its weights: it was damaged.")
    end = pieces[-1].start + _n_bytes(pieces[-1], group)
    if end != len(content):
        raise CheckpointError(
            f"{path} is cut short, too long, or no llama2.c model: it should have {end:,} bytes, "
            f"and has {len(content):,}."
        )
    words = path.with_name("tokenizer.bin")
    return Source(
        format=f"llama2.c, version {version}",
        config=config,
        weights={
            piece.ours: _reader(content, config, piece, group) for piece in pieces if piece.ours
        },
        stored="int8 in groups" if group else "float32",
        dtype=torch.float32,
        n_bytes=end - start,
        tokenizer=partial(read_tokenizer, words, config.vocab_size) if words.is_file() else None,
    )


def _config(sizes: list[int], tied: bool, path: Path) -> ModelConfig:
    named = dict(zip(SIZES, sizes, strict=True))
    if not all(0 < n < 2**24 for n in named.values()) or named["n_layers"] > _MOST_LAYERS:
        raise CheckpointError(
            f"{path} is no llama2.c model: it does not begin with the sizes of one."
        )
    try:
        return ModelConfig(
            family="llama",
            norm_eps=NORM_EPS,
            tie_embeddings=tied,
            **named,  # type: ignore[arg-type]
        ).resolved()
    except ConfigError as bad:
        raise CheckpointError(f"{path} describes an impossible model: {bad}") from None


def layout(c: ModelConfig, version: int, start: int, group: int) -> Iterator[StoredTensor]:
    """Every tensor in the order of the file; "" is what we have no use for."""
    d_q, d_kv = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
    norms = [("attention_norm", (c.d_model,)), ("ffn_norm", (c.d_model,))]
    attention = [
        ("attention.q", (d_q, c.d_model)),
        ("attention.k", (d_kv, c.d_model)),
        ("attention.v", (d_kv, c.d_model)),
        ("attention.out", (c.d_model, d_q)),
    ]
    ffn = [
        ("ffn.gate", (c.d_ff, c.d_model)),
        ("ffn.down", (c.d_model, c.d_ff)),
        ("ffn.up", (c.d_ff, c.d_model)),
    ]
    table, last = ("embedding", (c.vocab_size, c.d_model)), ("norm", (c.d_model,))
    head = [] if c.tie_embeddings else [("head", (c.vocab_size, c.d_model))]
    angles = [("", (c.max_seq_len, c.d_head // 2))] * 2
    orders = {
        0: [table, norms[0], *attention, norms[1], *ffn, last, *angles, *head],
        1: [*norms, last, table, *attention, *ffn, *head],
        2: [*norms, last, table, *attention, *ffn, *head],
    }
    for name, shape in orders[version]:
        in_layers = name.startswith(("attention", "ffn"))
        for layer in range(c.n_layers if in_layers else 1):
            ours = f"blocks.{layer}.{name}.weight" if in_layers else f"{name}.weight"
            piece = StoredTensor(
                ours if name else "", shape, start, bool(group) and len(shape) == 2
            )
            yield piece
            start += _n_bytes(piece, group)


def _n_bytes(piece: StoredTensor, group: int) -> int:
    n = math.prod(piece.shape)
    return n + 4 * (n // group) if piece.quantised else 4 * n


def _reader(
    content: mmap.mmap, config: ModelConfig, piece: StoredTensor, group: int
) -> Callable[[], Tensor]:
    n = math.prod(piece.shape)

    def read() -> Tensor:
        if piece.quantised:
            whole = take(content, piece.start, n).view("<i1").reshape(-1, group)
            scales = take(content, piece.start + n, 4 * (n // group)).view("<f4")
            numbers = whole.astype(np.float32) * scales[:, None]
        else:
            numbers = take(content, piece.start, 4 * n).view("<f4")
        weight = torch.from_numpy(numbers.reshape(piece.shape))
        return interleave(config, piece.ours, weight, undo=True)

    return read


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a tokenizer.bin: scores and pieces, the first three unknown, begin, end.

    raises   CheckpointError for a file that is missing or does not hold so many pieces
    """
    try:
        if path.stat().st_size > _MOST_TOKEN_BYTES:
            raise CheckpointError(f"{path} has over {_MOST_TOKEN_BYTES >> 20} MB.")
        content = path.read_bytes()
    except OSError as bad:
        raise CheckpointError(f"{path} cannot be read: {bad.strerror or bad}.") from None
    pieces: list[Piece] = []
    at = 4  # behind the length of the longest piece
    try:
        for i in range(vocab_size):
            score, n = struct.unpack_from("<fi", content, at)
            text = content[at + 8 : at + 8 + n].decode("utf-8")
            if not 0 <= n <= _MOST_PIECE_BYTES:
                raise ValueError
            pieces.append(_piece(i, text, score))
            at += 8 + n
        if at != len(content) or len(pieces) < 3 or len({p.text for p in pieces}) < len(pieces):
            raise ValueError
    except (struct.error, ValueError):
        raise CheckpointError(
            f"{path} does not hold the {vocab_size} pieces of the model: it is damaged, or "
            "belongs to another one."
        ) from None
    roles = {"unk": pieces[0].text, "bos": pieces[1].text, "eos": pieces[2].text, "pad": None}
    return of_pieces(Model("bpe", pieces, roles, True, b"", True, False), begins=True)


def _piece(i: int, text: str, score: float) -> Piece:
    """The file has no types: they follow from the place. It writes spaces and line ends plainly."""
    if i < 3:
        names = ("<unk>", "<s>", "</s>")
        return Piece(names[i], score, UNKNOWN if i == 0 else CONTROL)
    is_byte = 3 <= i < 259 and text == f"<0x{i - 3:02X}>"
    return Piece(text.replace(" ", "\u2581"), score, BYTE if is_byte else NORMAL)
