"""report.json is read whole or refused with its fault, and its texts are made showable."""

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.cli.corpus_report import Report as ReportCommand
from scratchlm.recipes.corpus_report import report
from scratchlm.report.facts import REPORT, Clusters, load_report, readable

SMALL = {
    "format": "scratchlm corpus report",
    "version": 1,
    "recipe": "web",
    "stages": [
        {"name": "normalise", "n_in": 10, "n_kept": 9, "dropped": {"empty": 1}, "n_bytes": 900},
        {"name": "overlap", "n_in": 9, "n_kept": 9, "dropped": {}, "n_bytes": 880},
    ],
    "languages": {"en": {"n": 9, "n_bytes": 880}},
    "lengths": {},
    "sources": [],
    "n_sources": 0,
    "tokens": {"low": 200, "high": 300, "how": "bytes / 4.2"},
    "rules": {},
    "clusters": {},
    "overlap": [],
    "personal": {},
    "boilerplate": [],
}
SAMPLE = {"id": "a", "source": "example.com", "score": 0.9, "excerpt": "Words."}


def written(folder, values):
    (folder / REPORT).write_text(json.dumps(values), "utf-8")
    return folder


def changed(**parts):
    return {**copy.deepcopy(SMALL), **parts}


def test_a_report_with_empty_parts_is_read(tmp_path):
    found = load_report(written(tmp_path, SMALL))
    assert (found.n_in, found.n_kept, found.n_bytes) == (10, 9, 880)
    assert found.clusters == Clusters(0, 0, ())
    assert found.stages[0].dropped == {"empty": 1}


def test_a_whole_number_is_a_score_too(tmp_path):
    rule = {"n_dropped": 1, "limit": "", "paper": "", "kept": [{**SAMPLE, "score": 1}]}
    found = load_report(written(tmp_path, changed(rules={"short": {**rule, "dropped": []}})))
    assert found.rules["short"].kept[0].score == 1.0


def test_a_folder_without_report_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"has no report\.json.*scratchlm corpus clean DOCS --out"):
        load_report(tmp_path)


STAGE = SMALL["stages"][0]
DAMAGED = [
    (changed(format="scratchlm documents"), "is not a scratchlm corpus report"),
    ([], "is not a scratchlm corpus report"),
    (changed(version=2), "has version 2; this program reads version 1. Use the scratchlm release"),
    (changed(extra=1), "damaged (extra is unknown). Clean the documents again"),
    (changed(stages=[]), "it has 0 stages, and 1 to 20 can be shown"),
    (changed(stages=[STAGE] * 21), "it has 21 stages"),
    (changed(stages=[{**STAGE, "n_kept": 10}]), "stage 'normalise' does not add up"),
    (changed(stages=[{**STAGE, "n_in": -1}]), "stages[0].n_in is not a count"),
    (changed(stages=[{**STAGE, "n_in": True}]), "stages[0].n_in is not a count"),
    (changed(stages=[{**STAGE, "n_bytes": 1 << 63}]), "stages[0].n_bytes is not a count"),
    (changed(stages=[{**STAGE, "dropped": {"x": 1.5}}]), "stages[0].dropped['x'] is not a count"),
    (changed(stages=[{**STAGE, "name": 1}]), "stages[0].name is not a text"),
    (changed(stages=[{"name": "normalise"}]), "stages[0].n_in is missing"),
    (changed(stages={}), "stages is not a list"),
    (changed(languages=[]), "languages is not an object"),
    (changed(languages={"en": 5}), "languages['en'] is not an object"),
    (changed(lengths={"en": [1] * 49}), "its lengths go up to 2**49 characters"),
    (changed(overlap=[{"benchmark": "x", "n_documents": 1, "examples": 3}]), "is not a list"),
    (
        changed(rules={"r": {"n_dropped": 1, "limit": "", "paper": "", "dropped": [],
                             "kept": [{**SAMPLE, "score": float("nan")}]}}),
        "rules['r'].kept[0].score is not a number from 0 up",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("values", "fault"), DAMAGED, ids=[fault for _, fault in DAMAGED])
def test_a_fault_is_named(tmp_path, values, fault):
    with pytest.raises(DataError, match=re.escape(fault)):
        load_report(written(tmp_path, values))


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / REPORT).write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"report\.json, line 1: not valid JSON"):
        load_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x07\x1b[31m\x7f", "a\u2400b\u2407\u241b[31m\u2421"),
        ("tab\tand\r\nlines\rand\u2028more", "tab\tand\nlines\nand\nmore"),
        ("\u202eevil\u202c \u2066x\u2069", "[U+202E]evil[U+202C] [U+2066]x[U+2069]"),
        ("half \ud83d pair \udcff", "half \ufffd pair \ufffd"),
        ("\x85 \ufdd0 \uffff", "\ufffd \ufffd \ufffd"),
        (
            "中文，👩\u200d🔬 שלום می\u200cخواهم",
            "中文，👩\u200d🔬 שלום می\u200cخواهم",
        ),  # joiners stay
    ],
)
def test_what_cannot_be_shown_is_spelled_out(text, shown):
    assert readable(text) == shown


