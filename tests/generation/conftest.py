"""Small models with lively weights, and small tokenizers."""

from collections.abc import Callable, Iterator

import pytest
import torch

from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

MakeModel = Callable[..., Transformer]
TEXT = (
    "The cat sat on the mat, and the dog ran after it. 春眠不觉晓,处处闻啼鸟。 🙂 你好,世界!\n" * 3
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small only lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_model() -> MakeModel:
    """A random model whose greedy text wanders instead of repeating one token."""

    def make(family: str = "llama", vocab_size: int = 64, max_seq_len: int = 32) -> Transformer:
        grouped = 0 if family == "gpt2" else 2
        config = ModelConfig(
            family, vocab_size, max_seq_len, 2, 32, 4, grouped, d_ff=48, tie_embeddings=False
        )
        model = Transformer(config).eval()
        generator = torch.Generator().manual_seed(1)
        for weight in model.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, 0.0, 0.25, generator=generator)
        return model

    return make


@pytest.fixture(scope="session")
def characters() -> Tokenizer:
    return train_tokenizer([TEXT], TokenizerConfig(kind="char"))


@pytest.fixture(scope="session")
def byte_pairs() -> Tokenizer:
    """Byte-level BPE so small that a Chinese character takes several ids."""
    return train_tokenizer([TEXT], TokenizerConfig(kind="bpe", vocab_size=280))
