"""Messages as records spell them, to {"role": ..., "content": ...}, and what makes a conversation.

The roles are those that chat templates know: system, user, assistant and tool.
"""

import re
from typing import Any

from scratchlm.examples.skipped import BadRecord

Message = dict[str, Any]  # {"role": "user", "content": "..."}, and further keys for templates

ROLES = {
    "system": "system",
    "developer": "system",  # OpenAI's newer word
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",  # OpenAI's older word
    "observation": "tool",
}
_MAY_FOLLOW = {  # "": the beginning
    "system": {""},
    "user": {"", "system", "assistant"},
    "assistant": {"user", "tool"},
    "tool": {"assistant", "tool"},
}
_SPELLINGS = (("role", "content"), ("from", "value"), ("role", "value"), ("from", "content"))
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def messages_of(value: Any, key: str, place: str) -> list[Message]:
    """A list of messages, or one alone, in OpenAI's spelling or ShareGPT's.

    key      where it stands in the record
    raises   BadRecord
    """
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise BadRecord(place, "no messages", f"the key {key!r} holds {value!r:.40}, no messages")
    if not value:
        raise BadRecord(place, "empty messages", f"the key {key!r} holds no message")
    numbered = enumerate(value, start=1)
    return [_message(one, f"message {number} of {key!r}", place) for number, one in numbered]


def _message(value: Any, which: str, place: str) -> Message:
    if not isinstance(value, dict):
        raise BadRecord(place, "no message", f"{which} is {value!r:.40}, not an object")
    spelling = next((keys for keys in _SPELLINGS if keys[0] in value and keys[1] in value), None)
    if spelling is None:
        keys = ", ".join(map(repr, value)) or "none"
        raise BadRecord(
            place,
            "no message",
            f"{which} has the keys {keys}, and must have 'role' and 'content', or 'from' and "
            "'value'",
        )
    said, written = (value[key] for key in spelling)
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        known = ", ".join(ROLES)
        detail = f"{which} has the unknown role {said!r:.40}: known are {known}"
        raise BadRecord(place, "unknown role", detail)
    # what templates may ask for: tool_calls, name, reasoning_content; Parquet fills up with None
    more = {key: one for key, one in value.items() if key not in spelling and one is not None}
    if more.get("weight", 1) not in (0, 1):
        detail = f"{which} has the weight {more['weight']!r:.40}: 1 is learned, 0 is not"
        raise BadRecord(place, "unknown weight", detail)
    content = "" if written is None and more.get("tool_calls") else text_of(written, which, place)
    if not content.strip() and role == "assistant" and not more.get("tool_calls"):
        raise BadRecord(place, "empty answer", f"{which}, the assistant's, is empty")
    if not content.strip() and role == "user":
        raise BadRecord(place, "empty message", f"{which}, the user's, is empty")
    return {"role": role, "content": content, **more}


def text_of(value: Any, which: str, place: str) -> str:
    """A text, or the joined texts of OpenAI's [{"type": "text", "text": ...}].

    raises   BadRecord
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        kind = "null" if value is None else type(value).__name__
        raise BadRecord(place, "not text", f"{which} holds no text but {kind} ({value!r:.40})")
    for part in value:
        is_text = isinstance(part, dict) and part.get("type") == "text"
        if not is_text or not isinstance(part.get("text"), str):
            detail = f"{which} has the part {part!r:.60}, and only text can be learned here"
            raise BadRecord(place, "not text", detail)
    return "".join(part["text"] for part in value)


def transcript(text: str) -> list[Message] | None:
    """The messages of a text that begins with "Human:" and has "Assistant:" (hh-rlhf's way).

    The one space behind each colon is none of theirs. None for any other text.
    """
    before, *parts = _SPEAKER.split(text)
    if before.strip() or "Assistant" not in parts[::2] or parts[0] != "Human":
        return None
    return [
        {"role": "user" if who == "Human" else "assistant", "content": said.removeprefix(" ")}
        for who, said in zip(parts[::2], parts[1::2])
    ]


def check_turns(messages: list[Message], place: str) -> None:
    """Refuse what many chat templates refuse, or what holds nothing to learn.

    At most one system message, at the beginning; then the user, and the two in turns; what tools
    answer follows the assistant. The last may be the user.

    raises   BadRecord
    """
    before = ""
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if before not in _MAY_FOLLOW[role]:
            if role == "assistant" and before in ("", "system"):
                reason = "begins with the assistant"
                detail = "the conversation begins with the assistant, and must with the user"
            elif role == before:
                reason = "the same role twice in a row"
                detail = f"messages {number - 1} and {number} are both from {role}"
            else:
                reason = "roles out of turn"
                follows = f"follows one from {before}" if before else "is the first"
                detail = f"message {number}, from {role}, {follows}"
            raise BadRecord(place, reason, detail)
        before = role
    if all(message["role"] != "assistant" for message in messages):
        raise BadRecord(place, "no answer", "no message is from the assistant")
