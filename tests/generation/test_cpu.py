"""The quick ways on a CPU change no value and leave nothing switched."""

from collections.abc import Callable

import pytest
import torch

from scratchlm.generation.cpu import ONE_THREAD_BELOW, lay_out_for_decoding, threads_for
from scratchlm.generation.engine import Engine
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request
from scratchlm.model.transformer import Transformer


def test_another_layout_keeps_every_value(make_model: Callable[..., Transformer]) -> None:
    plain, laid_out = make_model(), make_model()
    lay_out_for_decoding(laid_out)
    assert laid_out.head.weight.stride() == (1, 64)
    for (name, ours), theirs in zip(
        laid_out.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    request = Request([1, 2, 3], Sampling(max_new_tokens=40, temperature=0))
    written = [[t.id for t in Engine(model).stream(request)] for model in (plain, laid_out)]
    assert written[0] == written[1]


def test_small_work_has_one_thread_and_then_all_again() -> None:
    torch.set_num_threads(2)
    with threads_for(ONE_THREAD_BELOW - 1):
        assert torch.get_num_threads() == 1
    with threads_for(ONE_THREAD_BELOW):
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), threads_for(1):
        raise KeyError
    assert torch.get_num_threads() == 2
