"""build: its choices belong to the run, so that the same command goes on with it."""

from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.recipes.build import build


def test_the_same_call_goes_on_whatever_would_be_chosen_now(tmp_path: Path):
    """The number of steps follows from the speed of the machine at that moment."""
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("To be, or not to be, that is the question.\n" * 20, encoding="utf-8")
    assert build(text, run, steps=3, device="cpu").step == 3
    assert build(text, run, device="cpu").step == 3
    assert build(text, run, steps=4, device="cpu").step == 4
    with pytest.raises(ConfigError, match=r"was begun with tokenizer.kind = 'char', now it is"):
        build(text, run, tokenizer="bpe", device="cpu")
    with pytest.raises(ConfigError, match=r"was begun with text.paths"):
        build(tmp_path, run, device="cpu")
    with pytest.raises(ConfigError, match="holds a run"):
        build(text, run, steps=4, resume="never", device="cpu")
