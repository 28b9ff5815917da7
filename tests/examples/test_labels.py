"""Labelled texts from tables and JSON; the columns are found, or the error says what to set."""

import csv
import json
import logging
import re
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.examples.labels import Labelled, label_names, read_labelled
from scratchlm.examples.skipped import BadRecord

SPAM = [("spam", 'Win "cash", now'), ("ham", "See you, then"), ("ham", "好的"), ("spam", "免费！")]


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def pairs(path: Path, **options) -> list[tuple[str, str]]:
    return [(one.label, one.text) for one in read_labelled([path], **options)]


def table(path: Path, header: list[str], rows: list, delimiter: str = ",") -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *rows])
    return path


@pytest.mark.parametrize("header", [["label", "text"], ["Category", " Message"], ["标签", "文本"]])
@pytest.mark.parametrize(("ending", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_columns_with_usual_names(header, ending, delimiter, tmp_path):
    path = table(tmp_path / f"a.{ending}", header, SPAM, delimiter)
    assert pairs(path) == SPAM
    turned = [row[::-1] for row in SPAM]
    assert pairs(table(tmp_path / f"b.{ending}", header[::-1], turned, delimiter)) == SPAM


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a", "a.txt"])
@pytest.mark.parametrize("turned", [False, True])
def test_two_columns_without_a_header(name, turned, tmp_path, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    rows = [row[::-1] for row in SPAM] if turned else SPAM
    path = table(tmp_path / name, [], rows, "," if name.endswith("csv") else "\t")
    assert pairs(path) == SPAM
    assert (
        f"column {1 + turned} is read as the label, column {2 - turned} as the text" in caplog.text
    )


def test_json_of_any_kind_of_label(records_file):
    paths = [records_file({"sentence": "a", "label": 0}, {"sentence": "b", "label": 1.0})]
    paths += [records_file({"review": "c", "class": True}, {"review": "d", "class": " x "},
                           name="z.jsonl")]  # fmt: skip
    found = read_labelled(paths)
    assert [(one.text, one.label) for one in found] == [
        ("a", "0"), ("b", "1"), ("c", "true"), ("d", "x"),
    ]  # fmt: skip
    assert found[3].place == f"{paths[1]}:2"


def test_columns_that_are_named(tmp_path):
    path = table(tmp_path / "a.csv", ["v1", "v2", "text"], [(*row, "x") for row in SPAM])
    assert pairs(path, text_column="v2", label_column="v1") == SPAM
    assert pairs(path, label_column="v1") == [(label, "x") for label, _ in SPAM]
    two = table(tmp_path / "b.csv", ["v1", "v2"], SPAM)
    assert pairs(two, text_column="v2") == pairs(two, label_column="v1") == SPAM
    bare = table(tmp_path / "c.csv", [], [(i, *row) for i, row in enumerate(SPAM)])
    assert pairs(bare, text_column="3", label_column="2") == SPAM
    short = table(tmp_path / "d.csv", [], SPAM[:2])
    assert pairs(short, text_column="2") == pairs(short, label_column="1") == SPAM[:2]


def test_named_keys_of_json(records_file):
    path = records_file({"a": "x", "b": "y", "c": "1"}, {"a": "z", "b": "w", "c": "2"})
    assert pairs(path, text_column="b", label_column="c") == [("1", "y"), ("2", "w")]


UNCLEAR = {
    "two texts": (["text", "content", "label"], [("a", "b", "1")], {}, r"a\.csv:2: any of 'text', "
                  "'content' may hold the text. Set text_column"),
    "two labels": (["text", "class", "label"], [("a", "b", "1")], {}, "may hold the label. Set "),
    "no label": (["text", "kind"], SPAM, {}, "first line, 'text', 'kind', names no column that is "
                 "known to hold the label. Set label_column"),
    "no text": (["id", "kind", "class"], [("1", "2", "3")], {}, "known to hold the text. Set "),
    "unknown": (["v1", "v2", "v3"], [("1", "2", "3")], {}, "first line, 'v1', 'v2', 'v3', names no "
                "columns that are known. Set text_column and label_column"),
    "misnamed": (["v1", "v2"], SPAM, {"text_column": "v3"}, "'v1', 'v2', names no column 'v3'"),
    "same": (["v1", "v2"], SPAM, {"text_column": "v1", "label_column": "v1"},
             "'v1' cannot be both text and label"),
    "no small one": ([], SPAM[:2], {}, "cannot be told: in 2 lines, the first has 2 different "
                     "values and the second 2. Set text_column and label_column to 1 and 2"),
    "a header of unusual names": (["v1", "v2"], SPAM * 2, {}, "first line, 'v1', 'v2', has a label "
                                  "that no other line has"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_clear_is_an_error_that_lists_the_columns(name, tmp_path):
    header, rows, options, said = UNCLEAR[name]
    path = table(tmp_path / "a.csv", header, [(*row[:-1], f"{row[-1]}{i // 4}") for i, row in
                                              enumerate(rows)])  # fmt: skip
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=said) as error:
            read_labelled([path], skip_bad=skip_bad, **options)
        assert not isinstance(error.value, BadRecord)


BAD = {
    "empty text": ({"text": " ", "label": "a"}, r"the text \('text'\) is empty"),
    "no text": ({"text": None, "label": "a"}, "is empty"),
    "a number": ({"text": 7, "label": "a"}, r"the text \('text'\) is no text but int \(7\)"),
    "empty label": ({"text": "x", "label": ""}, r"the label \('label'\) is empty"),
    "null": ({"text": "x", "label": None}, r"the label \('label'\) is empty"),
    "fraction": ({"text": "x", "label": 0.5}, "is 0.5, and must be the name of one class"),
    "two": ({"text": "x", "label": ["a", "b"]}, "must be the name of one class"),
    "no label": ({"text": "x", "id": "1"}, "none of 'text', 'id' is known to hold the label: if"),
    "no key": ({"label": "a"}, "none of 'label' is known to hold the text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_one_error(name, records_file, caplog):
    record, said = BAD[name]
    good = {"text": "x", "label": "a"}, {"text": "y", "label": "b"}
    path = records_file(*good, record)
    with pytest.raises(BadRecord, match=rf"^{re.escape(str(path))}:3: .*{said}.*--skip-bad"):
        read_labelled([path])
    assert len(read_labelled([path], skip_bad=True)) == 2
    assert "2 labelled texts; 1 bad records left out" in caplog.text


def test_a_key_that_is_missing_in_json(records_file):
    path = records_file({"text": "x", "label": "a"})
    with pytest.raises(
        BadRecord, match="there is no 'kind', the label_column, among 'text', 'label'"
    ):
        read_labelled([path], label_column="kind")


def test_one_class_is_an_error(records_file):
    path = records_file({"text": "x", "label": "a"}, {"text": "y", "label": "a"})
    said = rf"all 2 texts have the label 'a' \(the first is {re.escape(str(path))}:1"
    with pytest.raises(DataError, match=said):
        read_labelled([path])


def test_copies_and_contradictions_are_counted(records_file, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    found = [("x", "a"), ("y", "b"), ("x", "a"), ("x", "b")]
    path = records_file(*({"text": text, "label": label} for text, label in found))
    assert len(read_labelled([path])) == 4
    assert caplog.messages == [
        "4 labelled texts in 2 classes: a 2, b 2.",
        "2 of them are exact copies of another; copies fall into one part.",
        f"1 texts stand there again with another label, for example {path}:1 and {path}:4.",
    ]


def test_class_names_are_sorted():
    def names(*given: str) -> list[str]:
        return label_names(Labelled("x", name, "") for name in given)

    assert names("spam", "ham", "spam", "垃圾") == ["ham", "spam", "垃圾"]
    assert names("10", "9", "-1", "0") == ["-1", "0", "9", "10"]
    assert names("10", "9", "x") == ["10", "9", "x"]
    assert names("\u00b2", "1") == ["1", "\u00b2"]


def test_quotation_marks_of_the_spam_collection(own_data):
    found = read_labelled([own_data / "SMSSpamCollection"])
    assert len(found) == 15
    assert found[10].text.startswith('"Wen u miss someone')
    assert '" gdeve..' in found[10].text
    assert label_names(found) == ["ham", "spam"]


def test_the_whole_spam_collection(shared_data, caplog):
    caplog.set_level(logging.INFO, "scratchlm")
    path = shared_data / "finetune" / "sms-spam" / "SMSSpamCollection"
    lines = path.read_text("utf-8").split("\n")[:-1]
    assert pairs(path) == [tuple(line.split("\t")) for line in lines]
    assert "5,574 labelled texts in 2 classes: ham 4,827, spam 747." in caplog.text
    assert "403 of them are exact copies" in caplog.text


def test_a_mixed_folder(tmp_path):
    table(tmp_path / "a.csv", ["label", "text"], SPAM)
    table(tmp_path / "b.tsv", [], SPAM, "\t")
    write(tmp_path / "c.json", json.dumps([{"content": "x", "target": "ham"}]))
    assert len(read_labelled([tmp_path])) == 9
