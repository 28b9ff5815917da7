"""An evaluation as JSON that comes back equal, and as a table that stands straight."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scratchlm.base.errors import DataError
from scratchlm.evaluation.classification import ClassScores
from scratchlm.evaluation.judge import Judged, Verdict
from scratchlm.evaluation.overlap import Overlap, SharedText
from scratchlm.evaluation.perplexity import Surprise, TextLoss
from scratchlm.evaluation.results import Outcome, TaskResult
from scratchlm.evaluation.summarise import (
    CHARS,
    SHOWN,
    compare_tasks,
    summarise_classes,
    summarise_judge,
    summarise_task,
    summarise_text,
)
from scratchlm.evaluation.summary import (
    Evaluation,
    ModelFacts,
    Score,
    TaskSummary,
    load_evaluation,
    save_evaluation,
)
from scratchlm.evaluation.summary_table import as_table
from scratchlm.evaluation.task import DataFiles, Item, Task, TaskFile
from scratchlm.report.letters import cells


def test_json_comes_back_equal(evaluation, tmp_path):
    path = tmp_path / "evaluation.json"
    save_evaluation(path, evaluation)
    assert load_evaluation(path) == evaluation
    text = path.read_text("utf-8")
    assert "古代汉语" in text
    values = json.loads(text)
    assert (values["format"], values["version"]) == ("scratchlm evaluation", 1)
    assert values["tasks"][0]["scores"][0]["interval"] == {
        "low": 0.8093,
        "high": 0.8152,
        "level": 0.95,
    }
    least = Evaluation(ModelFacts("m"))
    save_evaluation(path, least)
    assert load_evaluation(path) == least


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "has version 2; this program reads version 1"),
        ({"format": "scratchlm model"}, "is not a scratchlm evaluation"),
        ({"tasks": "many"}, r"is damaged \(tasks = 'many'"),
        ({"tasks": [{"name": "a", "scores": [{"metric": "luck", "value": 1, "n": 1}]}]}, "luck"),
        ({"tasks": [{"name": "a"}]}, r"missing setting tasks\[0\]\.scores"),
        ({"tasks": [{"name": 7, "scores": []}]}, r"tasks\[0\]\.name = 7"),
        ({"surprise": 1}, "unknown setting surprise"),
        ({"seconds": float("nan")}, "seconds is no finite number"),
        ({"model": {"name": "m", "facts": {"l": [1, float("inf")]}}}, r"model\.facts\.l\[1\]"),
        ({"tasks": [{"name": "a", "scores": [],
                     "confusion": {"names": ["x"], "matrix": [[1, 2]]}}]},
         "a confusion matrix of 1 classes"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_its_fault(evaluation, tmp_path, change, said):
    path = tmp_path / "evaluation.json"
    save_evaluation(path, evaluation)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(DataError, match=said) as raised:
        load_evaluation(path)
    assert str(path) in str(raised.value)


def test_no_file_holds_what_is_no_number(tmp_path):
    bad = Evaluation(ModelFacts("m"), tasks=(TaskSummary("t", (Score("acc", float("nan"), 3),)),))
    with pytest.raises(DataError, match=r"tasks\[0\]\.scores\[0\]\.value is no finite number"):
        save_evaluation(tmp_path / "e.json", bad)
    assert list(tmp_path.iterdir()) == []


def tables(text):
    """The tables of a text, each as its lines."""
    return [part.splitlines() for part in text.strip().split("\n\n")]


def test_the_tables_have_every_number(evaluation):
    text = as_table(evaluation)
    for part in (
        "model    runs/chat/model, 134,515,008 parameters, float32, cpu",
        "against  models/smollm2",
        "81.23%", "80.93 to 81.52%", "67,000", "79.52% SmolLM2-135M", "  anaphor_agreement",
        "古代汉语", "31.23%", "16.98", "16.02 to 18.11", "1.1829", "1.1712 to 1.1944", "2.8320",
        "2,048, stride 1,024, 1.3 MB", "+1.22", "+1.01 to +1.43", "< 0.001", "-0.04", "0.870",
        "+0.0048 nats", "score    50.32 of 0 to 100 (95 % interval 45.10 to 55.90), 107 answers",
        "no score 2 answers: the reply is no score", "1,407", "2.1%", "81.01%",
        "not searched: data is gone", "took     12:34",
        "prompt   Given the input `{prompt}`",
    ):  # fmt: skip
        assert part in text, part
    assert "anaphor_agreement" not in as_table(evaluation, subjects=False)
    assert text.endswith("\n")
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_columns_stand_below_each_other_whatever_the_letters(evaluation):
    for lines in tables(as_table(evaluation)):
        if not lines[0].startswith(("task", "trained on")):
            continue
        end = cells(lines[0][: lines[0].index("items") + len("items")])
        for line in lines[1:]:
            if line.startswith("not searched"):
                continue
            # the items' column ends where its heading does: in columns of the terminal
            ends = [cells(line[:i]) for i in range(len(line) + 1)]
            assert end in ends, line
            i = ends.index(end)
            assert line[i - 1].isdigit()
            assert line[i : i + 1] in ("", " ")


def test_hostile_names_move_no_cursor(evaluation):
    task = replace(evaluation.tasks[0], name="\x1b[2J\nblimp\u202e" + "啊" * 90)
    text = as_table(replace(evaluation, tasks=(task,), model=ModelFacts("a\r\x00b\x9b")))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "\u241b[2J blimp[U+202E]" in text
    assert "a \u2400b" in text
    longest = max(map(cells, text.splitlines()))
    assert longest < 160


def test_what_was_not_asked_for_is_not_there():
    text = as_table(Evaluation(ModelFacts("m")))
    assert text == "model    m\n"


def make_task(n=40):
    items = tuple(
        Item(f"i{k}", "even" if k % 2 == 0 else "odd", f"f:{k}", "x" * 3000 + f"q{k}", ("a", "b"))
        for k in range(n)
    )
    about = TaskFile(
        "sums", "加法", "us", "", "MIT", "choices", ("acc",), (DataFiles(("*",)),), choices=("{a}",)
    )
    return Task("sums", about, items)


def make_result(task, right):
    outcomes = tuple(
        Outcome(item.id, item.subject, {"acc": float(ok)}, "b", "a", 1.0 if ok else -1.0 - k)
        for k, (item, ok) in enumerate(zip(task.items, right, strict=True))
    )
    return TaskResult("sums", ("acc",), outcomes, task.about.references, {"cut": 0})


def test_a_tasks_result_is_split_by_what_was_seen():
    task = make_task()
    right = [k < 30 for k in range(40)]
    overlap = Overlap(
        40, dict.fromkeys(range(10), 0.5), examples=(SharedText(1, "s", "w" * CHARS * 2),)
    )
    found = summarise_task(task, make_result(task, right), overlap)
    assert found.scores[0] == Score("acc", 0.75, 40, found.scores[0].interval)
    assert (found.contaminated[0].value, found.contaminated[0].n) == (1.0, 10)
    assert (found.clean[0].value, found.clean[0].n) == (pytest.approx(20 / 30), 30)
    assert [(one.name, one.n) for one in found.subjects] == [("even", 20), ("odd", 20)]
    assert found.overlap.n_found == 10
    assert len(found.overlap.examples[0].text) == CHARS
    assert [one.id for one in found.surprising] == [f"i{k}" for k in range(39, 29, -1)]
    assert len(found.surprising) < SHOWN
    assert found.surprising[0].prompt.endswith("q39")  # where the question is
    assert len(found.surprising[0].prompt) == CHARS + 1
    assert (found.measures, found.measures_zh, found.facts) == ("sums", "加法", {"cut": 0})
    for unseen in (None, Overlap(40, {}), Overlap(40, None)):
        whole = summarise_task(task, make_result(task, right), unseen)
        assert whole.clean == whole.contaminated == ()
    everything = Overlap(40, dict.fromkeys(range(40), 1.0))
    seen = summarise_task(task, make_result(task, right), everything)
    assert (seen.clean, seen.contaminated[0].n) == ((), 40)


def test_two_results_side_by_side():
    task = make_task()
    ours = make_result(task, [True] * 30 + [False] * 10)
    theirs = make_result(task, [True] * 20 + [False] * 20)
    (found,) = compare_tasks(ours, theirs)
    assert (found.ours, found.theirs, found.difference.mean) == (0.75, 0.5, 0.25)
    assert found.difference.p_value == pytest.approx(2 * 0.5**10)  # ten of ten, two-sided


def test_other_results_are_kept_as_well():
    loss = TextLoss(
        nats=200.0, n_targets=100, n_bytes=400, n_documents=20, seq_len=8, stride=4, begin="end",
        document_nats=np.full(20, 10.0), document_bytes=np.full(20, 20),
        surprising=(Surprise("a", "t" * 9999, 3.0),),
    )  # fmt: skip
    text = summarise_text("t", loss, Overlap(20, {3: 1.0}))
    assert text.bits_per_byte == loss.bits_per_byte
    assert text.perplexity == pytest.approx(np.exp(2))
    assert text.interval.low == pytest.approx(text.bits_per_byte)  # all documents are alike
    assert (text.overlap.n_found, len(text.surprising[0].text)) == (1, CHARS)
    verdicts = (Verdict(80.0), Verdict(60.0), Verdict(None, "eh", "the reply is no score"))
    judge = summarise_judge(Judged("http://h/v1", "m", "{answer}", 0, 100, verdicts))
    assert (judge.score.value, judge.score.n) == (70, 2)
    assert (judge.score.interval.low, judge.score.interval.high) == (60, 80)
    assert judge.failures == {"the reply is no score": 1}
    classes = summarise_classes("sms", ["ham", "spam"], ClassScores(1.0, 2, (90, 10, 5, 95)))
    assert classes.scores[0].value == 0.925
    assert classes.scores[0].interval.low < 0.925 < classes.scores[0].interval.high
    assert classes.scores[1].value == pytest.approx((180 / 195 + 190 / 205) / 2)
    assert classes.confusion.matrix == ((90, 10), (5, 95))
