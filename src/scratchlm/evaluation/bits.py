"""How sure bits per byte are, and whether two models differ in them.

Bits per byte are a ratio of two sums, nats and bytes, over units of text. Its linear form (Cochran,
Sampling Techniques, 1977, section 6.3) gives each unit a value whose mean is the ratio and whose
spread is, to first order, that of the ratio; so what serves means serves here.
"""

import math

import numpy as np

from scratchlm.evaluation.perplexity import TextLoss
from scratchlm.evaluation.statistics import Difference, Interval, bootstrap_mean, compare_paired

LEAST_UNITS = 10  # fewer say too little of their spread


def linear_bits(nats: np.ndarray, n_bytes: np.ndarray) -> np.ndarray:
    """A value for each unit of text, in bits per byte; their mean is that of all units together.

    nats      (n,) float64
    n_bytes   (n,) int64, not all 0
    """
    bits = nats / math.log(2)
    ratio = bits.sum() / n_bytes.sum()
    values: np.ndarray = ratio + len(bits) * (bits - ratio * n_bytes) / n_bytes.sum()
    return values


def bits_interval(loss: TextLoss) -> Interval | None:
    """The 95 % interval of bits per byte: as if other text of this kind had been drawn.

    The units are documents, or where these are fewer than ten the windows in them. Windows of one
    text are alike, so their interval says what other passages of this text would give.

    returns   None where there are fewer than ten windows, or no bytes
    """
    units = _by_document(loss)
    units = units if len(units[0]) >= LEAST_UNITS else (loss.window_nats, loss.window_bytes)
    if len(units[0]) < LEAST_UNITS or not units[1].sum():
        return None
    return bootstrap_mean(linear_bits(*units))


def bits_difference(a: TextLoss, b: TextLoss) -> Difference | None:
    """The bits per byte of model b less those of model a, on the same text: below 0 is better.

    Units as in `bits_interval`; windows can be paired where both models have one tokenizer and
    were given the same windows.

    returns   None where nothing can be paired, or fewer than ten
    """
    if len(a.document_nats) != len(b.document_nats):
        return None
    both = (a.document_bytes > 0) & (b.document_bytes > 0)
    if both.sum() >= LEAST_UNITS:
        pairs = [(one.document_nats[both], one.document_bytes[both]) for one in (a, b)]
    elif np.array_equal(a.window_bytes, b.window_bytes) and len(a.window_nats) >= LEAST_UNITS:
        pairs = [(one.window_nats, one.window_bytes) for one in (a, b)]
    else:
        return None
    return compare_paired(*(linear_bits(*pair) for pair in pairs))


def _by_document(loss: TextLoss) -> tuple[np.ndarray, np.ndarray]:
    """Nats and bytes of the documents that have a target."""
    kept = loss.document_bytes > 0
    return loss.document_nats[kept], loss.document_bytes[kept]
