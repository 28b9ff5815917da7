"""A small model folder, as training would leave it."""

from pathlib import Path

import pytest
import torch

from scratchlm.checkpoint.folder import save_model
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights behind characters, some of them Chinese; context 64, no end token."""
    tokenizer = train_tokenizer(["ab cd\n春眠不觉晓。"], TokenizerConfig(kind="char"))
    config = ModelConfig("llama", tokenizer.vocab_size, 64, 2, 32, 4, tie_embeddings=False)
    model = Transformer(config)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, 0.0, 0.25, generator=generator)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, model, tokenizer)
    return folder
