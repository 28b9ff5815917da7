"""A vocabulary that pretrain learns has not seen the text that validates."""

import pytest

from scratchlm.base.config import read_toml
from scratchlm.data.loader import DataConfig
from scratchlm.model.config import ModelConfig
from scratchlm.recipes.prepare import PrepareConfig
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.trainer import TrainConfig


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_words_of_the_tail_alone_are_no_tokens_but_its_characters_are(tmp_path, kind):
    text = tmp_path / "text.txt"
    text.write_text("春眠不覺曉 to be or not " * 900 + " zyzzyva" * 270, encoding="utf-8")
    config = RunConfig(
        text=TextConfig((str(text),)),
        tokenizer=TokenizerConfig(kind=kind, vocab_size=275),
        prepare=PrepareConfig(split="tail", val_fraction=0.1),
        data=DataConfig(seq_len=16),
        model=ModelConfig("llama", 0, 16, 1, 16, 2),
        train=TrainConfig(steps=1, micro_batch=2, precision="float32", eval_every=1),
    )
    result = pretrain(config, tmp_path / "run", device="cpu")
    tokenizer = Tokenizer.load(result.model)
    assert len(tokenizer.encode(" zyzzyva")) == 8
    assert tokenizer.decode(tokenizer.encode(" zyzzyva")) == " zyzzyva"
    assert read_toml(RunConfig, tmp_path / "run" / "config.toml").model.vocab_size > 0
