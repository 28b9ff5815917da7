"""A model that is to know new words: rows for them in the embedding and in the head."""

import dataclasses

import torch
from torch import nn

from scratchlm.model.transformer import Transformer


def resize_vocabulary(model: Transformer, vocab_size: int) -> None:
    """Give a model rows for new ids, in place; one that has spare rows keeps them as they are.

    vocab_size   of the tokenizer; a model with so many rows, or more, is left alone

    New rows are the mean of those there are, in the embedding and in a head of its own: a new id is
    then neither likelier nor less likely than others, and moves no probability of the old ones by
    more than a new word must (J. Hewitt, "Initializing New Word Embeddings for Pretrained Language
    Models", 2021; transformers' `mean_resizing`, which adds noise of a variance of 1e-9). The
    parameters are new objects: make the optimizer afterwards.
    """
    old = model.config.vocab_size
    if vocab_size <= old:
        return
    tied = model.head.weight is model.embedding.weight
    _add_rows(model.embedding, vocab_size)
    model.embedding.num_embeddings = vocab_size
    if tied:
        model.head.weight = model.embedding.weight
    elif model.head.out_features == old:  # that of a classifier has its classes
        _add_rows(model.head, vocab_size)
    if model.head.out_features == old:
        model.head.out_features = vocab_size
    model.config = dataclasses.replace(model.config, vocab_size=vocab_size)


@torch.no_grad()
def _add_rows(module: nn.Embedding | nn.Linear, n: int) -> None:
    weight = module.weight
    mean = weight.double().mean(dim=0).to(weight.dtype)  # float32 sums of 1e5 rows lose digits
    rows = torch.cat([weight, mean.expand(n - len(weight), -1)])
    module.weight = nn.Parameter(rows, requires_grad=weight.requires_grad)
