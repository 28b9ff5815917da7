"""NEFTune (arXiv:2310.05914): noise on the embeddings in training, which makes answers better."""

import torch
from torch import Tensor, nn

from scratchlm.model.transformer import Transformer


def add_noise(model: Transformer, alpha: float) -> None:
    """From now on, in training, embeddings get uniform noise of alpha / sqrt(T D) at most."""

    def noisy(module: nn.Module, _: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        if not module.training:
            return embedded
        most = alpha / (embedded.shape[1] * embedded.shape[2]) ** 0.5
        return embedded + torch.empty_like(embedded).uniform_(-most, most)

    model.embedding.register_forward_hook(noisy)
