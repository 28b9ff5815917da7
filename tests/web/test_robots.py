"""What robots.txt allows: which group counts, limits, and files made to do harm."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.web import robots
from scratchlm.web.robots import RobotsCache, Rules, name_of, parse_rules

SITE = "https://example.org"


def allowed(text: str | bytes, path: str = "/a/b", agent: str = "scratchlm") -> bool:
    content = text if isinstance(text, bytes) else text.encode()
    return parse_rules(content, agent).reason_to_refuse(SITE + path) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("User-agent: *\nDisallow: /", False),
        ("User-agent: *\nDisallow:", True),
        ("User-agent: *\nDisallow: /a/", False),
        ("User-agent: *\nDisallow: /b/", True),
        ("User-agent: *\nDisallow: /*b$", False),
        ("User-agent: *\nDisallow: /a\nAllow: /a/b", True),
        ("User-agent: other\nDisallow: /", True),
        ("User-agent: scratchlm\nDisallow: /", False),
        ("User-agent: SCRATCHLM/2.0\nDisallow: /", False),
        ("User-agent: scratch\nDisallow: /", True),
        ("User-agent: scratchlm-two\nDisallow: /", True),
        ("User-agent: *\nDisallow: /\nUser-agent: scratchlm\nAllow: /", True),
        ("User-agent: scratchlm\nUser-agent: other\nDisallow: /", False),
        ("User-agent: other\nUser-agent: scratchlm\nDisallow: /", False),
        ("User-agent: other\nDisallow: /\nUser-agent: scratchlm\nDisallow: /x", True),
        ("User-agent: scratchlm\nDisallow: /x\nUser-agent: other\nDisallow: /", True),
        ("user agent scratchlm\ndisallow: /", False),
        ("USERAGENT:scratchlm # us\nDisallow: / # all", False),
        ("\ufeffUser-agent: *\r\nDisallow: /\r\n", False),
        ("Disallow: /", True),
        ("<html><body>not found</body></html>", True),
        ("# \u4e0d\u8981\u6293\u53d6\nUser-agent: *\nDisallow: /\u4f60", True),
    ],
)  # fmt: skip
def test_what_counts_for_us(text, expected):
    assert allowed(text) == expected


def test_chinese_paths():
    rules = "User-agent: *\nDisallow: /\u4f60\u597d/"
    assert not allowed(rules, "/%E4%BD%A0%E5%A5%BD/x")
    assert allowed(rules, "/%E4%BD%A0/x")


def test_bytes_that_are_no_text_do_no_harm():
    assert not allowed(b"\xff\xfe\nUser-agent: *\nDisallow: /\n\x80\x00")


def test_delay():
    text = b"User-agent: *\nCrawl-delay: 3\nUser-agent: scratchlm\nCrawl-delay: 0.5"
    assert parse_rules(text, "scratchlm").delay == 0.5
    assert parse_rules(text, "another").delay == 3
    assert parse_rules(b"User-agent: *\nCrawl-delay: inf", "scratchlm").delay == 0
    assert Rules().delay == 0


def test_only_the_beginning_counts():
    filler = b"# x\n" * (robots.MOST_BYTES // 4)
    assert allowed(filler + b"User-agent: *\nDisallow: /")
    assert not allowed(filler[100:] + b"User-agent: *\nDisallow: /")


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
@pytest.mark.parametrize(
    "line", ["User-agent: a{}", "useragent a{}", "user  agent a{}", "User Agent:a{}"]
)
def test_many_robots_with_many_rules_take_no_more_than_few(line, end):
    names = end.join(line.format(number) for number in range(8000))
    rules = end.join(f"Disallow: /{number}" for number in range(8000))
    began = time.monotonic()
    parsed = parse_rules(f"{names}{end}{rules}".encode(), "scratchlm")
    assert time.monotonic() - began < 5  # 64 million rules would take minutes
    sets = parsed._parsed._user_agents.values()
    assert sum(len(one._rules) for one in sets) <= 8000


def test_a_pattern_of_many_stars_is_matched_at_once():
    rules = parse_rules(f"User-agent: *\nDisallow: /{'*a' * 5000}b".encode(), "scratchlm")
    began = time.monotonic()
    assert rules.reason_to_refuse(f"{SITE}/{'a' * 7000}") is None
    assert time.monotonic() - began < 1


TEXT = st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))


@given(st.binary(max_size=300) | TEXT)
def test_anything_can_be_read(content):
    rules = parse_rules(content, "scratchlm")
    assert rules.reason_to_refuse(f"{SITE}/a") in (None, "robots.txt")
    assert rules.delay >= 0


def test_sites_that_could_not_be_asked():
    assert Rules(failure="no such host").reason_to_refuse(f"{SITE}/") == "no such host"
    assert Rules().reason_to_refuse(f"{SITE}/") is None


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("scratchlm/0.1 (+https://example.org)", "scratchlm"),
        ("My-Bot_2", "My-Bot_2"),
        ("Mozilla/5.0 (x)", "Mozilla"),
        ("/1.0", ""),
        ("", ""),
    ],
)
def test_the_name_of_a_robot(user_agent, name):
    assert name_of(user_agent) == name


def test_the_cache_forgets_what_is_old_and_what_is_too_much(monkeypatch):
    cache = RobotsCache()
    cache.put("https://a.org", Rules(), now=0.0)
    assert cache.get("https://a.org", now=10.0) is not None
    assert cache.get("http://a.org", now=10.0) is None
    assert cache.get("https://a.org", now=24 * 3600 + 1.0) is None
    assert cache.get("https://a.org", now=10.0) is None
    monkeypatch.setattr(robots, "_KEPT_BYTES", 5000)
    for number in range(9):
        cache.put(f"https://{number}.org", Rules(), now=0.0)
        assert cache.get("https://0.org", now=0.0) is not None  # what is used stays
    known = [number for number in range(9) if cache.get(f"https://{number}.org", 0.0)]
    assert known == [0, 5, 6, 7, 8]
    cache.put("https://big.org", Rules(n_bytes=10_000), now=0.0)
    assert cache.get("https://big.org", now=0.0) is not None
    assert cache.get("https://8.org", now=0.0) is None
