"""Evaluation texts inside documents are found, wherever they stand and however they are set."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.cleaning import overlap
from scratchlm.cleaning.overlap import Benchmarks, Frequencies, Match
from scratchlm.corpus import bundled

QUESTION = "Which of these animals, if any, doesn't lay its eggs in the water of a pond or a river?"
CHINESE = "下列各句中，沒有語病、句意明確的一句是哪一句？請說明理由，並改正其餘各句的錯誤。"
GOLDEN_ENGLISH = [5420955623071139559, 2601966716931172693]  # x86-64, Python 3.11, numpy 2.4
GOLDEN_CHINESE = [2578787804950727639, 16389648643150069850]
TEXT = st.text(st.sampled_from("ab ,.\n字谷。かＡ"), max_size=60)


def text_of(name: str) -> str:
    return bundled.resolve(f"bundled:{name}").read_text(encoding="utf-8")


def plain_words(text: str) -> list[str]:
    """The words the slow way."""
    words = [""]
    for code in overlap.folding()[[*map(ord, text)]] if text else []:
        char = chr(code)
        if char == " ":
            words.append("")
        elif "\u3040" <= char <= "\u9fff":
            words += [char, ""]
        elif code:
            words[-1] += char
    return [word for word in words if word]


@given(TEXT, TEXT)
def test_words_are_those_of_the_slow_way(a, b):
    units, words = [overlap._units(text) for text in (a, b)], [*map(plain_words, (a, b))]
    for text, unit, plain in zip((a, b), units, words):
        spans = zip(unit.starts.tolist(), unit.ends.tolist())
        assert ["".join(plain_words(text[start:end])) for start, end in spans] == plain
    hashes = np.concatenate([unit.hashes for unit in units])
    assert len(np.unique(hashes)) == len({word for plain in words for word in plain})


@given(TEXT, st.integers(1, 9))
def test_runs_are_equal_when_their_words_are(text, n):
    words = plain_words(text)
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    hashes = overlap._run_hashes(overlap._units(text).hashes, n)
    assert len(hashes) == len(runs)
    assert len(np.unique(hashes)) == len(set(runs))


@given(TEXT)
def test_pieces_have_the_words_of_the_whole(text):
    text = (text + "\n") * 5
    whole = overlap._units(text)
    old = overlap._PIECE
    try:
        overlap._PIECE = 64  # so that a border is in reach, even with words of 60
        parts = overlap._units(text)
    finally:
        overlap._PIECE = old
    for field in ("hashes", "starts", "ends", "is_cjk"):
        assert np.array_equal(getattr(parts, field), getattr(whole, field))


@pytest.mark.parametrize(
    ("exam", "written"),
    [
        (QUESTION, QUESTION),
        (QUESTION, QUESTION.upper().replace(" ", "\n").replace("?", " ...")),
        (CHINESE, CHINESE),
        (CHINESE, CHINESE.replace("，", " ").replace("、", "")),
    ],
)
def test_an_evaluation_text_is_found_where_it_stands(exam, written):
    benchmarks = Benchmarks.collect({"exam": [exam], "other": [text_of("tang")[:5000]]})
    before, after = "A page about something else. ", "\n還有別的 and more."
    (match,) = benchmarks.find(before + written + after)
    assert match.benchmark == "exam"
    assert match.text.rstrip(" .?？。") == written.rstrip(" .?？。")
    assert match.start == len(before)
    assert (before + written + after)[match.start : match.end] == match.text


def test_a_run_of_thirteen_words_is_found_and_twelve_are_not():
    words = [f"word{i}" for i in range(40)]
    benchmarks = Benchmarks.collect({"exam": [" ".join(words)]})
    assert benchmarks.find("Some text. " + " ".join(words[5:17])) == []
    text = " ".join(words[5:18])
    assert benchmarks.find(f"Some text. {text} ends.") == [Match("exam", 11, 11 + len(text), text)]
    han = text_of("tang").replace("\n", "")[100:200]
    benchmarks = Benchmarks.collect({"exam": [han]})
    ((_, n),) = benchmarks.runs
    assert n == 20
    letters = "".join(plain_words(han))
    assert benchmarks.find("開始 " + letters[30:49] + " 完") == []
    (match,) = benchmarks.find("開始 " + letters[30:50] + " 完")
    assert match.text == letters[30:50]


def test_sets_of_short_texts_have_shorter_runs_and_count_those_still_shorter():
    words = [f"word{i}" for i in range(400)]
    texts = [" ".join(words[i * 9 : i * 9 + 9]) for i in range(40)] + ["only three words", ""]
    benchmarks = Benchmarks.collect({"short": texts, "tiny": ["yes", "no"]})
    assert list(benchmarks.runs) == [("short", 9), ("tiny", 8)]
    assert benchmarks.n_too_short == {"short": 2, "tiny": 2}
    assert benchmarks.n_texts == {"short": 42, "tiny": 2}
    assert [match.text for match in benchmarks.find(f"It says: {texts[3]}.")] == [texts[3]]


def test_a_set_of_two_languages_has_runs_of_both_kinds():
    benchmarks = Benchmarks.collect({"exam": [QUESTION, CHINESE]})
    assert list(benchmarks.runs) == [("exam", 13), ("exam", 20)]
    text = f"{QUESTION} Something in between these two. {CHINESE}"
    assert len(benchmarks.find(text)) == 2


def test_every_set_that_has_it_is_named_and_far_places_are_told_apart():
    benchmarks = Benchmarks.collect({"b": [QUESTION], "a": [QUESTION + " Why?"], "c": [CHINESE]})
    text = f"{QUESTION}\n{text_of('shakespeare')[:300]}\n{QUESTION}"
    matches = benchmarks.find(text)
    assert [match.benchmark for match in matches] == ["a", "a", "b", "b"]
    assert matches[0].end < matches[1].start


def test_texts_of_others_do_not_match():
    half = len(text_of("shakespeare")) // 2
    benchmarks = Benchmarks.collect({"plays": text_of("shakespeare")[:half].split("\n\n")})
    assert benchmarks.find(text_of("tang")) == []
    assert benchmarks.find("") == []
    assert Benchmarks.collect({}).find(QUESTION) == []
    assert Benchmarks.collect({"empty": []}).find(QUESTION) == []


def test_runs_that_many_documents_have_are_left_out():
    licence = "permission is hereby granted free of charge to any person obtaining a copy of this"
    benchmarks = Benchmarks.collect({"exam": [f"{licence} {QUESTION}"]})
    parts = [Frequencies(benchmarks), Frequencies(benchmarks)]
    for i in range(11):
        parts[i % 2].add(f"Page {i}: {licence} software and {licence}.")
    for part in parts:
        part.add(QUESTION)
    parts[0].counts += parts[1].counts
    rarer = benchmarks.without(parts[0].common())
    assert benchmarks.find(licence)
    assert rarer.find(licence) == []
    assert [match.text for match in rarer.find(QUESTION)] == [QUESTION[:-1]]
    assert len(parts[0].common(limit=11)) == 0


def test_hashes_are_these_numbers_on_every_machine():
    for text, golden in ((QUESTION, GOLDEN_ENGLISH), (CHINESE, GOLDEN_CHINESE)):
        runs = overlap._run_hashes(overlap._units(text).hashes, 13)
        assert runs[:2].tolist() == golden


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shakespeare", "tang"])
def test_speed(name, capsys):
    text = text_of(name)
    other = text_of("tang" if name == "shakespeare" else "shakespeare")
    benchmarks = Benchmarks.collect({"exam": other.split("\n\n"), "more": [QUESTION, CHINESE]})
    texts = [text[at : at + 3000] for at in range(0, len(text), 3000)] * 5
    n_bytes = sum(len(text.encode()) for text in texts)
    start = time.process_time()
    assert not any(map(benchmarks.find, texts))
    speed = n_bytes / (time.process_time() - start) / 1e6
    with capsys.disabled():
        print(f"\noverlap, {name}: {speed:.0f} MB/s")
    assert speed > 2  # a tenth of what is measured: only a collapse fails
