"""What `build` chooses: by the text, the machine's speed and the time; measured by a stand-in."""

import pytest
import torch

from scratchlm.base.errors import DataError
from scratchlm.corpus import bundled
from scratchlm.corpus.read import find_files
from scratchlm.model.transformer import Transformer
from scratchlm.recipes import scaling
from scratchlm.recipes.choose import Choice, TextFacts, choose, look_at
from scratchlm.recipes.scaling import Difficulty

CPU = torch.device("cpu")
SHAKESPEARE = look_at(find_files([bundled.resolve("bundled:shakespeare")]))
TANG = look_at(find_files([bundled.resolve("bundled:tang")]))


def machine(flops: float):
    """`probe.step_seconds` of a machine of so many operations a second."""

    def step_seconds(config, _device, _seconds):
        with torch.device("meta"):
            model = Transformer(config.model)
        tokens = config.train.micro_batch * config.data.seq_len
        return 0.004 + tokens * model.flops_per_token(config.data.seq_len) / flops

    return step_seconds


def chosen(facts=SHAKESPEARE, seconds=600.0, flops=3e11, **options) -> Choice:
    return choose(facts, CPU, seconds, step_seconds=machine(flops), **options)


def larger(facts: TextFacts, n_bytes: float) -> TextFacts:
    return TextFacts(int(n_bytes), facts.sample, facts.n_characters)


def blocks(choice: Choice) -> int:
    config = choice.config.model
    return config.n_layers * config.d_model**2


def test_a_text_is_looked_at():
    assert SHAKESPEARE.n_bytes == 1_115_394
    assert SHAKESPEARE.bytes_per_character == 1.0
    assert 60 <= SHAKESPEARE.n_characters <= 65
    assert 2.5 < TANG.bytes_per_character < 3.0


def test_many_files_are_all_looked_at(tmp_path):
    for i in range(600):
        (tmp_path / f"{i}.txt").write_text(chr(0x4E00 + i) + "x" * 3000, encoding="utf-8")
    facts = look_at(find_files([tmp_path]))
    assert facts.n_characters > 450  # the sample holds 500 of them
    assert facts.n_bytes == 600 * 3003


def test_a_text_without_text_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(DataError, match="all of it is empty"):
        look_at(find_files([tmp_path / "a.txt"]))


def test_more_time_and_more_text_take_larger_models():
    sizes = [blocks(chosen(larger(SHAKESPEARE, 1e9), s)) for s in (20, 200, 2000, 20_000)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 20 * sizes[0]
    assert blocks(chosen(larger(SHAKESPEARE, 2e5), 3600)) < sizes[2]


def test_a_faster_machine_takes_larger_models_and_expects_less_loss():
    slow, fast = chosen(flops=3e10), chosen(flops=3e12)
    assert blocks(slow) <= blocks(fast)
    assert slow.bits > fast.bits


@pytest.mark.parametrize("facts", [SHAKESPEARE, TANG])
def test_what_is_chosen_fills_the_time(facts):
    choice = chosen(facts, 300.0)
    assert 200 < choice.steps * choice.step_s < 300
    config = choice.config
    assert config.model.d_model // config.model.n_heads == 64  # which every server accepts
    assert config.model.vocab_size == 0  # the tokenizer's own
    assert config.schedule.kind == "wsd"
    assert 4 <= choice.steps / config.train.eval_every <= 7
    assert choice.readings > 1
    assert choice.config.model.dropout == scaling.dropout_for(choice.readings)
    assert len(choice.reasons) == 6


def test_only_what_will_be_read_is_prepared():
    huge = chosen(larger(SHAKESPEARE, 4e9), 180.0)
    assert 0 < huge.config.prepare.share < 0.05
    assert huge.config.prepare.share * 4e9 > 1.1 * huge.readings * 4e9
    assert chosen(seconds=600).config.prepare.share == 1.0


def test_tokenizers_follow_the_text_and_the_wish():
    assert chosen().config.tokenizer.kind == "char"
    assert chosen(tokenizer="bpe").config.tokenizer.vocab_size == 2048
    assert chosen(TANG).config.tokenizer.vocab_size == 4096  # new poems have new characters
    assert chosen(larger(SHAKESPEARE, 1e8), tokenizer="char").config.tokenizer.kind == "char"
    sizes = [chosen(larger(SHAKESPEARE, n)).config.tokenizer.vocab_size for n in (4e6, 1e7, 1e8)]
    assert sizes == sorted(set(sizes))


def test_a_text_too_short_for_a_row_gets_shorter_rows():
    short = TextFacts(600, SHAKESPEARE.sample[:600], 40)
    assert chosen(short).config.data.seq_len <= 30


def test_the_expected_loss_falls_with_size_and_reading_and_rises_with_difficulty():
    english = Difficulty(2.35, 2.9)

    def bits(text=english, parameters=2e6, read=5e6, unique=5e6):
        return scaling.expected_bits(text, parameters, read, unique)

    assert bits(parameters=4e6) < bits()
    assert bits(read=1e7, unique=1e7) < bits()
    assert bits(read=1e7) < bits()  # read twice
    assert bits(read=1e7, unique=1e7) < bits(read=1e7)  # but new text is better
    assert bits(read=7.9 * 5e6, parameters=2e7) == bits(read=4 * 5e6, parameters=2e7)  # by heart
    assert bits(text=Difficulty(3.0, 3.0)) > bits()


def test_difficulty_is_told_by_compression_and_by_single_tokens():
    shakespeare, tang = (scaling.difficulty(facts.sample) for facts in (SHAKESPEARE, TANG))
    assert 2.2 < shakespeare.compressed < 2.5 < 2.8 < tang.compressed
    assert 2.8 < shakespeare.drawn < 3.0 < 3.2 < tang.drawn
    assert scaling.difficulty("ab" * 2000).compressed < 0.3


def test_batches_grow_with_what_is_read_in_powers_of_two():
    tokens = [scaling.step_tokens_for(n, "char") for n in (1e5, 4e6, 6e7, 1e9)]
    assert tokens[:2] == [1024, 1024]
    assert tokens == sorted(tokens)
    assert all(n.bit_count() == 1 for n in tokens)
