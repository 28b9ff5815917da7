"""Messages in any spelling, and what is refused."""

import re

import pytest

from scratchlm.examples.messages import check_turns, messages_of, transcript
from scratchlm.examples.skipped import BadRecord

ASKED = {"role": "user", "content": "你好"}
SAID = {"role": "assistant", "content": "您好！"}


def of(*messages):
    return messages_of(list(messages), "messages", "a.jsonl:3")


@pytest.mark.parametrize(
    "pair",
    [
        ({"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好！"}),
        ({"from": "human", "value": "你好"}, {"from": "gpt", "value": "您好！"}),
        ({"from": "user", "value": "你好"}, {"from": "chatgpt", "value": "您好！"}),
        ({"from": "Human", "content": "你好"}, {"from": "bing", "content": "您好！"}),
        ({"role": "USER", "value": "你好"}, {"role": "model", "value": "您好！"}),
    ],
)
def test_spellings(pair):
    assert of(*pair) == [ASKED, SAID]


def test_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "你"}, {"type": "text", "text": "好"}]
    assert of({"role": "user", "content": parts}) == [ASKED]


def test_what_templates_may_ask_for_is_kept():
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    result = {"role": "tool", "content": "", "tool_call_id": "1", "name": None}
    assert of(call, result) == [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
        {"role": "tool", "content": "", "tool_call_id": "1"},
    ]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "the key 'messages' holds no message"),
        ("hello", "the key 'messages' holds 'hello', no messages"),
        (["hello"], "message 1 of 'messages' is 'hello', not an object"),
        ([{"text": "a"}], "message 1 of 'messages' has the keys 'text', and must have 'role' and"),
        ([ASKED, {"role": "robot", "content": "a"}], "message 2 .* has the unknown role 'robot'"),
        ([{"role": 1, "content": "a"}], "unknown role 1"),
        ([{"role": "user", "content": 7}], r"message 1 .* holds no text but int \(7\)"),
        ([{"role": "user", "content": None}], r"holds no text but null"),
        ([{"role": "user", "content": " \n"}], "message 1 of 'messages', the user's, is empty"),
        ([ASKED, {"role": "assistant", "content": ""}], "message 2 .*, the assistant's, is empty"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
            "has the part {'type': 'image_url', .*, and only text can be learned here",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], "has the part {'type': 'text'}"),
        ([{"role": "user", "content": ["text"]}], "has the part 'text'"),
    ],
)
def test_what_is_no_message(messages, said):
    with pytest.raises(BadRecord, match=rf"^a\.jsonl:3: .*{said}"):
        messages_of(messages, "messages", "a.jsonl:3")


@pytest.mark.parametrize(
    "roles", ["u a", "s u a", "u a u a", "u a t t a", "u a u", "s u a t a u a", "u a t"]
)
def test_turns(roles):
    check_turns(talk(roles), "a:1")


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ("a", "begins with the assistant"),
        ("s a u a", "begins with the assistant"),
        ("u u a", "messages 1 and 2 are both from user"),
        ("u a a", "messages 2 and 3 are both from assistant"),
        ("s s u a", "messages 1 and 2 are both from system"),
        ("u s a", "message 2, from system, follows one from user"),
        ("t a", "message 1, from tool, is the first"),
        ("u a t u a", "message 4, from user, follows one from tool"),
        ("u", "no message is from the assistant"),
        ("s u", "no message is from the assistant"),
    ],
)
def test_out_of_turn(roles, said):
    with pytest.raises(BadRecord, match=f"^a:1: .*{said}"):
        check_turns(talk(roles), "a:1")


def talk(roles: str) -> list[dict]:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": names[role], "content": "x"} for role in roles.split()]


def test_a_transcript():
    first = "\n\nHuman: Hi: there\nyou \n\nAssistant:  Hello \n\nnot Human: me"
    text = f"{first}\n\nHuman: 好\n\nAssistant:"
    assert transcript(text) == [
        {"role": "user", "content": "Hi: there\nyou "},
        {"role": "assistant", "content": " Hello \n\nnot Human: me"},
        {"role": "user", "content": "好"},
        {"role": "assistant", "content": ""},
    ]
    assert transcript(text.strip()) == transcript(text)


@pytest.mark.parametrize(
    "text",
    ["", "Human: hi", "Assistant: a\n\nHuman: b\n\nAssistant: c", "x\n\nHuman: a\n\nAssistant: b"],
)
def test_no_transcript(text):
    assert transcript(text) is None


def test_an_error_of_a_record_survives_a_pickle():
    import pickle

    bad = pickle.loads(pickle.dumps(BadRecord("a:1", "empty", "it is empty")))
    assert re.match("a:1: it is empty. Mend it, or", str(bad))
    assert bad.reason == "empty"
