"""A user's file of records, as a task by itself."""

import json
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.evaluation.tasks import load_task


def write(path: Path, *records: object) -> Path:
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("answer", [1, "1", "B", "cat"])
def test_choices_and_the_ways_to_say_which_is_right(answer, tmp_path: Path):
    record = {"question": "It says meow:", "choices": ["dog", "cat"], "answer": answer}
    task = load_task(write(tmp_path / "mine.jsonl", record))
    assert (task.name, task.about.kind, task.items[0].right) == ("mine", "choices", 1)
    assert task.requests(task.items[0]) == [("It says meow: ", "dog"), ("It says meow: ", "cat")]


def test_chinese_names_and_no_space_before_chinese(tmp_path: Path):
    record = {"问题": "天空是什么颜色？", "选项": ["红色", "蓝色"], "答案": "蓝色", "科目": "常识"}
    task = load_task(write(tmp_path / "题.jsonl", record))
    assert task.requests(task.items[0])[1] == ("天空是什么颜色？", "蓝色")
    assert (task.items[0].subject, task.items[0].right) == ("常识", 1)


def test_numbers_as_choices_are_taken_by_their_text(tmp_path: Path):
    record = {"prompt": "1+1=", "choices": ["2", "3"], "answer": "2"}
    assert load_task(write(tmp_path / "a.jsonl", record)).items[0].right == 0


def test_questions_and_answers(tmp_path: Path):
    rows = 'question,answer,id\n"Capital of France?",Paris,q1\n首都？,北京,q2\n'
    (tmp_path / "a.csv").write_text(rows, encoding="utf-8")
    task = load_task(tmp_path / "a.csv")
    assert (task.about.kind, task.about.stop) == ("answers", ("\n",))
    assert [(item.id, item.answer) for item in task.items] == [("q1", "Paris"), ("q2", "北京")]


def test_texts(tmp_path: Path):
    task = load_task(write(tmp_path / "a.jsonl", {"text": "Hello"}, {"text": "你好"}))
    assert task.about.kind == "text"
    assert [item.choices for item in task.items] == [("Hello",), ("你好",)]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"prompt": "a"}, r"b\.jsonl:2: .* is missing or is no text|choices must be"),
        ({"prompt": "a", "choices": ["x"], "answer": 0}, r":2: choices must be a list of at least"),
        ({"prompt": "a", "choices": ["x", "x"], "answer": 0}, r":2: the choices must not be empty"),
        ({"prompt": "a", "choices": ["x", "y"], "answer": 2}, r":2: the answer '2' is none of"),
        ({"prompt": "a", "choices": ["x", "y"], "answer": "z"}, r"'z' is none of the 2 choices"),
        ({"choices": ["x", "y"], "answer": 0}, r":2: prompt is missing"),
    ],
)
def test_a_bad_record_is_named(record, words, tmp_path: Path):
    good = {"prompt": "a", "choices": ["x", "y"], "answer": 0}
    with pytest.raises(DataError, match=words):
        load_task(write(tmp_path / "b.jsonl", good, record))


def test_an_empty_answer_is_refused(tmp_path: Path):
    records = {"question": "a", "answer": "b"}, {"question": "a", "answer": ""}
    with pytest.raises(DataError, match=r"b\.jsonl:2: answer is missing"):
        load_task(write(tmp_path / "b.jsonl", *records))


def test_fields_that_mean_nothing_are_listed(tmp_path: Path):
    with pytest.raises(DataError, match=r"its fields are foo, bar\. A file to evaluate on has"):
        load_task(write(tmp_path / "b.jsonl", {"foo": 1, "bar": 2}))
