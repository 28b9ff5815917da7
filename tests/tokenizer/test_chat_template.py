"""Chat templates: what they are given, what becomes of control tokens, what they may refuse."""

import pytest

from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.compose import bpe, byte_level, compose
from scratchlm.tokenizer.rules import bytes_of_characters
from scratchlm.tokenizer.tokenizer import Tokenizer

TALK = [
    {"role": "user", "content": "你好, who are you?"},
    {"role": "assistant", "content": "A model.\n"},
    {"role": "user", "content": " {{ 1 }} & more"},
]
CHATML = (
    "{% for m in messages %}\n    {{- '<|im_start|>' + m.role + '\\n' + m.content | trim }}\n"
    "{{- '<|im_end|>\\n' }}{% endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROL = ["<|bos|>", "<|im_end|>", "<|im_start|>", "</s>"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokens = [*sorted(bytes_of_characters()), *CONTROL]
    return compose(
        "bpe",
        bpe(tokens, []),
        {"bos": "<|bos|>", "eos": None},
        control=CONTROL,
        pre_tokenizer=byte_level(use_regex=True),
        decoder=byte_level(use_regex=True),
    )


def test_control_tokens_become_ids(tokenizer):
    template = ChatTemplate(CHATML, tokenizer)
    ids = template.encode(TALK[:1])
    begin, end = (tokenizer.special_tokens[name] for name in ("<|im_start|>", "<|im_end|>"))
    assert [i for i in ids if i >= 256] == [begin, end, begin]
    assert tokenizer.decode(ids) == template.render(TALK[:1])
    assert template.answer_end() == [end]


@pytest.mark.parametrize(
    ("behind", "ends"),
    [
        ("{{ m.content }}\n", []),
        ("{{ m.content }} </s>", ["</s>"]),  # Llama 2's
        ("{% if not loop.last %}{{ m.content }}</s>{% else %}{{ m.content }}{% endif %}", ["</s>"]),
        ("{{ m.content }}<|im_end|></s>{{ '\\n' }}", ["</s>"]),  # Command R's has two
        ("<|bos|>{{ m.role }}:{{ m.content }}</s>", ["</s>"]),  # not what the next one begins with
    ],
)
def test_what_ends_an_answer(tokenizer, behind, ends):
    template = ChatTemplate("{% for m in messages %}" + behind + "{% endfor %}", tokenizer)
    assert template.answer_end() == [tokenizer.special_tokens[name] for name in ends]


def test_a_role_without_a_token_is_undefined_as_in_transformers(tokenizer):
    source = "{{ bos_token }}{{ eos_token is defined }}{{ eos_token }}"
    assert ChatTemplate(source, tokenizer).render(TALK) == "<|bos|>False"


def test_variables_reach_the_template(tokenizer):
    source = "{{ 'thinks' if enable_thinking else 'does not' }}"
    template = ChatTemplate(source, tokenizer)
    assert template.render(TALK, enable_thinking=True) == "thinks"
    assert template.render(TALK) == "does not"
    assert tokenizer.decode(template.encode(TALK, enable_thinking=True)) == "thinks"


def test_thoughts_have_the_names_that_transformers_gives_them(tokenizer):
    source = "{{ messages[0].reasoning_content }} {{ messages[0].thinking }}"
    messages = [{"role": "assistant", "content": "x", "reasoning": "why", "tool_calls": None}]
    assert ChatTemplate(source, tokenizer).render(messages) == "why why"
    source = "{{ messages[0].tool_calls is defined }}"
    assert ChatTemplate(source, tokenizer).render(messages) == "False"


REFUSED = {
    "refusal": ("{{ raise_exception('only system') }}", "conversation: only system"),
    "undefined": ("{{ messages[7].content.strip() }}", "has no element 7"),
    "unknown": ("{{ nobody.there }}", "'nobody' is undefined"),
    "no text": ("{{ messages[0].content + 1 }}", "can only concatenate str"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_template_refuses(tokenizer, name):
    source, reason = REFUSED[name]
    with pytest.raises(DataError, match="the chat template refuses .*" + reason):
        ChatTemplate(source, tokenizer).render(TALK)


@pytest.mark.parametrize("source", ["{% for %}", "{{ ", "{% if x %}", "a {% b", "{{ 1 + }}"])
def test_a_template_that_does_not_parse_is_refused(tokenizer, source):
    with pytest.raises(CheckpointError, match=r"the chat template does not parse: .*line 1"):
        ChatTemplate(source, tokenizer)


@pytest.mark.parametrize("text", ["}} }", "{", "%}", "#}", "{{ '{' }}{{ '}' }}"])
def test_lone_braces_are_text(tokenizer, text):
    expected = "{}" if text.startswith("{{") else text
    assert ChatTemplate(text, tokenizer).render(TALK) == expected


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": "x"}, "message 1 has the role None"),
        ({"role": "<|im_end|>", "content": "x"}, "has the role '<|im_end|>', which is no word"),
        ({"role": "a\n", "content": "x"}, "no word"),
        ("text", "message 1 has the role None"),
        ({"role": "user", "content": {1, 2}}, "message 1 holds a set, which no template takes"),
        ({"role": "user", "content": {1: "x"}}, "holds a dict"),
    ],
)
def test_what_is_no_message(tokenizer, message, reason):
    with pytest.raises(DataError) as refused:
        ChatTemplate(CHATML, tokenizer).render([message])
    assert reason in str(refused.value)


def test_an_empty_conversation_is_a_prompt(tokenizer):
    template = ChatTemplate(CHATML, tokenizer)
    assert template.render([]) == "<|im_start|>assistant\n"
    assert template.encode([], prompt=False) == []
    assert template.encode_with_targets([]) == ([], [])
