"""What a judge replied is a score, or it is not: nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.evaluation.judge import parse_verdict


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85), (" 85\n", 85), ("85.5", 85.5), ('{"score": 85}', 85), ("0", 0), ("100", 100),
        ('```json\n{"score": 85, "reason": "ok"}\n```', 85), ("```\n85\n```", 85),
        ("<think>perhaps 20?</think>\n\n85", 85),
        ("", None), ("85/100", None), ("Score: 85", None), ("85 or 90", None), ("eighty", None),
        ("101", None), ("-1", None), ("NaN", None), ("Infinity", None), ("1e999", None),
        ("true", None), ('"85"', None), ("[85]", None), ('{"rating": 85}', None), ("null", None),
        ('{"score": 1, "score": 100}', None), ('{"score": true}', None), ("[[85]]", None),
        ("85 <think>x</think>", None), ("<think>a</think><think>b</think>85", None),
        ("[" * 100_000, None), ("9" * 5000, None), ("八十五", None),
    ],
)  # fmt: skip
def test_only_a_score_is_a_score(reply, score):
    assert parse_verdict(reply, 0, 100) == score


@given(st.text())
def test_no_reply_breaks_the_reading_of_it(reply):
    score = parse_verdict(reply, 0, 100)
    assert score is None or 0 <= score <= 100
