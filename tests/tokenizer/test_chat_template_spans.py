"""What the assistant wrote, in templates of many kinds: all of it, its end, nothing else."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from scratchlm.base.errors import DataError
from scratchlm.tokenizer.chat_presets import ALPACA, CHATML
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer

TEMPLATES = Path(__file__).parent / "templates"
NAMES = [
    "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|end|>", "<|user|>", "<|assistant|>",
    "<|return|>", "<|start|>", "<|assistant_end|>", "<seed:eos>", "<think>", "</think>",
]  # fmt: skip
USER, FURTHER = ({"role": "user", "content": text} for text in ("Who are you?", " And \n you? "))
ANSWER = {"role": "assistant", "content": " A 模型😀.\n"}
LAST = {"role": "assistant", "content": "Me?\n\n  Yes.  "}
THOUGHT = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes."}
TALK = [USER, ANSWER, FURTHER, LAST]


@pytest.fixture(scope="module", params=["bpe", "sentencepiece-bpe"])
def tokenizer(request, tokenizers) -> Tokenizer:
    more = tokenizers[request.param].with_special_tokens(NAMES)
    definition = dict(more.definition)
    definition["added_tokens"] = [
        token | {"special": "think" not in token["content"]} for token in definition["added_tokens"]
    ]
    return Tokenizer(definition, {**more._config, "bos_token": "<s>", "eos_token": "</s>"})


def published(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text("utf-8")


def written(source: str, tokenizer: Tokenizer, talk: list[dict]) -> list[str]:
    """The answers that are found, once ids and targets have been held against them."""
    template = ChatTemplate(source, tokenizer)
    text, spans = template.spans(talk)
    ids, targets = template.encode_with_targets(talk)
    rendered = template.render(talk, prompt=False)
    assert text.startswith(rendered)
    assert ids[: len(template.encode(talk, prompt=False))] == template.encode(talk, prompt=False)
    _, places = tokenizer.offsets(text, allowed_special=True)
    assert targets == [
        any(start < max(b, a + 1) and a < end for start, end in spans) for a, b in places
    ]
    return [text[start:end] for start, end in spans]


FOUND = {
    "Qwen-Qwen2": [" A 模型😀.\n<|im_end|>", "Me?\n\n  Yes.  <|im_end|>"],
    "HuggingFaceTB-SmolLM3-3B": [" A 模型😀.\n<|im_end|>", "Me?\n\n  Yes.  <|im_end|>"],  # blocks
    "Bielik-11B-v3.0-Instruct": ["A 模型😀.\n<|im_end|>", "Me?\n\n  Yes.  <|im_end|>"],  # trims
    "microsoft-Phi-3-mini": [" A 模型😀.\n<|end|>", "Me?\n\n  Yes.  <|end|>"],
    "microsoft-Phi-3.5-mini-instruct": [" A 模型😀.\n<|end|>", "Me?\n\n  Yes.  <|end|>"],
    "mistralai-Mistral-Nemo-Instruct-2407": [" A 模型😀.\n</s>", "Me?\n\n  Yes.  </s>"],
    "ByteDance-Seed-OSS": ["A 模型😀.<seed:eos>", "Me?\n\n  Yes.<seed:eos>"],
    "Qwen-Qwen3-0.6B": [
        " A 模型😀.\n<|im_end|>",
        "<think>\n\n</think>\n\nMe?\n\n  Yes.  <|im_end|>",  # what it begins the last answer with
    ],
    "openai-gpt-oss-120b": [  # the last answer has an end of its own
        "<|channel|>final<|message|> A 模型😀.\n<|end|>",
        "<|channel|>final<|message|>Me?\n\n  Yes.  <|return|>",
    ],
    "Apertus-8B-Instruct": [  # leaves the last answer open
        " A 模型😀.\n<|assistant_end|>",
        "Me?\n\n  Yes.  <|assistant_end|>",
    ],
    "GLM-4.6": [  # an answer ends where the user's turn begins
        "\n<think></think>\nA 模型😀.<|user|>",
        "\n<think></think>\nMe?\n\n  Yes.<|user|>",
    ],
    "llama-cpp-rwkv-world": [" A 模型😀.\n\n", " Me?\n\n  Yes.\n\n"],  # no token ends it
}


@pytest.mark.parametrize("name", FOUND)
def test_answers_in_published_templates(name, tokenizer):
    assert written(published(name), tokenizer, TALK) == FOUND[name]


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.jinja")), ids=lambda path: path.stem)
def test_every_answer_is_found_in_every_template(path, tokenizer):
    found = written(path.read_text("utf-8"), tokenizer, TALK)
    assert len(found) == 2
    for text, message, other in zip(found, (ANSWER, LAST), (LAST, ANSWER)):
        assert message["content"].strip() in text
        assert other["content"].strip() not in text
        assert "you?" not in text


@pytest.mark.parametrize("source", [CHATML, ALPACA], ids=["chatml", "alpaca"])
def test_our_own_templates(source, tokenizer):
    end = "<|im_end|>" if source == CHATML else "</s>"
    assert written(source, tokenizer, TALK) == [one["content"] + end for one in (ANSWER, LAST)]
    assert written(source, tokenizer, [USER]) == []


def test_thoughts_that_a_template_drops(tokenizer):
    """Qwen3 writes thoughts into the last answer alone; a mark at their beginning would be lost."""
    source = published("Qwen-Qwen3-0.6B")
    assert written(source, tokenizer, [USER, THOUGHT, FURTHER, THOUGHT]) == [
        "Yes.<|im_end|>",
        "<think>\nHm.\n</think>\n\nYes.<|im_end|>",
    ]
    apart = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
    assert written(source, tokenizer, [USER, apart]) == ["<think>\nHm.\n</think>\n\nYes.<|im_end|>"]


def test_thoughts_that_the_prompt_begins(tokenizer):
    """minimind's prompt has empty thoughts in it, where the answer may have others."""
    source = published("minimind")
    thought = THOUGHT["content"] + "<|im_end|>"
    assert written(source, tokenizer, [USER, THOUGHT]) == [thought]
    apart = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
    assert written(source, tokenizer, [USER, apart]) == [thought.removeprefix("<think>\n")]
    assert written(source, tokenizer, [USER, LAST]) == ["Me?\n\n  Yes.  <|im_end|>"]


