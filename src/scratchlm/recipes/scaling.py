"""Scaling rules as data: how good `recipe` becomes, by the size of the model and what it reads.

"Measured" means benchmarks/results/scaling.json, the runs of benchmarks/scaling.py.
"""

import bz2
import math

# (layers, width) of the models that `build` chooses from. Depth and width grow together, as in
# Pythia (arXiv:2304.01373, table 1); what is deeper for its width was slower here, and no better.
LADDER = (
    (2, 128), (3, 128), (4, 192), (5, 256), (6, 320), (6, 384), (8, 448), (8, 512), (10, 640),
    (12, 768), (16, 1024), (20, 1280), (24, 1536), (24, 2048),
)  # fmt: skip

# From so many bytes of text on, a byte-level vocabulary of so many ids. Measured up to 12 MB, the
# rest as in other models of that size.
VOCABULARIES = (
    (0, 512), (3e5, 1024), (8e5, 2048), (5e6, 4096), (30e6, 8192), (300e6, 16_384), (3e9, 32_768),
)  # fmt: skip
CHARACTERS_BELOW = 1e5  # bytes: too little to learn words from

# The batch grows with the root of what is read (measured at both ends: 1,024 tokens are best for
# 2 M in all; the exponent is that of arXiv:2401.02954 and of arXiv:2412.04403, near a half).
STEP_TOKENS = 1024
STEP_TOKENS_FOR = 4e6

# Expected loss in bits per byte, in units of what bzip2 makes of the text: a floor, a part that
# falls with the parameters, one that falls with what is read (as in arXiv:2203.15556), where
# what is read again counts less and less (as in arXiv:2305.16264), and one that grows where a model
# learns a small text by heart. Fitted to the measured runs.
FLOOR = 0.55
BY_SIZE, SIZE_EXPONENT = 0.16, 0.3
BY_DATA, DATA_EXPONENT = 0.12, 0.35
REUSE = 8.0
EXCESS, EXCESS_EXPONENT = 0.01, 1.0

COMPRESSED_BYTES = 1_000_000  # of a text that tell how hard it is


def vocabulary_for(n_bytes: float) -> int:
    """The size of a byte-level vocabulary that so much text fills well."""
    return next(size for start, size in reversed(VOCABULARIES) if n_bytes >= start)


def step_tokens_for(tokens: float) -> int:
    """Tokens of one step of a run over so many: a power of two times STEP_TOKENS."""
    times = math.sqrt(max(1.0, tokens / STEP_TOKENS_FOR))
    return int(STEP_TOKENS * 2 ** round(math.log2(times)))


def difficulty(text: str) -> float:
    """Bits per byte of a text as bzip2 writes it: 1.6 for code, 2.3 for English, 3 for Chinese."""
    data = text.encode()[:COMPRESSED_BYTES]
    return 8 * len(bz2.compress(data)) / max(1, len(data))


def expected_bits(
    difficulty: float, parameters: float, read_bytes: float, unique_bytes: float
) -> float:
    """Held-out bits per byte of `recipe` at the end of its schedule.

    difficulty     of the text, as the function of that name has it
    parameters     of the blocks: the vocabulary's tables are left out
    read_bytes     of text that the run reads, repetitions included
    unique_bytes   of text that there are to read
    """
    readings = read_bytes / unique_bytes
    again = REUSE * (1 - math.exp(-max(readings - 1, 0) / REUSE))
    effective = min(read_bytes, unique_bytes * (1 + again))
    return difficulty * (
        FLOOR
        + BY_SIZE * (parameters / 1e6) ** -SIZE_EXPONENT
        + BY_DATA * (effective / 1e7) ** -DATA_EXPONENT
        + EXCESS * (parameters / unique_bytes) ** EXCESS_EXPONENT * max(readings - 1, 0)
    )
