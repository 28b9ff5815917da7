"""The models and batches that training speed is compared on."""

import dataclasses
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Shape:
    """One model and batch, the same for every side.

    batch, cuda_batch   rows in one step on a CPU, on a GPU
    n_steps             steps that are timed; as many on every side
    """

    family: Literal["gpt2", "llama"]
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_ff: int
    vocab_size: int
    seq_len: int
    batch: int
    cuda_batch: int
    dropout: float = 0.0
    n_steps: int = 10

    @property
    def padded_vocab_size(self) -> int:
        """50,304 for GPT-2's 50,257, as nanoGPT has it for speed; small ones as they are."""
        return self.vocab_size if self.vocab_size < 10_000 else -(-self.vocab_size // 64) * 64


_CHAR = Shape("gpt2", 6, 384, 6, 6, 1536, 65, seq_len=256, batch=16, cuda_batch=64)
SHAPES = {
    "char": _CHAR,  # nanoGPT's shakespeare_char, without and with its dropout
    "char-dropout": dataclasses.replace(_CHAR, dropout=0.2),
    "llama288": Shape("llama", 8, 288, 8, 4, 768, 4096, seq_len=256, batch=8, cuda_batch=128),
    "gpt2-124m": Shape(
        "gpt2", 12, 768, 12, 12, 3072, 50257, seq_len=1024, batch=2, cuda_batch=32, n_steps=5
    ),
}


def tiny(shape: Shape) -> Shape:
    """The same parts in a size that takes no time, for --quick."""
    return dataclasses.replace(
        shape,
        n_layers=2,
        d_model=64,
        n_heads=shape.n_heads // shape.n_kv_heads * 2,
        n_kv_heads=2,
        d_ff=128,
        vocab_size=min(shape.vocab_size, 300),
        seq_len=32,
        batch=2,
        cuda_batch=2,
        n_steps=2,
    )
