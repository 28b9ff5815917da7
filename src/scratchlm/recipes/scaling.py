"""Scaling rules as data: how good `recipe` becomes, by the size of the model and what it reads.

"Measured" means benchmarks/results/scaling.json, the runs of benchmarks/scaling.py.
"""

import bz2
import math
from dataclasses import dataclass

import numpy as np

from scratchlm.recipes.sample_tokenizer import learn_on_sample
from scratchlm.tokenizer.config import TokenizerConfig

# (layers, width) of the models that `build` chooses from. Depth and width grow together, as in
# Pythia (arXiv:2304.01373, table 1); what is deeper for its width was slower here, and no better.
LADDER = (
    (2, 128), (3, 128), (4, 192), (5, 256), (6, 320), (6, 384), (8, 448), (8, 512), (10, 640),
    (12, 768), (16, 1024), (20, 1280), (24, 1536), (24, 2048),
)  # fmt: skip

# From so many bytes of text on, a byte-level vocabulary of so many ids; twice as many where a
# character takes three bytes, as in Chinese. Measured at 1.1 MB of English (2,048 before 1,024 and
# 4,096) and 1.4 MB of Chinese (4,096 before 2,048 and 8,192); the rest as in other models.
VOCABULARIES = (
    (0, 512), (3e5, 1024), (8e5, 2048), (5e6, 4096), (30e6, 8192), (300e6, 16_384), (3e9, 32_768),
)  # fmt: skip
MOST_CHARACTERS = 512  # of an alphabet; a Chinese text always leaves some out that the next has
FITTED_BYTES = 1_000_000  # of text, at least, in the runs that the rule for the loss is fitted to
CHARACTERS_BELOW = 3e6  # bytes: on less, words lost on text that is far away (docs/LOG.md)

# The batch grows with the root of what is read (measured at one end: for 2 to 3 M in all, 1,024
# tokens are best where they are characters, 2,048 where they are words, docs/LOG.md; the exponent
# is that of arXiv:2401.02954 and of arXiv:2412.04403, near a half).
STEP_TOKENS = {"char": 1024, "bpe": 2048}
STEP_TOKENS_FOR = 4e6

# The loss of `recipe` in bits per byte. What a text holds at least is told by bzip2, and where a
# model begins by the frequencies of its tokens. From there it falls with what is read, as in
# arXiv:2203.15556, where what is read again counts less and less, as in arXiv:2305.16264; and it
# rises where a model learns a small text by heart. Fitted to the measured runs:
# benchmarks/scaling.py --fit prints these numbers, and how far each run is from them.
FLOOR = 0.0256
BY_SIZE, SIZE_EXPONENT = 0.409, 0.15
BY_DATA, DATA_EXPONENT = 0.456, 0.3
REUSE = 16.0
BY_HEART, HEART_EXPONENT = 0.177, 0.5

BEST_AFTER = (1, 2, 4, 8)  # readings, at which the best model of a longer run may be
MOST_READINGS = 8.0  # beyond, dropout keeps what was reached, and no more (measured)
DROPOUTS = ((0.0, 0.0), (5.0, 0.1), (10.0, 0.2))  # from so many readings on

COMPRESSED_BYTES = 1_000_000  # of a text that tell how hard it is
_VOCABULARY = 2048  # that tells it too


def vocabulary_for(n_bytes: float, bytes_per_character: float) -> int:
    """The size of a byte-level vocabulary that so much text fills well."""
    size = next(size for start, size in reversed(VOCABULARIES) if n_bytes >= start)
    return 2 * size if bytes_per_character > 2 else size


def step_tokens_for(tokens: float, kind: str) -> int:
    """Tokens of one step of a run over so many: a power of two times STEP_TOKENS.

    kind    of the tokenizer, "char" or "bpe"
    """
    times = math.sqrt(max(1.0, tokens / STEP_TOKENS_FOR))
    return int(STEP_TOKENS[kind] * 2 ** round(math.log2(times)))


def dropout_for(readings: float) -> float:
    """Against learning by heart what is read again and again (measured: docs/LOG.md)."""
    return next(dropout for start, dropout in reversed(DROPOUTS) if readings >= start)


@dataclass(frozen=True)
class Difficulty:
    """How hard a text is, in bits per byte.

    compressed   as bzip2 writes it: about 1.6 for code, 2.3 for English, 3 for Chinese
    drawn        of its tokens, each by its frequency alone: about 3; of a byte-level vocabulary of
                 its own, whatever the model's is
    """

    compressed: float
    drawn: float


def difficulty(text: str) -> Difficulty:
    """What a sample of a text tells."""
    part = text.encode()[:COMPRESSED_BYTES].decode(errors="ignore")
    n_bytes = max(1, len(part.encode()))
    config = TokenizerConfig(kind="bpe", vocab_size=_VOCABULARY)
    ids = learn_on_sample([part], config, whole=False).encode(part)
    counts = np.unique(np.asarray(ids), return_counts=True)[1]
    drawn = float(-(counts * np.log2(counts / max(1, counts.sum()))).sum()) / n_bytes
    return Difficulty(8 * len(bz2.compress(part.encode())) / n_bytes, drawn)


def expected_bits(
    text: Difficulty, parameters: float, read_bytes: float, unique_bytes: float
) -> float:
    """Held-out bits per byte of `recipe` at the end of its schedule.

    parameters     of the blocks: the vocabulary's tables are left out
    read_bytes     of text that the run reads, repetitions included
    unique_bytes   of text that there are to read
    """
    readings = min(read_bytes / unique_bytes, MOST_READINGS)
    tried = [readings, *(n for n in BEST_AFTER if n < readings)]  # the best checkpoint is kept
    return min(_bits_after(text, parameters, n, unique_bytes) for n in tried)


def _bits_after(text: Difficulty, parameters: float, readings: float, unique_bytes: float) -> float:
    again = max(readings - 1, 0.0)
    effective = min(readings, 1 + REUSE * (1 - math.exp(-again / REUSE)))
    size, data = parameters / 1e6, effective * unique_bytes / 1e6
    return (
        text.compressed * (FLOOR + BY_SIZE * size**-SIZE_EXPONENT)
        + text.compressed * BY_HEART * size**HEART_EXPONENT * again / 10
        + text.drawn * BY_DATA * data**-DATA_EXPONENT
    )