BLOCKS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}GENERATED{% endgeneration %}BEHIND\n"
    "{% else %}<|im_start|>user\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("inside", "behind"),
    [
        ("{{ m.content }}<|im_end|>", ""),
        ("{{ m.content }}<|im_end|>\n", ""),  # as the template's maker has it
        ("{{ m.content }}", "<|im_end|>"),  # without its end: that is added
        ("Well. {{ m.content | upper }}<|im_end|>", ""),  # where no mark would do
    ],
)
def test_blocks_of_generation(inside, behind, tokenizer, tmp_path):
    source = BLOCKS.replace("GENERATED", inside).replace("BEHIND", behind)
    found = written(source, tokenizer, TALK)
    assert all("<|im_end|>" in text for text in found)
    tokenizer.with_chat_template(source).save(tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path).apply_chat_template(
        TALK, return_assistant_tokens_mask=True, return_dict=True
    )
    ids, targets = ChatTemplate(source, tokenizer).encode_with_targets(TALK)
    assert ids == theirs["input_ids"]
    mask = [bool(one) for one in theirs["assistant_masks"]]
    end = tokenizer.special_tokens["<|im_end|>"]
    added = [i for i, (ours, one) in enumerate(zip(targets, mask)) if ours != one]
    assert [ids[i] for i in added] == ([end] * 2 if behind else [])


def test_blocks_that_do_not_stand_where_they_seem_to(tokenizer):
    """In a macro, transformers' own places are wrong."""
    source = (
        "{% macro turn(m) %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}"
        "{% endgeneration %}<|im_end|>\n{% endmacro %}{% for m in messages %}{{ turn(m) }}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert written(source, tokenizer, TALK) == [
        " A 模型😀.\n<|im_end|>",
        "Me?\n\n  Yes.  <|im_end|>",
    ]


def test_marks_that_change_the_text(tokenizer):
    """A template that looks at the last character is rendered up to each answer instead."""
    source = CHATML.replace("+ message['content'] +", "+ message['content'] + "
                            "('' if message['content'][-1] in '. \\n?' else '!') +")  # fmt: skip
    assert written(source, tokenizer, TALK) == [
        one["content"] + "<|im_end|>" for one in (ANSWER, LAST)
    ]


