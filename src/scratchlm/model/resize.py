"""Room for new tokens in a model that was made without them."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from scratchlm.model.transformer import Transformer


@torch.no_grad()
def resize_vocabulary(model: Transformer, vocab_size: int) -> None:
    """Give embedding and head a row for each of so many tokens, in place.

    New rows are the mean of those that are there, as in transformers' `resize_token_embeddings`
    (nlp.stanford.edu/~johnhew/vocab-expansion.html): a token that is like no other in particular.
    A model with as many rows, or more (a padded embedding), is left alone. A tied head stays tied.
    """
    if vocab_size <= model.config.vocab_size:
        return
    tied = model.head.weight is model.embedding.weight
    model.embedding.weight = nn.Parameter(_grown(model.embedding.weight, vocab_size))
    model.embedding.num_embeddings = vocab_size
    model.head.weight = (
        model.embedding.weight if tied else nn.Parameter(_grown(model.head.weight, vocab_size))
    )
    model.head.out_features = vocab_size
    model.config = replace(model.config, vocab_size=vocab_size)


def _grown(weight: Tensor, n_rows: int) -> Tensor:
    mean = weight.float().mean(dim=0, keepdim=True).to(weight.dtype)
    return torch.cat((weight, mean.expand(n_rows - len(weight), -1)))
