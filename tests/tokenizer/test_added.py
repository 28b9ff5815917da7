"""Control tokens that a tokenizer is given afterwards: ids as in transformers, nothing else new."""

import pytest
from transformers import AutoTokenizer

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.tokenizer.compose import bpe, byte_level, compose
from scratchlm.tokenizer.rules import bytes_of_characters
from scratchlm.tokenizer.tokenizer import Tokenizer

NEW = ["<|turn|>", "<|stop|>"]


def test_new_tokens_stand_behind_all_others(tokenizer):
    more = tokenizer.with_special_tokens(NEW)
    first = tokenizer.vocab_size
    assert more.vocab_size == first + 2
    assert [more.special_tokens[name] for name in NEW] == [first, first + 1]
    assert more.hash != tokenizer.hash
    assert (more.kind, more.eos_id, more.facts) == (
        tokenizer.kind,
        tokenizer.eos_id,
        tokenizer.facts,
    )
    text = "a b"
    assert more.encode(text) == tokenizer.encode(text)
    ids = more.encode(f"<|turn|>{text}<|stop|>", allowed_special=True)
    assert (ids[0], ids[-1]) == (first, first + 1)
    assert more.decode(ids[:1]) == "<|turn|>"
    written = more.decode(ids, skip_special=True).strip()
    assert written == tokenizer.decode(tokenizer.encode(text), skip_special=True).strip()


def test_tokens_that_are_there_change_nothing(tokenizers):
    tokenizer = tokenizers["bpe"]
    assert tokenizer.with_special_tokens([]) is tokenizer
    more = tokenizer.with_special_tokens([*NEW, NEW[0]])
    assert more.with_special_tokens(NEW) is more
    assert more.with_special_tokens([*NEW, "<|x|>"]).vocab_size == more.vocab_size + 1


def test_saved_and_loaded_here_and_there(tokenizer, tmp_path):
    more = tokenizer.with_special_tokens(NEW).with_chat_template("{{ messages }}")
    more.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.hash, again.special_tokens) == (more.hash, more.special_tokens)
    assert again.chat_template == more.chat_template == "{{ messages }}"
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.convert_tokens_to_ids(NEW) == [more.special_tokens[name] for name in NEW]
    assert len(theirs) == more.vocab_size
    assert theirs.chat_template == "{{ messages }}"


def test_a_chat_template_is_no_part_of_the_hash(tokenizers):
    tokenizer = tokenizers["bpe"]
    assert tokenizer.chat_template is None
    more = tokenizer.with_chat_template("{{ 1 }}")
    assert more.hash == tokenizer.hash
    assert more.with_special_tokens(NEW).chat_template == "{{ 1 }}"


def test_names_that_cannot_be(tokenizers):
    word = next(iter(tokenizers["whitespace"]._words))
    with pytest.raises(ConfigError, match="is an ordinary token of this tokenizer"):
        tokenizers["whitespace"].with_special_tokens([word])
    for name in ("", " <|x|>", "<|x|>\n", "\n", "a\nb"):
        with pytest.raises(ConfigError, match="cannot be a control token"):
            tokenizers["bpe"].with_special_tokens([name])


def test_ids_without_a_token():
    tokens = {char: i for i, char in enumerate(sorted(bytes_of_characters()))}
    model = {**bpe([], []), "vocab": {**tokens, "ab": 300}}
    rules = {"pre_tokenizer": byte_level(use_regex=True), "decoder": byte_level(use_regex=True)}
    gaps = compose("bpe", model, {"bos": None, "eos": None}, **rules)
    assert gaps.vocab_size == 301
    with pytest.raises((ConfigError, CheckpointError)):
        gaps.with_special_tokens(NEW)
