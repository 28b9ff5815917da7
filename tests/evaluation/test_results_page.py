"""The page of an evaluation: every number, true bars, both languages, and any text as text."""

import base64
import dataclasses
import hashlib
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlm.evaluation import results_page
from scratchlm.evaluation.page_words import _WORDS, EvaluationWords
from scratchlm.evaluation.results_page import render_evaluation
from scratchlm.evaluation.statistics import Interval
from scratchlm.evaluation.summary import Evaluation, ModelFacts, ShownAnswer, Subject
from scratchlm.report.page import MOST_BYTES

HOSTILE = [
    "<script>fetch('http://127.0.0.1:9/s')</script><img src=x onerror=alert(1)>",
    "</style><style>@import 'c'</style></title></blockquote></svg><svg onload=alert(2)>",
    '" onmouseover="alert(3)" style="background:url(b)" x=\'y\' `z`',
    "--></template><iframe src='f'></iframe><!-- <base href=x><link href=l>",
    "{{ 7 * 7 }}{% raw %}&lt;b&gt;&#x3c;script&#x3e; \x00\x1b \u202egnp.exe\u2066 \ud800 \ufffe",
    "javascript:alert(4) arXiv:1234.56789<x> data:text/html,<script>alert(5)</script>",
    "Z\u0335\u0321\u0322\u0327" * 30 + "啊" * 400 + "W" * 3_000,
]
KEPT = ("metric", "begin")  # words of ours, which are not shown as they are


def poisoned(value, texts, at=""):
    """The same tree with hostile words in the place of every text, keys included."""
    if isinstance(value, str):
        return value if at in KEPT else next(texts)
    if isinstance(value, tuple):
        return tuple(poisoned(item, texts, at) for item in value)
    if isinstance(value, dict):
        return {f"{next(texts)}{key}": poisoned(item, texts, at) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        fields = {
            f.name: poisoned(getattr(value, f.name), texts, f.name)
            for f in dataclasses.fields(value)
        }
        return type(value)(**fields)
    return value


class Reader(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.attributes += attributes
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.attributes += attributes

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def tags(self):
        return {tag for tag, _ in self.elements}

    @property
    def names(self):
        return {name for name, _ in self.attributes}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_has_every_number(evaluation, language):
    reader = Reader(render_evaluation(evaluation, language))
    assert reader.open == []  # every element is closed where it should be
    for part in (
        "81.23%", "80.93 \u2013 81.52%", "67,000", "79.52%", "SmolLM2-135M", "98.10%", "-9.71",
        "Who she does like?", "古代汉语", "31.23%", "论语", "98.12%", "95.71%",
        "16.98", "1.1829", "2.8320", "291,512", "1.3 MB", "@-@ <unk> 的",
        "+1.22", "+1.01 \u2013 +1.43", "< 0.001", "+0.0048 nats", "50.32",
        "45.10 \u2013 55.90", "the reply is no score",
        "He is a tower.", "He tall.", "A tree.", "巴黎。", "Roses are red.", "1,407", "2.1%", "321",
        "81.01% (65,593)", "91.47% (1,407)", "Whose hat should Tonya wear", "data is gone",
        "Given the input `{prompt}`", "12:34", "84,796",
    ):  # fmt: skip
        assert part in reader.text, part


def test_both_languages_have_all_words(evaluation):
    english, chinese = (Reader(render_evaluation(evaluation, one)).text for one in ("en", "zh"))
    assert "Scores" in english
    assert "which of two sentences is English" in english
    assert "得分" in chinese
    assert "两个句子中哪一个正确" in chinese
    assert "Scores" not in chinese
    for key, (en, zh) in _WORDS.items():
        assert set(re.findall(r"\{\w+\}", en)) == set(re.findall(r"\{\w+\}", zh)), key
    assert EvaluationWords("zh")("more", n="3") == "其余 3 项"  # a word of every page
    template = (results_page._FOLDER / "evaluation.html").read_text("utf-8")
    source = template + (results_page._FOLDER.parent / "results_page.py").read_text("utf-8")
    used = set(re.findall(r"""(?:\bw|words)\(\s*["'](\w+)["']""", source))
    assert used >= {"tasks_lead", "judge_lead", "other_classes"}
    indirect = {"acc", "acc_norm", "acc_bytes", "exact_match", "accuracy", "f1", "perplexity"}
    spare = {key for key in _WORDS if key not in used and not key.startswith(("to_", "begin_"))}
    sections = {"tasks", "against", "texts", "judge", "answers", "overlap", "title", "skip", "cut"}
    assert spare - indirect - sections == set()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts_add_nothing_to_the_page(evaluation, language):
    tame = Reader(render_evaluation(evaluation, language))
    page = render_evaluation(poisoned(evaluation, itertools.cycle(HOSTILE)), language)
    wild = Reader(page)
    assert wild.open == []
    assert wild.tags <= tame.tags
    assert wild.names <= tame.names
    assert not wild.tags & {"script", "iframe", "img", "link", "base", "object", "form"}
    assert not {name for name in wild.names if name.startswith("on")}
    assert not wild.names & {"style", "src", "srcset", "action", "xlink:href"}
    links = {value for name, value in wild.attributes if name == "href"}
    assert all(re.fullmatch(r"#[a-z]+|https://arxiv\.org/abs/[\d.]+", link) for link in links)
    assert "<script>fetch('http://127.0.0.1:9/s')" in wild.text
    assert "{{ 7 * 7 }}{% raw %}&lt;b&gt;" in wild.text
    assert "\u2400\u241b [U+202E]gnp.exe[U+2066] \ufffd \ufffd" in wild.text
    assert page.count("<style>") == page.count("</style>") == 1


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.text(st.characters()), min_size=1, max_size=5))
def test_any_text_is_shown_as_text(evaluation, texts):
    reader = Reader(render_evaluation(poisoned(evaluation, itertools.cycle(texts))))
    assert reader.open == []
    assert not reader.tags & {"script", "iframe", "img"}
    assert "style" not in reader.names