@given(st.text(st.characters()))
def test_readable_text_stays_and_can_be_stored(text):
    shown = readable(text)
    assert readable(shown) == shown
    assert shown.encode().decode() == shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


def test_the_recipe_writes_a_page_and_replaces_none(tmp_path):
    written(tmp_path, SMALL)
    out = report(tmp_path, tmp_path / "new" / "page.html")
    assert out.read_text("utf-8").startswith("<!doctype html>")
    with pytest.raises(ConfigError, match=r"page\.html exists\. .*--overwrite"):
        report(tmp_path, out, language="zh")
    report(tmp_path, out, language="zh", overwrite=True)
    assert 'lang="zh-Hans"' in out.read_text("utf-8")


def test_the_recipe_refuses_what_is_no_page(tmp_path):
    written(tmp_path, SMALL)
    with pytest.raises(ConfigError, match=r"report\.json is no name of a page"):
        report(tmp_path, tmp_path / REPORT, overwrite=True)
    (tmp_path / "a.html").mkdir()
    with pytest.raises(ConfigError, match="is a folder, and a file is to be written"):
        report(tmp_path, tmp_path / "a.html", overwrite=True)
    with pytest.raises(ConfigError, match="language = 'fr' is not one of en, zh"):
        report(tmp_path, tmp_path / "b.html", language="fr")


def test_the_verb_prints_the_path(tmp_path, capsys):
    written(tmp_path, SMALL)
    words = [str(tmp_path), "--out", str(tmp_path / "r.html"), "--language", "zh"]
    ReportCommand.parse("corpus report", words).run()
    assert capsys.readouterr().out == f"{tmp_path / 'r.html'}\n"


def test_the_chinese_page_tells_limits_papers_and_estimates_in_chinese(tmp_path):
    how = "2.5 to 4 bytes a token in Chinese, 3.8 to 5 in other languages"
    rule = {"n_dropped": 1, "limit": "en: 5, zh: 7", "paper": "our own list"}
    values = changed(
        rules={"C4: too few sentences": {**rule, "kept": [SAMPLE], "dropped": []}},
        tokens={"low": 1, "high": 2, "how": how},
    )
    report(written(tmp_path, values), tmp_path / "page.html", language="zh")
    page = (tmp_path / "page.html").read_text("utf-8")
    for chinese in ("英语：5，中文：7", "本项目自定", "每个词元：中文 2.5"):
        assert chinese in page
    for english in ("en: 5", "our own list", "bytes a token"):
        assert english not in page


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere is no folder\. Name one that scratchlm corpus cl"
    ):
        report(tmp_path / "nowhere", tmp_path / "page.html")
