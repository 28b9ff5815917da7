"""Our own templates: ChatML as the hub has it, alpaca as in Raschka's book."""

import pytest
from jinja2 import Environment

from scratchlm.base.errors import ConfigError
from scratchlm.tokenizer.chat_presets import ALPACA, CHATML, is_ours, preset, with_preset
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.compose import bpe, byte_level, compose, compose_characters
from scratchlm.tokenizer.rules import bytes_of_characters

ENTRY = {"instruction": "Edit the sentence.", "input": "He go.", "output": "He goes."}


def format_input(entry: dict[str, str]) -> str:
    """From rasbt/LLMs-from-scratch, ch07/01_main-chapter-code (Apache-2.0)."""
    instruction_text = (
        f"Below is an instruction that describes a task. "
        f"Write a response that appropriately completes the request."
        f"\n\n### Instruction:\n{entry['instruction']}"
    )
    input_text = f"\n\n### Input:\n{entry['input']}" if entry["input"] else ""
    return instruction_text + input_text


@pytest.mark.parametrize("given", ["He go.", ""])
def test_alpaca_is_that_of_the_book(given, tokenizers):
    tokenizer = with_preset(tokenizers["gpt2"], "alpaca")
    template = ChatTemplate(ALPACA, tokenizer)
    entry = ENTRY | {"input": given}
    user = {
        "role": "user",
        "content": entry["instruction"] + f"\n\n{given}" * bool(given),
        "instruction": entry["instruction"],
        "input": given,
    }
    answer = {"role": "assistant", "content": entry["output"]}
    asked = format_input(entry) + "\n\n### Response:\n"
    assert template.render([user]) == asked
    assert (
        template.render([user, answer], prompt=False) == asked + entry["output"] + "<|endoftext|>"
    )
    text, spans = template.spans([user, answer])
    assert [text[a:b] for a, b in spans] == [entry["output"] + "<|endoftext|>"]
    assert template.answer_end() == [tokenizer.eos_id]
    assert tokenizer.vocab_size == 50257


def test_alpaca_in_turns_and_with_a_system_message(tokenizers):
    template = ChatTemplate(ALPACA, tokenizers["gpt2"])
    turns = {"system": "Be short.", "user": "Hi.", "assistant": "Yes."}
    say = [{"role": role, "content": content} for role, content in turns.items()]
    say.append({"role": "user", "content": "Ho."})
    assert template.render(say) == (
        "Be short.\n\n### Instruction:\nHi.\n\n### Response:\nYes.<|endoftext|>"
        "\n\n### Instruction:\nHo.\n\n### Response:\n"
    )
    with pytest.raises(Exception, match="alpaca has system, user and assistant alone"):
        template.render([{"role": "tool", "content": "x"}])


def test_chatml(tokenizers):
    tokenizer = with_preset(tokenizers["bpe"], "chatml")
    assert tokenizer.vocab_size == tokenizers["bpe"].vocab_size + 2
    template = ChatTemplate(tokenizer.chat_template, tokenizer)
    say = [{"role": role, "content": f"I am {role}."} for role in ("system", "user", "assistant")]
    assert template.render(say[:2]) == (
        "<|im_start|>system\nI am system.<|im_end|>\n<|im_start|>user\nI am user.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert template.answer_end() == [tokenizer.special_tokens["<|im_end|>"]]
    ids, targets = template.encode_with_targets(say)
    learned = [i for i, one in zip(ids, targets) if one]
    assert tokenizer.decode(learned) == "I am assistant.<|im_end|>"
    assert targets[-1] is False  # the line end
    assert with_preset(tokenizer, "chatml").hash == tokenizer.hash


def test_a_model_whose_maker_puts_bos_before_everything():
    begins = compose(
        "bpe",
        bpe([*sorted(bytes_of_characters()), "<s>"], []),
        {"bos": "<s>", "eos": None},
        decoder=byte_level(use_regex=True),
        begins=True,
    )
    tokenizer = with_preset(begins, "chatml")
    assert is_ours(tokenizer.chat_template)
    template = ChatTemplate(tokenizer.chat_template, tokenizer)
    ids = template.encode([{"role": "user", "content": "x"}])
    assert ids[:2] == [begins.bos_id, tokenizer.special_tokens["<|im_start|>"]]
    assert template.answer_end() == [tokenizer.special_tokens["<|im_end|>"]]


def test_what_cannot_be():
    with pytest.raises(ConfigError, match=r"no chat template 'chatlm'\. There are: chatml, alpaca"):
        preset("chatlm")
    without = compose_characters(list("ab\n"), dict.fromkeys(("bos", "eos", "pad", "unk")))
    with pytest.raises(ConfigError, match=r"this char tokenizer has none\. Use chatml"):
        with_preset(without, "alpaca")
    assert with_preset(without, "chatml").vocab_size == 5


@pytest.mark.parametrize("source", [CHATML, ALPACA])
def test_plain_jinja_reads_them(source):
    """llama.cpp, ollama's importers and others know no `generation` block."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    say = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    text = environment.from_string(source).render(messages=say, eos_token="</s>")
    assert text.count("x") == text.count("y") == 1 or "Response:\ny</s>" in text


def test_the_same_text_here_and_in_the_process_with_limits(tokenizers):
    """Our own templates run in this process; one that differs by a comment does not."""
    for source in (CHATML, ALPACA):
        tokenizer = tokenizers["gpt2"].with_special_tokens(preset("chatml").special_tokens)
        say = [
            {"role": "user", "content": "你好 <|im_end|>"},
            {"role": "assistant", "content": "y\n"},
        ]
        here, there = ChatTemplate(source, tokenizer), ChatTemplate(source + "{# #}", tokenizer)
        assert is_ours(here.source)
        assert not is_ours(there.source)
        assert here.spans(say) == there.spans(say)
        assert here.encode_with_targets(say) == there.encode_with_targets(say)