def test_the_policy_names_the_one_style_sheet(evaluation):
    page = render_evaluation(evaluation)
    style = re.search("<style>(.*)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in "".join(
        value or "" for name, value in Reader(page).attributes if name == "content"
    )
    assert "@import" not in style
    assert "url(" not in style
    assert "http" not in style


def bars(evaluation):
    """The rectangles of each bar by their class, in the order of the page."""
    found = []
    for tag, attributes in Reader(render_evaluation(evaluation)).elements:
        if tag == "svg" and attributes["class"] == "bar":
            found.append({})
        elif tag == "rect" and found and attributes["class"] not in found[-1]:
            found[-1][attributes["class"]] = attributes
    return found


def test_bars_are_true(evaluation):
    blimp = bars(evaluation)[0]
    assert float(blimp["kept"]["width"]) == pytest.approx(81.23)
    assert float(blimp["interval"]["x"]) == pytest.approx(80.93)
    assert float(blimp["interval"]["width"]) == pytest.approx(81.52 - 80.93, abs=0.011)
    assert float(blimp["known"]["x"]) == pytest.approx(79.52)
    differences = [bar for bar in bars(evaluation) if "zero" in bar]
    better, worse, alone = differences
    widest = 0.0143  # of accuracies
    assert float(better["kept"]["x"]) == 50
    assert float(better["kept"]["width"]) == pytest.approx(48 * 0.0122 / widest, abs=0.01)
    assert float(worse["kept"]["x"]) < 50
    assert float(worse["kept"]["x"]) + float(worse["kept"]["width"]) == pytest.approx(50, abs=0.02)
    ends = float(alone["interval"]["x"]), float(alone["interval"]["width"])
    assert sum(ends) == pytest.approx(98, abs=0.02)  # a scale of its own
    judge = next(
        bar for bar in bars(replace(evaluation, comparisons=())) if bar["kept"]["width"] == "50.32"
    )
    assert float(judge["interval"]["x"]) == pytest.approx(45.1)


def test_bars_stay_inside_their_field(evaluation):
    task = evaluation.tasks[0]
    wild = replace(task.scores[0], value=1.0, interval=Interval(-0.1, 1.2))
    shown = bars(replace(evaluation, tasks=(replace(task, scores=(wild,)),)))[0]
    assert (shown["interval"]["x"], shown["interval"]["width"]) == ("0.00", "100.00")


def test_what_was_not_asked_for_is_left_out(evaluation):
    def sections(e):
        return [a["id"] for tag, a in Reader(render_evaluation(e)).elements if tag == "section"]

    assert sections(evaluation) == ["tasks", "against", "texts", "judge", "answers", "overlap"]
    assert sections(Evaluation(ModelFacts("m"))) == []
    assert sections(Evaluation(ModelFacts("m"), tasks=evaluation.tasks[2:])) == ["tasks"]
    answers = (ShownAnswer("q", ""),)
    page = render_evaluation(Evaluation(ModelFacts("m"), answers=answers))
    assert "(nothing)" in page
    assert 'class="sample before"' not in page


def test_the_confusion_matrix_is_a_picture_in_the_page(evaluation):
    page = render_evaluation(evaluation, "zh")
    assert page.count('<svg class="confusion"') == 1
    assert "预测类别" in page
    assert "ham \u2192 spam: 5 (0.5%)" in page
    assert "style=" not in page


def test_a_page_of_any_evaluation_stays_small(evaluation):
    text = "\"'\U0001f600 <&" * 400
    task = evaluation.tasks[0]
    large = replace(
        task,
        subjects=tuple(Subject(text, 0.5, 9) for _ in range(150)),
        surprising=task.surprising * 20,
    )
    wild = replace(
        evaluation,
        tasks=(large,) * 30,
        answers=evaluation.answers * 100,
        texts=evaluation.texts * 100,
    )
    page = render_evaluation(poisoned(wild, itertools.cycle((text, text[::-1]))))
    assert 100_000 < len(page.encode()) < MOST_BYTES
    assert "cut to 800 characters" not in page
