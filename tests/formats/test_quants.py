"""Every type of GGUF tensor, against the numbers that the `gguf` package makes of it."""

import gguf
import numpy as np
import pytest
import torch

from scratchlm.formats.quants import QUANTS


@pytest.mark.parametrize("kind", QUANTS, ids=[quant.name for quant in QUANTS.values()])
def test_numbers_are_those_of_the_gguf_package(kind):
    quant = QUANTS[kind]
    assert gguf.GGML_QUANT_SIZES[kind] == (quant.size, quant.n_bytes)
    assert gguf.GGMLQuantizationType(kind).name == quant.name
    blocks = np.random.default_rng(kind).integers(0, 256, (37, quant.n_bytes), dtype=np.uint8)
    expected = gguf.dequantize(blocks, gguf.GGMLQuantizationType(kind)).reshape(37, quant.size)
    found = quant.read(torch.from_numpy(blocks)).float().numpy()
    finite = np.isfinite(expected)  # random halves are not always numbers
    assert finite.mean() > 0.5
    np.testing.assert_array_equal(np.isfinite(found), finite)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-6)
