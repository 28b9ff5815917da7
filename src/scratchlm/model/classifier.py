"""A transformer that says which class a text is of: the same model with another head."""

from dataclasses import replace
from typing import Literal, Self

import torch
from torch import Tensor, nn

from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Linear, Transformer

Pooling = Literal["last", "mean"]


class Classifier(Transformer):
    """A transformer with a score for each class in the place of one for each word.

    class_names   in the order of the scores
    pooling       "last" reads the state at a text's last token, "mean" that of all its tokens
    """

    def __init__(
        self, config: ModelConfig, class_names: tuple[str, ...], pooling: Pooling = "last"
    ) -> None:
        super().__init__(replace(config, tie_embeddings=False))
        self.class_names, self.pooling = class_names, pooling
        self.head = Linear(config.d_model, len(class_names), bias=False)

    @classmethod
    def of(
        cls,
        model: Transformer,
        class_names: tuple[str, ...],
        pooling: Pooling,
        generator: torch.Generator | None = None,
    ) -> Self:
        """A classifier with the body of a language model, whose weights it takes over.

        The head is drawn from normal(0, .02), as transformers does.
        """
        with torch.device("meta"):
            made = cls(model.config, class_names, pooling)
        for name, child in model.named_children():
            if name != "head":
                setattr(made, name, child)
        for name, buffer in model.named_buffers(recurse=False):
            made.register_buffer(name, buffer, persistent=False)
        like = model.embedding.weight
        head = torch.empty(len(class_names), model.config.d_model).normal_(
            0, 0.02, generator=generator
        )
        made.head.weight = nn.Parameter(head.to(like.device, like.dtype))
        return made

    def bare(self) -> "Classifier":
        """The same shape without numbers."""
        with torch.device("meta"):
            return Classifier(self.config, self.class_names, self.pooling)

    def scores(self, tokens: Tensor, at: Tensor, segments: Tensor | None = None) -> Tensor:
        """The logits of the classes of texts, in rows that may hold several.

        tokens     (B, T) int64
        at         (B, T) bool: where texts end; each reads its own segment up to there
        segments   (B, T) int64 or None
        returns    (number of ends, classes) float32, in the order of the rows
        """
        hidden = self.hidden(tokens, segments=segments)  # (B, T, D)
        if self.pooling == "last":
            return self.head(hidden[at]).float()
        sums = hidden.float().cumsum(dim=1)  # (B, T, D)
        lengths = self._positions(tokens, segments, None).expand_as(tokens)[at] + 1  # (n,)
        row, end = at.nonzero(as_tuple=True)
        before = end - lengths
        first = sums[row, before.clamp(min=0)] * (before >= 0)[:, None]  # (n, D)
        mean = (sums[row, end] - first) / lengths[:, None]
        return self.head(mean.to(hidden.dtype)).float()