def test_marks_that_move_the_text(tokenizer):
    """A mark makes nine characters ten, and what stands behind that one place later."""
    source = (
        "{% for m in messages %}{{ m.role }}, {{ m.content | length }}: {{ m.content }}\n\n"
        "{% endfor %}"
    )
    talk = [USER, {"role": "assistant", "content": "Yes. Yes."}, FURTHER, LAST]
    assert written(source, tokenizer, talk) == [
        "assistant, 9: Yes. Yes.\n\n",
        "assistant, 13: " + LAST["content"] + "\n\n",
    ]


def test_thoughts_that_the_prompt_has_begun(tokenizer):
    """What the prompt has written already is not learned, though the content has it too."""
    source = CHATML.replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n")
    assert source != CHATML
    expected = THOUGHT["content"].removeprefix("<think>\n") + "<|im_end|>"
    assert written(source, tokenizer, [USER, THOUGHT]) == [expected]
    assert written(source, tokenizer, [USER, LAST]) == [LAST["content"] + "<|im_end|>"]


@pytest.mark.parametrize(
    "change", ["{{ m.content | upper }}", "{{ m.content | length }}", "{{ m.content[::-1] }}", ""]
)
def test_answers_that_cannot_be_found(change, tokenizer):
    """Without a prompt that is a beginning of the text, and with words that are not in it."""
    source = "{{ messages | length }}{% for m in messages %}" + change + "</s>{% endfor %}"
    talk = [USER, {"role": "assistant", "content": "Yes, well."}]
    with pytest.raises(DataError, match=r"message 2 is the assistant's.* cannot be told .*genera"):
        ChatTemplate(source, tokenizer).spans(talk)


def test_an_empty_answer_is_its_end(tokenizer):
    talk = [USER, {"role": "assistant", "content": " "}, FURTHER, LAST]
    assert written(CHATML, tokenizer, talk) == [" <|im_end|>", LAST["content"] + "<|im_end|>"]


def test_a_conversation_that_begins_with_the_assistant(tokenizer):
    assert written(CHATML, tokenizer, [ANSWER, USER, LAST]) == [
        one["content"] + "<|im_end|>" for one in (ANSWER, LAST)
    ]


def test_the_same_words_on_both_sides(tokenizer):
    talk = [{"role": role, "content": "Yes."} for role in ("user", "assistant") * 3]
    template = ChatTemplate(CHATML, tokenizer)
    text, spans = template.spans(talk)
    assert [text[a:b] for a, b in spans] == ["Yes.<|im_end|>"] * 3
    assert [text[:a].endswith("<|im_start|>assistant\n") for a, _ in spans] == [True] * 3


def test_parts_of_a_message(tokenizer):
    source = (
        "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}"
        "{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}</s>{% endfor %}"
    )
    parts = [{"type": "text", "text": text} for text in ("One, ", "two. ")]
    talk = [{"role": role, "content": parts} for role in ("user", "assistant")]
    assert written(source, tokenizer, talk) == ["assistant: One, two. </s>"]


def test_calls_of_tools_belong_to_the_answer(tokenizer):
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}
    (found,) = written(published("Qwen-Qwen2.5-7B-Instruct"), tokenizer, [USER, message])
    assert found.startswith('Let me see.\n<tool_call>\n{"name": "add"')
    assert found.endswith("</tool_call><|im_end|>")


@pytest.mark.parametrize("kind", ["char", "regex", "whitespace", "gpt2"])
def test_every_kind_of_tokenizer(kind, tokenizers):
    tokenizer = tokenizers[kind].with_special_tokens(["<|u|>", "<|a|>", "<|e|>"])
    source = (
        "{% for m in messages %}{{ '<|u|>' if m.role == 'user' else '<|a|>' }}{{ m.content }}<|e|>"
        "{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}"
    )
    talk = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "the a b"}]
    ids, targets = ChatTemplate(source, tokenizer).encode_with_targets(talk * 2)
    answer = [*tokenizer.encode("the a b"), tokenizer.special_tokens["<|e|>"]]
    assert [i for i, one in zip(ids, targets) if one] == answer * 2
