"""What is true of every kind of tokenizer."""

import hashlib
import itertools
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

MARKERS = ["<|endoftext|>", "<s>", "</s>", "<unk>", "<pad>", "<|unk|>", "<|bos|>", "<0x0A>"]
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
marked_text = st.lists(st.one_of(unicode_text, st.sampled_from(MARKERS))).map("".join)


def test_saved_and_loaded_is_the_same(tokenizer, lines, tmp_path):
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.hash == tokenizer.hash
    assert loaded.kind == tokenizer.kind
    assert loaded.special_tokens == tokenizer.special_tokens
    for role in ("vocab_size", "bos_id", "eos_id", "pad_id", "unk_id"):
        assert getattr(loaded, role) == getattr(tokenizer, role), role
    assert loaded.encode_batch(lines) == tokenizer.encode_batch(lines)
    assert Tokenizer.load(tmp_path / "tokenizer.json").hash == tokenizer.hash


def test_hash_is_that_of_the_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    content = (tmp_path / "tokenizer.json").read_bytes()
    assert tokenizer.hash == hashlib.sha256(content).hexdigest()


def test_hash_survives_another_layout_of_the_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    definition = json.loads(file.read_text(encoding="utf-8"))
    shuffled = dict(reversed(definition.items())) | {"padding": {"strategy": "BatchLongest"}}
    file.write_text(json.dumps(shuffled), encoding="utf-8")
    assert Tokenizer.load(tmp_path).hash == tokenizer.hash


def test_training_again_gives_the_same_hash(text):
    for kind in ("bpe", "sentencepiece-bpe", "sentencepiece-unigram"):
        config = TokenizerConfig(kind=kind, vocab_size=500)
        assert train_tokenizer([text], config).hash == train_tokenizer([text], config).hash


def test_other_tools_read_the_folder_with_the_same_ids(tokenizer, text, tmp_path):
    """`tokenizers` and `transformers`; spaCy's and jieba's words need segmented text there."""
    tokenizer.save(tmp_path)
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for line in text.split("\n"):
        # their default reads markers in text as control tokens
        tokens = tokenizer.encode(line, allowed_special=True)
        segmented = line
        if tokenizer.kind in ("spacy", "rjieba"):
            line = line.split("<")[0]
            tokens = tokenizer.encode(line)
            segmented = " ".join(tokenizer._segmenter.split(line))
        assert backend.encode(segmented, add_special_tokens=False).ids == tokens, line
        assert theirs.encode(segmented, add_special_tokens=False) == tokens, line
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == tokenizer.eos_id
    assert theirs.bos_token_id == tokenizer.bos_id
    assert theirs.pad_token_id == tokenizer.pad_id


def test_batch_equals_one_by_one(tokenizer, lines):
    flags = [i % 3 == 0 for i in range(len(lines))]
    one_by_one = [tokenizer.encode(x, continues=c) for x, c in zip(lines, flags, strict=True)]
    assert tokenizer.encode_batch(lines, continues=flags) == one_by_one
    assert tokenizer.encode_batch([]) == []


@given(text=unicode_text)
@settings(max_examples=300, deadline=None)
def test_decode_undoes_encode_in_bytes(text):
    tokenizer = gpt2_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decode_undoes_encode(subword, lines):
    for line in lines:
        expected = line
        if subword.kind.startswith("sentencepiece"):
            expected = line.replace("\u2581", " ")  # its sign for a space
        assert subword.decode(subword.encode(line)) == expected


def test_decode_equals_transformers(subword, lines, tmp_path):
    subword.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for line in lines:
        tokens = subword.encode(line)
        assert subword.decode(tokens) == theirs.decode(tokens)


def test_stream_gives_whole_characters_and_all_of_the_text(tokenizer, lines):
    for line in lines:
        tokens = tokenizer.encode(line)
        stream = tokenizer.stream()
        parts = [stream.push(token) for token in tokens]
        assert "\ufffd" not in "".join(parts)
        assert "".join(parts) + stream.flush() == tokenizer.decode(tokens)


def test_stream_waits_for_the_last_byte_of_a_character():
    tokenizer = gpt2_tokenizer()
    stream = tokenizer.stream()
    tokens = tokenizer.encode("\U0001f642")
    assert len(tokens) > 1
    assert [stream.push(token) for token in tokens] == [""] * (len(tokens) - 1) + ["\U0001f642"]
    assert stream.push(tokens[0]) == ""
    assert stream.flush() == "\ufffd"


def test_stream_after_a_prompt_keeps_the_space_of_a_word(tokenizers):
    tokenizer = tokenizers["sentencepiece-bpe"]
    tokens = tokenizer.encode("the people")
    first = len(tokenizer.encode("the"))
    assert tokenizer.decode(tokens[:first]) == "the"
    assert tokenizer.decode(tokens[first:], continues=True) == " people"
    assert tokenizer.decode(tokens[first:]) == "people"


def test_pieces_cut_after_a_line_end_give_the_ids_of_the_whole(tokenizer, text):
    """`continues` at every cut after a line end that lies between two visible characters."""
    cuts = [
        i + 1
        for i in range(1, len(text) - 1)
        if text[i] == "\n" and not text[i - 1].isspace() and not text[i + 1].isspace()
    ]
    draw = random.Random(0)
    whole = tokenizer.encode(text)
    for n_cuts in (1, 10, len(cuts)):
        ends = [*sorted(draw.sample(cuts, n_cuts)), len(text)]
        starts = [0, *ends[:-1]]
        parts = [text[a:b] for a, b in zip(starts, ends, strict=True)]
        flags = [start > 0 for start in starts]
        tokens = tokenizer.encode_batch(parts, continues=flags)
        assert list(itertools.chain(*tokens)) == whole


