"""Pairs of a better and a worse answer, in every format."""

import json
import re

import pytest

from scratchlm.examples.conversations import preference_of, read_preferences
from scratchlm.examples.records import Record
from scratchlm.examples.skipped import BadRecord

USER = {"role": "user", "content": "天空是什么颜色？"}
GOOD = {"role": "assistant", "content": "蓝色。"}
WORSE = {"role": "assistant", "content": "绿色。"}
SYSTEM = {"role": "system", "content": "Be brief."}
U, G, W = USER["content"], GOOD["content"], WORSE["content"]
ASKED = {**USER, "instruction": U, "input": ""}
BEFORE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
TALK = "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: {}\n\nAssistant: {}"
FORMATS = {
    "texts": ({"prompt": U, "chosen": G, "rejected": W}, [USER]),
    "lists": ({"prompt": [USER], "chosen": [GOOD], "rejected": [WORSE]}, [USER]),
    "one message": ({"prompt": U, "chosen": GOOD, "rejected": WORSE}, [USER]),
    "alpaca": (
        {"instruction": U, "input": "", "output": G, "rejected": W, "chosen": G},
        [ASKED],
    ),
    "orca": ({"system": "Be brief.", "question": U, "chosen": G, "rejected": W}, [SYSTEM, ASKED]),
    "implicit": (
        {"chosen": [SYSTEM, *BEFORE, USER, GOOD], "rejected": [SYSTEM, *BEFORE, USER, WORSE]},
        [SYSTEM, *BEFORE, USER],
    ),
    "implicit, and told": (
        {"prompt": U, "chosen": [USER, GOOD], "rejected": [USER, WORSE], "messages": [USER, GOOD]},
        [USER],
    ),
    "implicit, and told as a list": (
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, WORSE]},
        [USER],
    ),
    "sharegpt": (
        {
            "conversations": [{"from": "human", "value": U}],
            "chosen": {"from": "gpt", "value": G},
            "rejected": {"from": "gpt", "value": W},
        },
        [USER],
    ),
    "hh-rlhf": ({"chosen": TALK.format(U, G), "rejected": TALK.format(U, W)}, [*BEFORE, USER]),
    "hh-rlhf with a prompt": (
        {"prompt": TALK.format(U, ""), "chosen": G, "rejected": W},
        [*BEFORE, USER],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name, records_file):
    record, prompt = FORMATS[name]
    path = records_file(record)
    (found,) = read_preferences([path])
    assert found.prompt == tuple(prompt)
    assert (found.chosen, found.rejected) == ((GOOD,), (WORSE,))
    assert found.place == f"{path}:1"


def test_answers_may_go_on(records_file):
    more = [{"role": "user", "content": "Why?"}, GOOD]
    record = {"chosen": [USER, GOOD, *more], "rejected": [USER, WORSE]}
    (found,) = read_preferences([records_file(record)], system="S")
    assert found.prompt == ({"role": "system", "content": "S"}, USER)
    assert (found.chosen, found.rejected) == ((GOOD, *more), (WORSE,))


BAD = {
    "equal": ({"prompt": U, "chosen": G, "rejected": G}, "'chosen' and 'rejected' are the same"),
    "equal lists": (
        {"chosen": [USER, GOOD], "rejected": [USER, GOOD]},
        "'chosen' and 'rejected' are the same",
    ),
    "equal in two ways": ({"prompt": U, "chosen": G, "rejected": [GOOD]}, "are the same"),
    "empty answer": ({"prompt": U, "chosen": G, "rejected": ""}, "the key 'rejected' is empty"),
    "empty prompt": ({"prompt": " ", "chosen": G, "rejected": W}, "the key 'prompt' is empty"),
    "empty turn": (
        {"chosen": TALK.format(U, ""), "rejected": TALK.format(U, W)},
        "message 4 of 'chosen', the assistant's, is empty",
    ),
    "no keys": (
        {"prompt": U, "chosen": G},
        "has the keys 'prompt', 'chosen', and lacks 'chosen' and 'rejected'. Known preferences are",
    ),
    "no prompt": ({"chosen": G, "rejected": W}, "lacks a prompt, or whole conversations in both"),
    "other questions": (
        {"chosen": [USER, GOOD], "rejected": BEFORE},
        "must be the same up to an answer of the assistant; they are in 0 messages",
    ),
    "apart at a question": (
        {"chosen": [*BEFORE, USER, GOOD], "rejected": [*BEFORE, {**USER, "content": "x"}, GOOD]},
        "they are in 2 messages",
    ),
    "one goes on": (
        {"chosen": [*BEFORE, USER, GOOD], "rejected": BEFORE},
        "they are in 2 messages",
    ),
    "another prompt": (
        {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, WORSE]},
        "'prompt' is not how 'chosen' and 'rejected' begin",
    ),
    "answered": (
        {"messages": [USER, GOOD], "chosen": [GOOD], "rejected": [WORSE]},
        "messages 2 and 3 are both from assistant",
    ),
    "assistant first": (
        {"prompt": [GOOD, USER], "chosen": G, "rejected": W},
        "begins with the assistant",
    ),
    "number": ({"prompt": U, "chosen": 1, "rejected": W}, "'chosen' holds no text but int"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_one_error(name, records_file):
    record, said = BAD[name]
    path = records_file({"prompt": U, "chosen": G, "rejected": W}, record)
    with pytest.raises(BadRecord, match=rf"^{re.escape(str(path))}:2: .*{said}.*--skip-bad"):
        read_preferences([path])
    assert len(read_preferences([path], skip_bad=True)) == 1


def test_the_records_of_the_book(own_data):
    path = own_data / "instruction-data-with-preference.json"
    with pytest.raises(BadRecord, match=r"record 10 \(line 65\): 'chosen' and 'rejected' are the "):
        read_preferences([path])
    found = read_preferences([path], skip_bad=True)
    records = json.loads(path.read_text("utf-8"))[:9]
    for one, record in zip(found, records, strict=True):
        assert one.prompt[0]["instruction"] == record["instruction"]
        assert one.prompt[0]["input"] == record["input"]
        assert one.chosen[0]["content"] == record["chosen"]
        assert one.rejected[0]["content"] == record["rejected"]


def test_the_real_file(shared_data, caplog):
    path = shared_data / "finetune" / "rasbt" / "instruction-data-with-preference.json"
    assert len(read_preferences([path], skip_bad=True)) == 1094
    assert "6 bad records left out: chosen equals rejected (6: " in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["implicit", "implicit, and told as a list"])
def test_an_implicit_prompt_is_what_trl_extracts(name, tmp_path):
    trl = pytest.importorskip("trl.data_utils")
    record = {key: FORMATS[name][0][key] for key in ("chosen", "rejected")}
    ours = preference_of(Record(record, tmp_path / "a.jsonl", 1))
    theirs = trl.extract_prompt(record)
    assert {key: list(getattr(ours, key)) for key in theirs} == theirs
