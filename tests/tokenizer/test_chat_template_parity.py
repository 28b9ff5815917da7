"""Published templates write what transformers writes, character for character and id for id."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from scratchlm.base.errors import DataError
from scratchlm.formats.gguf_file import open_gguf
from scratchlm.formats.gguf_tokenizer import read_tokenizer
from scratchlm.tokenizer.chat_presets import ALPACA, CHATML
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer

TEMPLATES = sorted((Path(__file__).parent / "templates").glob("*.jinja"))
SYSTEM = {"role": "system", "content": "You are a helpful model. 你好  "}
USER = {"role": "user", "content": "你好, who are you? <b>x</b> [1] \n"}
ANSWER = {"role": "assistant", "content": " A model.\n"}
FURTHER = {"role": "user", "content": "\n  {{ 1 }} & more 😀"}
LAST = {"role": "assistant", "content": "我是 **模型**。\n\n- one\n- two  "}
THOUGHT = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes."}
TALKS = {
    "one question": [USER],
    "system": [SYSTEM, USER],
    "one answer": [SYSTEM, USER, ANSWER],
    "two turns": [SYSTEM, USER, ANSWER, FURTHER],
    "two answers": [USER, ANSWER, FURTHER, LAST],
    "thoughts": [USER, THOUGHT, FURTHER, THOUGHT],
    "thoughts apart": [USER, {**ANSWER, "reasoning_content": "Hm.\n"}],
}
NAME = re.compile(r"<[^<>\s'\"{}]{1,30}>|\[/?[A-Z_]{2,20}\]|<｜[^<>{}]{1,40}｜>")


def with_tokens_of(source: str, tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer with the control tokens that a template writes, some flagged as text."""
    found = dict.fromkeys(["<s>", "</s>", *NAME.findall(source)])
    names = [name for name in found if name not in tokenizer._words]
    more = tokenizer.with_special_tokens(names)
    definition = dict(more.definition)
    definition["added_tokens"] = [
        token | {"special": "think" not in token["content"]} for token in definition["added_tokens"]
    ]
    config = {**more._config, "bos_token": "<s>", "eos_token": "</s>"}
    return Tokenizer(definition, config).with_chat_template(source)


def theirs_of(tokenizer: Tokenizer, folder: Path) -> PreTrainedTokenizerFast:
    tokenizer.save(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def compare(source: str, tokenizer: Tokenizer, folder: Path) -> Iterator[str]:
    """Hold each conversation against transformers; gives those that it does not refuse."""
    ours, theirs = ChatTemplate(source, tokenizer), theirs_of(tokenizer, folder)
    for name, talk in TALKS.items():
        for prompt in (True, False):
            try:
                text = theirs.apply_chat_template(
                    talk, add_generation_prompt=prompt, tokenize=False
                )
            except Exception:  # some refuse such a conversation, and then so do we
                with pytest.raises(DataError, match="refuses"):
                    ours.render(talk, prompt=prompt)
                continue
            ids = theirs.apply_chat_template(talk, add_generation_prompt=prompt)["input_ids"]
            assert ours.render(talk, prompt=prompt) == text, name
            assert ours.encode(talk, prompt=prompt) == ids, name
            yield name


def test_there_are_twenty():
    assert len(TEMPLATES) >= 20


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe"])
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_published_templates(path, kind, tokenizers, tmp_path):
    source = path.read_text("utf-8")
    compared = list(compare(source, with_tokens_of(source, tokenizers[kind]), tmp_path))
    assert len(compared) >= 8


@pytest.mark.parametrize("source", [CHATML, ALPACA], ids=["chatml", "alpaca"])
@pytest.mark.parametrize("kind", ["bpe", "gpt2", "sentencepiece-unigram"])
def test_our_own(source, kind, tokenizers, tmp_path):
    compared = list(compare(source, with_tokens_of(source, tokenizers[kind]), tmp_path))
    assert len(compared) == 2 * len(TALKS)


def test_every_template_of_llama_cpp(shared_data, tokenizers, tmp_path):
    folder = shared_data / "tokenizers" / "llama.cpp-ggml-vocab" / "templates"
    compared = 0
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text("utf-8")
        tokenizer = with_tokens_of(source, tokenizers["bpe"])
        compared += any(compare(source, tokenizer, tmp_path / path.stem))
    assert compared >= 60


def test_a_real_tokenizer_with_its_own_template(shared_data, tmp_path):
    tokenizer = Tokenizer.load(shared_data / "tokenizers" / "minimind")
    assert tokenizer.chat_template
    compared = list(compare(tokenizer.chat_template, tokenizer, tmp_path))
    assert len(compared) == 2 * len(TALKS)


@pytest.mark.parametrize("name", ["qwen2", "phi-3"])
def test_vocabularies_of_llama_cpp_with_their_own_templates(name, shared_data, tmp_path):
    file = shared_data / "tokenizers" / "llama.cpp-ggml-vocab" / f"ggml-vocab-{name}.gguf"
    with open_gguf(file) as opened:
        source = opened.fields["tokenizer.chat_template"]
        tokenizer = read_tokenizer(opened.fields, str(file)).with_chat_template(source)
    assert len(list(compare(source, tokenizer, tmp_path))) == 2 * len(TALKS)


def test_a_template_inside_transformers(tokenizers, tmp_path):
    processing = pytest.importorskip("transformers.models.smolvlm.processing_smolvlm")
    source = processing.DEFAULT_CHAT_TEMPLATE
    tokenizer = with_tokens_of(source, tokenizers["bpe"])
    assert len(list(compare(source, tokenizer, tmp_path))) == 2 * len(TALKS)
