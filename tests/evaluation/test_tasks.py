"""Task files: the known ones on data in their original forms, one's own, and what is wrong."""

import bz2
import json
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.evaluation.task import METRICS, TaskFile
from scratchlm.evaluation.tasks import known_tasks, load_task
from scratchlm.evaluation.templates import Template
from scratchlm.web.data_sets import known_data

ARC = {"id": "A1", "question": "What melts?", "answerKey": "2",
       "choices": {"text": ["stone", "ice", "air"], "label": ["1", "2", "3"]}}  # fmt: skip
ARC_ORIGINAL = {"id": "A1", "answerKey": "2", "question": {
    "stem": "What melts?",
    "choices": [{"text": "stone", "label": "1"}, {"text": "ice", "label": "2"},
                {"text": "air", "label": "3"}]}}  # fmt: skip
HELLASWAG = {
    "activity_label": "Roof repair",
    "ctx_a": "A man [title] climbs  up.",
    "ctx_b": "he",
    "label": 1,
    "endings": [" sings.", "[substeps] Works. [title] Rests.", "flies.", "swims."],
}


def write_lines(path: Path, *records: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def test_blimp(tmp_path: Path):
    pair = {"sentence_good": "She sings.", "sentence_bad": "She sing.", "UID": "agreement"}
    write_lines(tmp_path / "blimp" / "data" / "agreement.jsonl", pair, pair)
    for folder in (tmp_path, tmp_path / "blimp", tmp_path / "blimp" / "data"):
        task = load_task("blimp", folder)
        item = task.items[1]
        assert (item.subject, item.right, len(task.items)) == ("agreement", 0, 2)
        assert item.id.endswith("agreement:2")
        assert item.place.endswith("agreement.jsonl:2")
        assert task.requests(item) == [("", " She sings."), ("", " She sing.")]


def test_lambada(tmp_path: Path):
    write_lines(tmp_path / "lambada_test.jsonl", {"text": 'He said "I\n\nam  sure of it'})
    task = load_task("lambada", tmp_path)
    assert task.requests(task.items[0]) == [('He said "I\n\nam  sure of', " it")]


def test_hellaswag_in_both_forms(tmp_path: Path):
    write_lines(tmp_path / "json" / "hellaswag_val.jsonl", HELLASWAG)
    task = load_task("hellaswag", tmp_path / "json")
    prompt = "Roof repair: A man. climbs up. He"  # as the harness cleans it, see test_lm_eval.py
    assert task.requests(task.items[0])[1] == (prompt, "  Works.. Rests.")
    lines = ["Roof: A man", "1", "a", "b", "c", "d"] * 2
    (tmp_path / "text").mkdir()
    packed = tmp_path / "text" / "hellaswag_val_full.txt.bz2"
    packed.write_bytes(bz2.compress("\n".join(lines).encode()))
    task = load_task("hellaswag", tmp_path / "text")
    assert [item.id for item in task.items] == ["hellaswag_val_full:1", "hellaswag_val_full:7"]
    assert (task.items[1].choices, task.items[1].right) == (("a", "b", "c", "d"), 1)
    packed.write_bytes(bz2.compress("\n".join(lines[:-1]).encode()))
    with pytest.raises(DataError, match=r"bz2:11: the last record has 5 lines"):
        load_task("hellaswag", tmp_path / "text")


def test_piqa(tmp_path: Path):
    one = {"goal": "Dry it.", "sol1": "Use a towel", "sol2": "Use water"}
    write_lines(tmp_path / "valid.jsonl", one, one)
    with pytest.raises(DataError, match=r"valid-labels\.lst is missing"):
        load_task("piqa", tmp_path)
    write_lines(tmp_path / "valid-labels.lst", "0")
    with pytest.raises(DataError, match="has 1 lines for the 2 records"):
        load_task("piqa", tmp_path)
    write_lines(tmp_path / "valid-labels.lst", "0", "1")
    task = load_task("piqa", tmp_path)
    assert [item.right for item in task.items] == [0, 1]
    assert task.requests(task.items[0])[1] == ("Question: Dry it.\nAnswer:", " Use water")


@pytest.mark.parametrize("form", ["parquet", "original"])
def test_arc(form, tmp_path: Path):
    if form == "original":
        write_lines(tmp_path / "ARC-Easy" / "ARC-Easy-Test.jsonl", ARC_ORIGINAL)
    else:
        arrow = pytest.importorskip("pyarrow", reason="the extra parquet")
        parquet = pytest.importorskip("pyarrow.parquet")
        (tmp_path / "ARC-Easy").mkdir()
        table = arrow.Table.from_pylist([ARC])
        parquet.write_table(table, tmp_path / "ARC-Easy" / "test-00000-of-00001.parquet")
    task = load_task("arc-easy", tmp_path)
    item = task.items[0]
    assert (item.choices, item.right) == (("stone", "ice", "air"), 1)
    assert task.requests(item)[0] == ("Question: What melts?\nAnswer:", " stone")


def cmmlu_rows(letters: str) -> list[str]:
    rows = [f"{i},题目{i},甲,乙,丙,丁,{letter}" for i, letter in enumerate(letters)]
    return [",Question,A,B,C,D,Answer", *rows]


def test_cmmlu_shows_the_examples_of_its_subject(tmp_path: Path):
    for subject in ("anatomy", "arts"):
        write_lines(tmp_path / "data" / "dev" / f"{subject}.csv", *cmmlu_rows("ABCDAB"))
        write_lines(tmp_path / "data" / "test" / f"{subject}.csv", *cmmlu_rows("DB"))
    task = load_task("cmmlu", tmp_path, limit=1)
    assert [item.subject for item in task.items] == ["anatomy", "arts"]
    item = task.items[0]
    assert item.prompt.startswith(
        "以下是关于解剖学的单项选择题，请直接给出正确答案的选项。\n\n题目0\n"
    )
    assert item.prompt.count("答案： ") == 5
    assert item.prompt.endswith("答案： A\n\n题目0\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案：")
    assert task.requests(item)[3][1] == " D"
    assert item.right == 3
    # What other items share, such as the examples, is not the item's own.
    assert item.text == "题目0\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案：\nA\nB\nC\nD\n"
    write_lines(tmp_path / "data" / "dev" / "arts.csv", *cmmlu_rows("AB"))
    with pytest.raises(DataError, match=r"arts\.csv:2: 2 of the 5 examples of subject 'arts'"):
        load_task("cmmlu", tmp_path)


def test_sms_spam(tmp_path: Path):
    write_lines(tmp_path / "SMSSpamCollection", 'ham\tSo "late"', "spam\tWin now")
    task = load_task("sms-spam", tmp_path)
    assert [item.right for item in task.items] == [0, 1]
    assert task.items[0].prompt == 'Message: So "late"\nThis message is'


def test_gsm8k_shows_whole_answers(tmp_path: Path):
    write_lines(tmp_path / "train.jsonl", *[{"question": "1+1?", "answer": "two\n#### 2"}] * 5)
    write_lines(tmp_path / "test.jsonl", {"question": "2+2?", "answer": "#### 4"})
    (item,) = load_task("gsm8k", tmp_path).items
    assert item.prompt.startswith("Question: 1+1?\nAnswer: two\n#### 2\n\nQuestion:")
    assert item.prompt.endswith("Question: 2+2?\nAnswer:")
    assert item.answer == "#### 4"


COUNTS = {"blimp": (67_000, 67), "lambada": (5153, 1), "hellaswag": (10_042, 1),
          "piqa": (1838, 1), "cmmlu": (11_582, 67), "gsm8k": (1319, 1)}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_the_whole_of_the_real_data_is_read(name, shared_data: Path):
    task = load_task(name, shared_data / "eval")
    subjects = {item.subject for item in task.items}
    assert (len(task.items), len(subjects)) == COUNTS[name]
    assert len({item.id for item in task.items}) == len(task.items)


def test_the_real_messages_are_read(shared_data: Path):
    task = load_task("sms-spam", shared_data / "finetune" / "sms-spam")
    assert (len(task.items), sum(item.right for item in task.items)) == (5574, 747)


@pytest.mark.parametrize("name", known_tasks())
def test_known_tasks_name_what_a_reader_asks(name):
    about = known_tasks()[name]
    assert about.source
    assert about.url.startswith("https://")
    assert about.license
    assert about.references
    assert about.data_set in known_data()
    assert about.measures.isascii()
    assert not about.measures_zh.isascii()
    for reference in about.references:
        assert reference.source
        assert reference.metric in METRICS[about.kind]
        assert 0 < reference.score <= 1 or reference.metric == "perplexity"


OWN = """
measures = "capitals"
measures_zh = "首都"
source = "me"
url = ""
license = "mine"
kind = "choices"
metrics = ["acc"]
prompt = "{country} {{capital}}:"
choices = ["{cities}"]
answer = "{answer}"
[[data]]
files = ["*.jsonl"]
"""


def test_a_task_file_of_ones_own(tmp_path: Path):
    (tmp_path / "capitals.toml").write_text(OWN, encoding="utf-8")
    write_lines(tmp_path / "a.jsonl", {"country": "法国", "cities": ["伦敦", "巴黎"], "answer": 1})
    task = load_task(tmp_path / "capitals.toml")
    assert task.name == "capitals"
    assert task.requests(task.items[0]) == [
        ("法国 {capital}:", " 伦敦"),
        ("法国 {capital}:", " 巴黎"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{country}", "{country", r"capitals\.toml: prompt = .* is no field"),
        ("{country}", "{country|shout}", r"prompt: unknown filter shout"),
        ('"acc"', '"perplexity"', r"capitals\.toml: metrics = .* kind choices has acc"),
        ("metrics", "metric", r"unknown setting metric\. Did you mean metrics"),
        ('choices = ["{cities}"]', "", r"choices is missing"),
        ('kind = "choices"', 'kind = "guesses"', r"'guesses' is not one of"),
        ("[[data]]", "fewshot = 2\n[[data]]", r"fewshot = 2 needs data\.examples"),
        ("[[data]]", 'clean = [["(", ""]]\n[[data]]', r"'\(' is no regular expression"),
    ],
)
def test_a_wrong_task_file_says_where(old, new, words, tmp_path: Path):
    (tmp_path / "capitals.toml").write_text(OWN.replace(old, new), encoding="utf-8")
    write_lines(tmp_path / "a.jsonl", {"country": "法国", "cities": ["伦敦", "巴黎"], "answer": 1})
    with pytest.raises(ConfigError, match=words):
        load_task(tmp_path / "capitals.toml")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"cities": ["a", "b"], "answer": 1}, r"a\.jsonl:2: there is no field country"),
        ({"country": ["x"], "cities": ["a", "b"], "answer": 1}, r"country is not text but list"),
        (
            {"country": "x", "cities": ["a", "b"], "answer": 2},
            r":2: the answer '2' is none of 0, 1",
        ),
        ("{not json", r"a\.jsonl:2"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(record, words, tmp_path: Path):
    (tmp_path / "capitals.toml").write_text(OWN, encoding="utf-8")
    good = {"country": "法国", "cities": ["伦敦", "巴黎"], "answer": 1}
    write_lines(tmp_path / "a.jsonl", good, record)
    with pytest.raises(DataError, match=words) as raised:
        load_task(tmp_path / "capitals.toml")
    assert "skip" not in str(raised.value)


def test_unknown_tasks_and_missing_data(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"Did you mean hellaswag\?"):
        load_task("helaswag", tmp_path)
    with pytest.raises(ConfigError, match="task blimp needs the folder"):
        load_task("blimp")
    with pytest.raises(DataError, match=r"corpus get blimp.*github\.com/alexwarstadt/blimp"):
        load_task("blimp", tmp_path)


def test_templates_reach_into_records():
    values = {"a": {"b": [{"c": "x"}, {"c": "y"}]}, "n": 3}
    assert Template("{a.b.c}", "here").value(values, "f:1") == ["x", "y"]
    assert Template("{n}", "here").value(values, "f:1") == 3
    assert Template("<{n}>", "here").value(values, "f:1") == "<3>"
    with pytest.raises(DataError, match=r"f:1: there is no field a\.z, which here asks for"):
        Template("{a.z}", "here").render(values, "f:1")


def test_the_default_of_every_setting_is_no_choice_of_its_own():
    about = TaskFile("m", "m", "s", "", "", "text", ("perplexity",), ())
    assert (about.separator, about.fewshot, about.clean) == (" ", 0, ())
