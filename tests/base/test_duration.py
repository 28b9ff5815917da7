"""Lengths of time, read and written."""

from datetime import UTC, datetime

import pytest

from scratchlm.base.duration import duration, next_time, parse_duration
from scratchlm.base.errors import ConfigError

NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1:00"),
     (185, "3:05"), (3599.6, "1:00:00"), (90061, "25:01:01")],
)  # fmt: skip
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("20m", 1200),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2d", 172800),
        ("20 minutes", 1200),
        ("1 hour 5 min", 3900),
        ("3M", 180),
        ("20分钟", 1200),
        ("2小时", 7200),
        ("1小时30分", 5400),
    ],
)
def test_lengths_of_time_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "20x", "-20m", "20m later", "1:30", "0s", "0h0m"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ConfigError, match="Write 90s, 20m, 2h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "day", "time"),
    [
        ("18:00", 21, "18:00"),
        ("9:05", 22, "09:05"),
        ("12:00", 22, "12:00"),
        ("2026-11-23 07:30", 23, "07:30"),
        ("2026-11-23T07:30+00:00", 23, "07:30"),
    ],
)
def test_a_time_of_day_is_the_next_one(text, day, time):
    then = next_time(text, NOON)
    assert (then.day, f"{then:%H:%M}") == (day, time)


def test_a_time_that_is_past_or_none_is_refused():
    with pytest.raises(ConfigError, match="is past: it is 2026-11-21 12:00"):
        next_time("2026-11-20 18:00", NOON)
    for text in ("25:00", "18", "6pm", ""):
        with pytest.raises(ConfigError, match="Write 18:00, or 2026-11-21 18:00"):
            next_time(text, NOON)
