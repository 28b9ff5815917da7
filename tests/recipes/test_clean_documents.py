"""Cleaning as a whole: nothing is lost uncounted, and the bytes depend on the documents alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import beside, read_json
from scratchlm.cleaning.recipe import recipe_names
from scratchlm.corpus.evaluation_texts import evaluation_texts
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.read import Document
from scratchlm.corpus.stages import Counts, counts_of, in_order
from scratchlm.corpus.store import ENDING, read_stored, write_documents
from scratchlm.recipes.clean_documents import CleanConfig, clean_documents
from scratchlm.report.facts import REPORT

EXAM = "Which of these animals does not lay its eggs in the water of a quiet pond in the spring?"
FOOTER = "Copyright of this page: Example News Limited, all rights reserved everywhere."
ENGLISH = (
    "the a of and to with that have be old new small great quiet river house garden boat school "
    "morning winter letter story teacher sister village mountain walked found wrote carried "
    "remembered opened closed watched under over between before after slowly often never"
)
CHINESE = (
    "的 是 了 在 和 不 有 我 他 这 之 而 也 春天 河水 老师 学校 山路 孩子 故事 房子 花园 朋友 月亮 "
    "城市 早上 晚上 慢慢 走过 看见 写下 想起 打开 关上 喜欢 知道 因为 所以 但是 虽然 一起 时候"
)


def prose(draw: random.Random, lang: str) -> str:
    """A text of its own that passes every rule."""
    lines = []
    for _ in range(12):
        if lang == "en":
            lines.append(" ".join(draw.choices(ENGLISH.split(), k=14)).capitalize() + ".")
        else:
            parts = ("".join(draw.choices(CHINESE.split(), k=6)) for _ in range(3))
            lines.append("，".join(parts) + "。")
    return "\n".join(lines)


def documents() -> Iterator[Document]:
    draw = random.Random(5)
    for i in range(60):
        text = prose(draw, "zh" if i % 3 else "en") + "\n" + FOOTER * (i % 2)
        url = f"https://www.news.example.com/{i}"
        yield Document(f"page-{i}", text, url, {"url": url})
        if i % 10 == 0:
            yield Document(f"copy-{i}", text, url, {"url": url})
        if i % 10 == 1:
            near = text.replace(text[100:112], "", 1)
            yield Document(f"near-{i}", near, url, {"url": url})
    yield Document("short", "Too short to keep, the reader finds.", "notes/a.txt", {})
    yield Document("blank", " \u200b\n", "notes/b.txt", {})
    german = "Der Hafen lag still, als die letzten Boote heimkehrten. " * 4
    yield Document("german", german, "notes/c.txt", {})
    yield Document("exam", f"{prose(draw, 'en')}\n{EXAM}", "notes/d.txt", {})
    mail = f"{prose(draw, 'en')}\nWrite to jane.doe" + "\u0040example.org before the end of May."
    yield Document("mail", mail, "notes/e.txt", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Documents in six shards."""
    folder = tmp_path_factory.mktemp("docs")
    known = list(documents())
    for n in range(6):
        with write_documents(folder / f"{n:05}{ENDING}") as write:
            for document in known[n * len(known) // 6 : (n + 1) * len(known) // 6]:
                write(document)
    return folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exams") / "animals.jsonl"
    path.write_text(json.dumps({"question": EXAM, "answer": "A hen"}) + "\n", encoding="utf-8")
    return path


def config(evaluation: Path, **more) -> CleanConfig:
    return CleanConfig(lang="en,zh", evaluation=(evaluation,), **more)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def cleaned(folder, evaluation, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "clean"
    clean_documents(folder, out, config=config(evaluation), scale=Scale(1))
    return out


def texts(folder: Path) -> dict[str, str]:
    return {
        document.id: document.text
        for shard in in_order(folder.iterdir())
        for document in read_stored(shard)
    }


def test_each_document_goes_for_its_reason(cleaned, folder):
    kept, counts = texts(cleaned), counts_of(cleaned)
    n_in = len(texts(folder))
    assert counts.dropped == {
        "duplicate: equal": 6,
        "duplicate: similar": 6,
        "Gopher: too few words": 1,
        "empty": 1,
        "language: de": 1,
        "overlap: animals.jsonl": 1,
    }
    assert (counts.n_in, counts.n_kept) == (n_in, len(kept)) == (n_in, n_in - 16)
    assert {name.partition("-")[0] for name in kept} == {"page", "mail"}
    assert not any(FOOTER in text for text in kept.values())
    assert "Write to |||EMAIL_ADDRESS||| before the end of May." in kept["mail"]
    assert counts.kept_bytes == sum(len(text.encode()) for text in kept.values())
    assert counts.in_bytes == sum(len(text.encode()) for text in texts(folder).values())
    assert not beside(cleaned, "work").exists()


def test_the_report_adds_up(cleaned):
    report, counts = read_json(cleaned / REPORT), counts_of(cleaned)
    stages = {stage["name"]: stage for stage in report["stages"]}
    n = counts.n_in
    for stage in report["stages"]:
        assert stage["n_in"] == n
        n = stage["n_kept"]
        assert n == stage["n_in"] - sum(stage["dropped"].values())
    assert n == counts.n_kept
    assert stages["quality"]["dropped"] == {"Gopher: too few words": 1}
    assert stages["exact duplicates"]["dropped"] == {"duplicate: equal": 6}
    assert report["stages"][-1]["n_bytes"] == counts.kept_bytes
    sizes = [counts.in_bytes, *(stage["n_bytes"] for stage in report["stages"])]
    cut = {one["name"]: sizes[i] - sizes[i + 1] for i, one in enumerate(report["stages"])}
    assert cut["boilerplate"] == 30 * (len(FOOTER) + 1)
    assert -30 < cut["personal data"] < 30  # one address is another word now, and no more
    assert {lang: one["n"] for lang, one in report["languages"].items()} == {"zh": 40, "en": 21}
    assert sum(map(sum, report["lengths"].values())) == counts.n_kept
    assert report["sources"][0]["name"] == "news.example.com"
    rule = report["rules"]["Gopher: too few words"]
    assert (rule["n_dropped"], rule["paper"]) == (1, "arXiv:2112.11446")
    assert rule["dropped"][0]["id"] == "short"
    assert rule["limit"] == "50"
    assert len(rule["kept"]) == 5
    assert all(0 < one["score"] < 1 for one in rule["kept"])
    clusters = report["clusters"]
    assert (clusters["n"], clusters["n_documents"]) == (12, 24)
    similar = [one["members"][0]["similarity"] for one in clusters["examples"]]
    assert sorted(similar)[6:] == [1.0] * 6
    assert 0.8 < sorted(similar)[0] < 1
    assert report["overlap"][0]["n_documents"] == 1
    assert "lay its eggs" in report["overlap"][0]["examples"][0]["match"]
    assert report["personal"] == {"EMAIL_ADDRESS": 1}
    assert report["boilerplate"][0]["line"] == FOOTER


@pytest.mark.parametrize("workers", [2, 8])
def test_the_bytes_do_not_depend_on_the_workers(folder, evaluation, cleaned, tmp_path, workers):
    clean_documents(folder, tmp_path / "clean", config=config(evaluation), scale=Scale(workers))
    assert content(tmp_path / "clean") == content(cleaned)


SCRIPT = """
import sys
from pathlib import Path
from scratchlm.corpus.executors import Scale
from scratchlm.recipes.clean_documents import CleanConfig, clean_documents
if __name__ == "__main__":
    docs, out, evaluation = map(Path, sys.argv[1:])
    config = CleanConfig(lang="en,zh", evaluation=(evaluation,))
    clean_documents(docs, out, config=config, scale=Scale(2))
"""


def test_killed_anywhere_it_goes_on_to_the_same_bytes(folder, evaluation, cleaned, tmp_path):
    script, out, draw = tmp_path / "run.py", tmp_path / "clean", random.Random(1)
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(folder), str(out), str(evaluation)]
    for _ in range(4):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(draw.uniform(0.8, 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (out / "manifest.json").exists():
            break
    else:
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    assert content(out) == content(cleaned)


def test_other_settings_or_documents_do_not_go_on(folder, evaluation, cleaned, tmp_path):
    with pytest.raises(ConfigError, match=r"clean exists\. Name another folder, or give --overw"):
        clean_documents(folder, cleaned, config=config(evaluation))
    out = tmp_path / "clean"
    (out / ".done").mkdir(parents=True)
    (out / ".done" / "stage.json").write_text('{"stage": "clean", "settings": {}}')
    with pytest.raises(ConfigError, match=r"was begun by another stage, or with other settings"):
        clean_documents(folder, out, config=config(evaluation))
    clean_documents(folder, out, config=config(evaluation, overwrite=True))
    assert content(out) == content(cleaned)


def test_a_limit_looks_at_the_first_documents(folder, tmp_path):
    counts = clean_documents(folder, tmp_path / "try", config=CleanConfig(limit=10))
    assert counts.n_in == 10


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_runs(folder, tmp_path, recipe):
    limited = CleanConfig(recipe=recipe, limit=20)
    counts = clean_documents(folder, tmp_path / "clean", config=limited)
    kept = texts(tmp_path / "clean")
    assert counts.n_in == 20
    assert counts.n_kept == len(kept)
    if recipe == "none":
        assert kept == dict(list(texts(folder).items())[:20])
    if recipe == "simple":
        assert all(text == " ".join(text.lower().split()) for text in kept.values())


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist: one of \.jsonl\.zst files"):
        clean_documents(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.jsonl\.zst files: scratchlm corpus extract m"):
        clean_documents(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"lang = 'English' must name languages by ISO 639-1"):
        clean_documents(folder, tmp_path / "out", config=CleanConfig(lang="English"))
    evaluation = (tmp_path / "exam.jsonl",)
    with pytest.raises(DataError, match=r"exam\.jsonl does not exist"):
        clean_documents(folder, tmp_path / "out", config=CleanConfig(evaluation=evaluation))
    with pytest.raises(ConfigError, match=r"limit = -1 must be at least 0"):
        CleanConfig(limit=-1)
    assert not (tmp_path / "out").exists()


def test_counts_of_two_passes_add_up():
    first, second = Counts(), Counts()
    first.drop("a", 5)
    first.keep(10, 9)
    second.drop("b", 9)
    both = first.then(second)
    assert (both.n_in, both.n_kept, both.in_bytes, both.kept_bytes) == (2, 0, 15, 0)
    assert both.dropped == {"a": 1, "b": 1}


def test_its_own_input_is_not_replaced(cleaned):
    """`--out` of the same name with --overwrite once removed the documents before it read them."""
    before = content(cleaned)
    with pytest.raises(ConfigError, match=r"clean, which is to be read, is the folder to make"):
        clean_documents(cleaned, cleaned, config=CleanConfig(overwrite=True))
    assert content(cleaned) == before


def test_languages_that_nobody_can_tell_are_refused(folder, tmp_path):
    told = "the language qq, xx is none that can be told.*Known are .* en .* zh .*, and und"
    with pytest.raises(ConfigError, match=told):
        clean_documents(folder, tmp_path / "out", config=CleanConfig(lang="xx,en,qq"))
    (tmp_path / "mine.toml").write_text('languages = ["english"]\n')
    mine = CleanConfig(recipe=str(tmp_path / "mine.toml"))
    with pytest.raises(ConfigError, match="the language english is none"):
        clean_documents(folder, tmp_path / "out", config=mine)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"q": "one"}\n{broken\n', r"a\.jsonl, line 2, cannot be read as an eval"),
        ("a.json", b"[1, 2", r"a\.json cannot be read as an evaluation set \(Expecting"),
        ("a.txt", b"\n \n", r"a\.txt holds no text: nothing could be found to overlap"),
        ("a.csv", b"", r"a\.csv holds no text"),
        ("a.txt", bytes(range(256)) * 9, r"a\.txt holds NUL bytes"),
        ("a.pdf", b"x", r"a\.pdf: an evaluation set must end in one of \.jsonl"),
    ],
)
def test_evaluation_sets_are_read_before_the_work(folder, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        clean_documents(folder, tmp_path / "out", config=CleanConfig(evaluation=(tmp_path / name,)))
    assert not (tmp_path / "out").exists()


def test_an_evaluation_set_in_a_chinese_encoding(tmp_path):
    text = "春天的河水慢慢地流过城市，老师和孩子们在山路上看见了月亮，大家都很喜欢这个故事。"
    (tmp_path / "exam.txt").write_bytes((text + "\n").encode("gb18030") * 2)
    assert list(evaluation_texts(tmp_path / "exam.txt")) == [text, text]


def test_an_overlap_is_told(folder, evaluation, tmp_path, caplog):
    with pytest.raises(ConfigError, match=r"on_overlap = 'report' needs evaluation sets"):
        CleanConfig(on_overlap="report")
    with caplog.at_level("INFO"):
        clean_documents(folder, tmp_path / "out", config=config(evaluation, on_overlap="report"))
    assert "Text of animals.jsonl stands in 1 document, kept: see" in caplog.text
    assert "exam" in texts(tmp_path / "out")


def test_nothing_left_is_a_warning(folder, tmp_path, caplog):
    clean_documents(folder, tmp_path / "out", config=CleanConfig(recipe="books", lang="ko"))
    assert "nothing is left: " in caplog.text
