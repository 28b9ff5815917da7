"""Chat templates write what transformers writes, and run in a sandbox."""

from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.tokenizer.chat_template import ChatTemplate, read_template
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
    "{%- generation %}{{ '<|im_end|>\\n' }}{% endgeneration %}{% endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROL = ["<|bos|>", "<|im_end|>", "<|im_start|>"]


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


def templates(folder: Path) -> dict[str, str]:
    found = {"chatml": CHATML, "bos": "{{ bos_token }}{{ messages | tojson }}"}
    for path in sorted(folder.rglob("*.jinja")) if folder.is_dir() else []:
        found[path.stem] = path.read_text(encoding="utf-8")
    return found


def theirs(source: str, *, prompt: bool) -> str:
    (text,), _ = render_jinja_template(
        conversations=[TALK],
        chat_template=source,
        add_generation_prompt=prompt,
        bos_token="<|bos|>",
        eos_token="",
        pad_token="",
        unk_token="",
    )
    return text


@pytest.mark.parametrize("prompt", [True, False])
def test_the_text_is_that_of_transformers(prompt, tokenizer, shared_data):
    compared = 0
    for name, source in templates(shared_data / "tokenizers").items():
        try:
            expected = theirs(source, prompt=prompt)
        except Exception:  # some refuse such a conversation, and then so do we
            with pytest.raises(DataError):
                ChatTemplate(source, tokenizer).render(TALK, prompt=prompt)
            continue
        assert ChatTemplate(source, tokenizer).render(TALK, prompt=prompt) == expected, name
        compared += 1
    assert compared >= 2


def test_control_tokens_become_ids(tokenizer):
    template = ChatTemplate(CHATML, tokenizer)
    ids = template.encode(TALK[:1])
    begin, end = (tokenizer.special_tokens[name] for name in ("<|im_start|>", "<|im_end|>"))
    assert [i for i in ids if i >= 256] == [begin, end, begin]
    assert template.answer_end() == [end]


def test_a_template_without_a_mark_ends_with_nothing(tokenizer):
    template = ChatTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}", tokenizer)
    assert template.answer_end() == []


HOSTILE = {
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "products": "{{ 'a' * 1000000000000 }}",
    "powers": "{{ 9 ** 9 ** 9 ** 9 }}",
    "loops": "{% for i in range(1000000000) %}x{% endfor %}",
    "refusal": "{{ raise_exception('only system') }}",
    "undefined": "{{ messages[7].content.strip() }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_gives_our_error(name, tokenizer):
    with pytest.raises(DataError, match="chat template refuses"):
        ChatTemplate(HOSTILE[name], tokenizer).render(TALK)


def test_a_template_that_does_not_parse_is_refused(tokenizer):
    with pytest.raises(CheckpointError, match="does not parse"):
        ChatTemplate("{% for %}", tokenizer)


def test_templates_are_found_in_folders(tmp_path):
    assert read_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"chat_template": [{"name": "tools", "template": "t"}, '
                      '{"name": "default", "template": "d"}]}')  # fmt: skip
    assert read_template(tmp_path) == "d"
    config.write_text('{"chat_template": "c"}')
    assert read_template(tmp_path) == "c"
    (tmp_path / "chat_template.jinja").write_text("j")
    assert read_template(tmp_path) == "j"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="not UTF-8 at byte 0"):
        read_template(tmp_path)
