"""Every format of conversations becomes the same messages; what is bad is named."""

import json
import logging
import re

import pytest

from scratchlm.base.errors import DataError
from scratchlm.examples.conversations import read_conversations
from scratchlm.examples.skipped import BadRecord

USER = {"role": "user", "content": "法国的首都是哪里？"}
ANSWER = {"role": "assistant", "content": "巴黎。"}
ASKED = {**USER, "instruction": USER["content"], "input": ""}
SYSTEM = {"role": "system", "content": "Be brief."}
U, A = USER["content"], ANSWER["content"]
STYLE = (
    "Below is an instruction that describes a task{}. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{}\n\n### Response:\n"
)
FORMATS = {
    "alpaca": ({"instruction": U, "input": "", "output": A}, [ASKED, ANSWER]),
    "alpaca without input": ({"instruction": U, "output": A, "history": ""}, [ASKED, ANSWER]),
    "alpaca with nulls": ({"instruction": U, "input": None, "output": A}, [ASKED, ANSWER]),
    "alpaca with history": (
        {"instruction": U, "output": A, "history": [["Hi", "Ho"], ["Who?", "I."]], "system": "S"},
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Ho"},
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": "I."},
            ASKED,
            ANSWER,
        ],
    ),
    "dolly": (
        {"instruction": "Which?", "context": "Two: a, b.", "response": A, "category": "qa"},
        [
            {
                "role": "user",
                "content": "Which?\n\nTwo: a, b.",
                "instruction": "Which?",
                "input": "Two: a, b.",
            },
            ANSWER,
        ],
    ),
    "sharegpt": (
        {"id": "1", "conversations": [{"from": "human", "value": U}, {"from": "gpt", "value": A}]},
        [USER, ANSWER],
    ),
    "sharegpt with a system": (
        {
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": U}, {"from": "gpt", "value": A}],
        },
        [SYSTEM, USER, ANSWER],
    ),
    "messages": ({"messages": [SYSTEM, USER, ANSWER], "prompt": U}, [SYSTEM, USER, ANSWER]),
    "texts": ({"prompt": U, "completion": A}, [USER, ANSWER]),
    "responses": ({"prompt": U, "response": A}, [USER, ANSWER]),
    "lists": ({"prompt": [SYSTEM, USER], "completion": [ANSWER]}, [SYSTEM, USER, ANSWER]),
    "list and text": ({"prompt": [USER], "completion": A}, [USER, ANSWER]),
    "style": ({"prompt": STYLE.format("", U), "response": A}, [ASKED, ANSWER]),
    "transcript": (
        {"prompt": f"\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: {U}\n\nAssistant:", "response": A},
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Ho"},
            USER,
            ANSWER,
        ],
    ),
    "questions": ({"question": U, "answer": A}, [ASKED, ANSWER]),
    "orca": (
        {"system_prompt": "Be brief.", "question": U, "response": A},
        [SYSTEM, ASKED, ANSWER],
    ),
    "queries": ({"query": U, "response": A}, [ASKED, ANSWER]),
    "inputs": ({"input": U, "output": A}, [USER, ANSWER]),
    "self-instruct": (
        {"instruction": U, "instances": [{"input": "", "output": A}], "is_classification": False},
        [ASKED, ANSWER],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_known_by_their_keys(name, records_file):
    record, messages = FORMATS[name]
    path = records_file(record)
    (found,) = read_conversations([path])
    assert found.messages == tuple(messages)
    assert found.place == f"{path}:1"


def test_formats_may_be_mixed_and_are_said(records_file, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    found = read_conversations([records_file(*(record for record, _ in FORMATS.values()))])
    assert [one.messages for one in found] == [tuple(messages) for _, messages in FORMATS.values()]
    assert caplog.messages == [
        "19 conversations: 4 alpaca, 3 prompt/completion, 2 conversations, 2 prompt/response, "
        "1 instruction/response, 1 messages, 1 prompt/response in alpaca's style, which was taken "
        "off, 1 question/answer, 1 question/response, 1 query/response, 1 input/output, "
        "1 self-instruct."
    ]


def test_an_input_comes_behind_an_empty_line_and_stays_apart(records_file):
    record = {"instruction": "Translate.", "input": "你好", "output": "Hello"}
    (found,) = read_conversations([records_file(record)])
    assert found.messages[0]["content"] == "Translate.\n\n你好"
    assert (found.messages[0]["instruction"], found.messages[0]["input"]) == ("Translate.", "你好")


def test_the_style_of_alpaca_is_taken_off_with_its_input(records_file):
    more = ", paired with an input that provides further context"
    prompt = STYLE.format(more, "Translate.\n\n### Input:\n你好")
    (found,) = read_conversations([records_file({"prompt": prompt, "completion": "Hello"})])
    assert (found.messages[0]["instruction"], found.messages[0]["input"]) == ("Translate.", "你好")


def test_the_prompt_of_a_completion_is_marked(records_file):
    many = [USER, ANSWER, {"role": "user", "content": "Why?"}]
    paths = [records_file({"prompt": many, "completion": A}, {"question": U, "answer": A})]
    assert [one.n_prompt for one in read_conversations(paths)] == [3, 0]
    assert [one.n_prompt for one in read_conversations(paths, system="S")] == [4, 0]


def test_a_system_message_for_those_without(records_file):
    path = records_file({"prompt": U, "completion": A}, {"messages": [SYSTEM, USER, ANSWER]})
    first, second = read_conversations([path], system="你是助手。")
    assert first.messages[0] == {"role": "system", "content": "你是助手。"}
    assert second.messages == (SYSTEM, USER, ANSWER)


BAD = {
    "empty answer": ({"instruction": U, "output": " \n"}, "the key 'output' is empty"),
    "empty question": ({"instruction": "", "input": "x", "output": A}, "'instruction' is empty"),
    "empty prompt in style": (
        {"prompt": STYLE.format("", " "), "response": A},
        "'prompt' is empty",
    ),
    "number": ({"question": "1+1?", "answer": 2}, r"the key 'answer' holds no text but int .2."),
    "no messages": ({"messages": []}, "the key 'messages' holds no message"),
    "unknown role": ({"messages": [{"role": "robot", "content": "a"}]}, "unknown role 'robot'"),
    "assistant first": ({"messages": [ANSWER, USER, ANSWER]}, "begins with the assistant"),
    "user twice": ({"messages": [USER, USER, ANSWER]}, "messages 1 and 2 are both from user"),
    "no answer": ({"messages": [SYSTEM, USER]}, "no message is from the assistant"),
    "two systems": (
        {"system": "Be long.", "messages": [SYSTEM, USER, ANSWER]},
        "the key 'system' and the first message are two system messages",
    ),
    "history": ({"instruction": U, "output": A, "history": ["a"]}, "'history' holds .'a'., no pai"),
    "no instances": ({"instruction": U, "instances": []}, "'instances' is an empty list"),
    "instances": ({"instruction": U, "instances": ["a"]}, "'instances' holds no list of objects"),
    "half an instance": ({"instruction": U, "instances": [{"input": ""}]}, "no known format"),
    "keys": (
        {"ask": U, "tell": A},
        "no known format has the keys 'ask', 'tell'. Known are 'messages'; 'conversations'; "
        "'instruction' and 'output'; .*'input' and 'output'",
    ),
    "no answer's key": ({"instruction": U, "input": ""}, "has the keys 'instruction', 'input'"),
    "none": ({}, "has the keys none"),
    "preference": ({"prompt": U, "chosen": A, "rejected": "a"}, "a preference, which is for dpo"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_one_error(name, records_file):
    record, said = BAD[name]
    path = records_file({"prompt": U, "completion": A}, record)
    with pytest.raises(BadRecord, match=rf"^{re.escape(str(path))}:2: .*{said}.*--skip-bad"):
        read_conversations([path])


def test_bad_records_are_left_out_and_counted_when_asked_for(records_file, caplog):
    good = {"prompt": U, "completion": A}
    path = records_file(good, *(record for record, _ in BAD.values()), good)
    with open(path, "a", encoding="utf-8") as file:
        file.write("{broken\n")
    assert len(read_conversations([path], skip_bad=True)) == 2
    (said,) = (one.getMessage() for one in caplog.records if one.levelno == logging.WARNING)
    assert said.startswith("2 conversations; 19 bad records left out: no known format (5: ")
    assert f"invalid JSON (1: {path}:21)" in said


def test_nothing_left_is_an_error(records_file):
    path = records_file({"a": 1}, {"b": 2})
    with pytest.raises(DataError, match=r"there are no conversations to use\. 2 bad record"):
        read_conversations([path], skip_bad=True)


def test_the_records_of_the_book(own_data):
    path = own_data / "instruction-data.json"
    found = read_conversations([path])
    records = json.loads(path.read_text("utf-8"))
    assert len(found) == len(records) == 10
    for one, record in zip(found, records):
        asked, said = one.messages
        assert (asked["instruction"], asked["input"], said["content"]) == tuple(record.values())
    assert found[2].place == f"{path}, record 3 (line 12)"


@pytest.mark.parametrize(
    ("name", "n", "n_bad"),
    [
        ("rasbt/instruction-data.json", 1100, 0),
        ("alpaca/seed_tasks.jsonl", 175, 0),
        ("dolly_hhrlhf", 1000, 0),
        ("alpaca_chinese", 10_280, 2),
    ],
)
def test_real_files(name, n, n_bad, shared_data, caplog):
    path = shared_data / "finetune" / name
    if n_bad:
        with pytest.raises(BadRecord, match=r"record \d+ \(line \d+\): the key 'output' is empty"):
            read_conversations([path])
    found = read_conversations([path], skip_bad=bool(n_bad))
    assert len(found) == n
    assert (f"{n_bad} bad records left out" in caplog.text) == bool(n_bad)
    assert all("instruction" in one.messages[0] for one in found)


@pytest.mark.slow
def test_sharegpt_is_what_trl_makes_of_it(records_file):
    trl = pytest.importorskip("trl.data_utils")
    turns = [("system", "S"), ("user", U), ("assistant", A), ("user", "Why?"), ("assistant", "So.")]
    record = {"conversations": [{"from": who, "value": said} for who, said in turns]}
    (found,) = read_conversations([records_file(record)])
    assert list(found.messages) == trl.maybe_convert_to_chatml(record)["messages"]