@given(text=marked_text)
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe", "sentencepiece-unigram", "regex"])
def test_text_never_becomes_a_control_token(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    control = set(tokenizer.special_tokens.values()) - {tokenizer.unk_id}
    tokens = tokenizer.encode(text)
    assert not control & set(tokens)
    if kind != "regex":
        assert tokenizer.decode(tokens) == text.replace("\u2581", " ")


def test_markers_are_text_unless_allowed(tokenizer):
    for name, i in tokenizer.special_tokens.items():
        if i != tokenizer.unk_id and tokenizer.kind != "char":
            assert i not in tokenizer.encode(name)
        assert i in tokenizer.encode(name, allowed_special=True)
        assert tokenizer.decode([i]) == name
        assert tokenizer.decode([i], skip_special=True) == ""


def test_markers_not_flagged_special_are_text_too(tmp_path):
    gpt2_tokenizer().save(tmp_path)
    file = tmp_path / "tokenizer.json"
    definition = json.loads(file.read_text(encoding="utf-8"))
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)
    definition["added_tokens"] += [
        {"id": 50257, "content": "<think>", **flags},
        {"id": 50258, "content": "        ", **flags},
    ]
    file.write_text(json.dumps(definition), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert 50257 not in tokenizer.encode("<think>")
    assert tokenizer.encode("<think>", allowed_special=True) == [50257]
    assert tokenizer.encode("a        ")[-1] == 50258  # eight spaces are text, not control


def test_bos_and_eos(tokenizer):
    for name, token in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id)):
        if token is None:
            with pytest.raises(ConfigError, match=f"{name} = True, but this {tokenizer.kind}"):
                tokenizer.encode("the", **{name: True})
        else:
            place = 0 if name == "bos" else -1
            assert tokenizer.encode("the", **{name: True})[place] == token


def test_joint(tokenizers):
    newline = tokenizers["char"].encode("\n")[0]
    assert tokenizers["char"].joint() == [newline, newline]
    assert tokenizers["whitespace"].joint() == []
    for kind in ("bpe", "gpt2", "regex", "sentencepiece-bpe"):
        assert tokenizers[kind].joint() == [tokenizers[kind].eos_id]
    with_end = train_tokenizer(["abc\n"], TokenizerConfig(kind="char", bos=True, eos=True))
    assert with_end.joint() == [with_end.eos_id] == [5]
    assert with_end.bos_id == 4


def test_byte_lengths_add_up_to_the_text(tokenizers, lines):
    for kind in ("char", "bpe", "gpt2", "sentencepiece-bpe", "sentencepiece-unigram"):
        tokenizer = tokenizers[kind]
        lengths = tokenizer.byte_lengths()
        assert lengths.shape == (tokenizer.vocab_size,)
        assert lengths[list(tokenizer.special_tokens.values())].sum() == 0
        for line in lines:
            if "\u2581" not in line:
                n_bytes = lengths[tokenizer.encode(line, continues=True)].sum()
                assert n_bytes == len(line.encode())


def test_lone_surrogate_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"character 2 of the text is a lone surrogate \(U\+D83D"):
        tokenizer.encode("ab\ud83d")
    with pytest.raises(DataError, match="lone surrogate"):
        tokenizer.encode_batch(["a", "\udc00"])


def test_id_outside_the_vocabulary_is_refused(tokenizer):
    for i in (-1, tokenizer.vocab_size):
        with pytest.raises(DataError, match=f"id {i} is outside the vocabulary"):
            tokenizer.decode([i])


def test_role_without_token_is_left_out_with_a_warning(tmp_path, caplog):
    gpt2_tokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}', encoding="utf-8")
    assert Tokenizer.load(tmp_path).eos_id is None
    assert "names '<end>' as eos_token" in caplog.text


def test_foreign_config_is_kept(tmp_path):
    gpt2_tokenizer().save(tmp_path / "a")
    config = {"eos_token": {"content": "<|endoftext|>"}, "chat_template": "{{ x }}"}
    (tmp_path / "a" / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    foreign = Tokenizer.load(tmp_path / "a")
    assert (foreign.kind, foreign.eos_id) == ("foreign", 50256)
    foreign.save(tmp_path / "b")
    del config["chat_template"]  # which is a file from now on
    assert json.loads((tmp_path / "b" / "tokenizer_config.json").read_text("utf-8")) == config
    assert (tmp_path / "b" / "chat_template.jinja").read_text("utf-8") == "{{ x }}"


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json does not exist"):
        Tokenizer.load(tmp_path)


def test_survives_pickling(tokenizer, lines):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode_batch(lines) == tokenizer.encode_batch(lines)
    assert copy.hash == tokenizer.hash


def test_imports_without_torch():
    modules = [p.stem for p in Path(sys.modules[Tokenizer.__module__].__file__).parent.glob("*.py")]
    names = ", ".join(f"scratchlm.tokenizer.{m}" for m in modules if m != "__init__")
    code = f"import sys; sys.modules['torch'] = None; import {names}"
    subprocess.run([sys.executable, "-c", code], check=True)
