"""Two ways to write conversations, for models that have learned none yet.

Both are Jinja without anything but what every program knows that reads chat templates: `generation`
blocks, which only transformers and we read, would keep others from loading the model.
"""

from dataclasses import dataclass

from scratchlm.base.errors import ConfigError
from scratchlm.tokenizer.tokenizer import Tokenizer

CHATML = (  # OpenAI's, of 2023; Qwen, SmolLM2 and most others have it in some form
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ALPACA = (  # Build a Large Language Model (From Scratch), Raschka 2024, chapter 7, format_input
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{% if loop.first %}{{ 'Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.' }}{% endif %}"
    "{{ '\\n\\n### Instruction:\\n' }}"
    "{% if message['instruction'] %}{{ message['instruction'] }}"
    "{% if message['input'] %}{{ '\\n\\n### Input:\\n' + message['input'] }}{% endif %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '\\n\\n### Response:\\n' + message['content'] }}{{ eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] }}"  # in the place of "Below ..."
    "{% else %}{{ raise_exception('alpaca has system, user and assistant alone') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### Response:\\n' }}{% endif %}"
)
_BEGIN = "{{ bos_token }}"  # for models whose maker puts it before every text


@dataclass(frozen=True)
class Preset:
    """A chat template of our own.

    source            Jinja
    special_tokens    that a tokenizer needs for it
    ends_with_eos     an answer ends with the tokenizer's end token, not one of these
    """

    source: str
    special_tokens: tuple[str, ...]
    ends_with_eos: bool


PRESETS = {
    "chatml": Preset(CHATML, ("<|im_start|>", "<|im_end|>"), ends_with_eos=False),
    "alpaca": Preset(ALPACA, (), ends_with_eos=True),
}


def preset(name: str) -> Preset:
    """A chat template by name: "chatml" or "alpaca".

    raises   ConfigError for another name
    """
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise ConfigError(f"there is no chat template {name!r}. There are: {known}.")
    return PRESETS[name]


def with_preset(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """A tokenizer that writes conversations in this way, with the tokens that it takes.

    raises   ConfigError for an unknown name, and where an answer would have no end
    """
    chosen = preset(name)
    if chosen.ends_with_eos and tokenizer.eos_id is None:
        raise ConfigError(
            f"the template {name} ends an answer with the tokenizer's end token, and this "
            f"{tokenizer.kind} tokenizer has none. Use chatml, which brings its own."
        )
    source = _BEGIN + chosen.source if tokenizer.begins else chosen.source
    return tokenizer.with_special_tokens(chosen.special_tokens).with_chat_template(source)


def is_ours(source: str) -> bool:
    """Whether a template is one of these, which need no limits."""
    return source.removeprefix(_BEGIN) in (one.source for one in PRESETS.values())
