"""Manners: how often and how fast a site is asked, what its robots.txt means, when to ask again."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from itertools import pairwise

import pytest

from scratchlm.web import fetch

TEXT = b"<html><p>it is the east.</p></html>"


def flaky(n_failures: int, failure: Callable, success: bytes) -> Callable:
    left = [failure] * n_failures

    def handle(handler) -> None:
        if left:
            left.pop()(handler)
        else:
            handler.wfile.write(success)

    return handle


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable", "502 Bad"])
def test_busy_servers_are_asked_again(run, site, answer, status):
    def busy(handler) -> None:
        handler.wfile.write(answer(b"later", status=status))

    site.routes["/twice"] = flaky(2, busy, answer(TEXT))
    site.routes["/thrice"] = flaky(3, busy, answer(TEXT))
    _, pages, outcomes = run(f"{site.url}/twice", f"{site.url}/thrice")
    assert list(pages) == [f"{site.url}/twice"]
    assert outcomes[f"{site.url}/thrice"] == f"HTTP {status[:3]}"
    assert Counter(site.paths) == {"/twice": 3, "/thrice": 3}


def test_connections_that_break_are_made_again(run, site, answer):
    def cut(handler) -> None:
        handler.wfile.write(answer(TEXT)[:-5])

    site.routes["/at-once"] = flaky(1, lambda _: None, answer(TEXT))
    site.routes["/within"] = flaky(2, cut, answer(TEXT))
    site.routes["/always"] = flaky(9, cut, answer(TEXT))
    _, pages, outcomes = run(*(site.url + path for path in site.routes))
    assert {url: page.body for url, page in pages.items()} == {
        f"{site.url}/at-once": TEXT,
        f"{site.url}/within": TEXT,
    }
    assert outcomes[f"{site.url}/always"] == "broken off"


def test_retry_after_is_kept(run, site, answer):
    def busy(when, handler) -> None:
        in_two_seconds = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        handler.wfile.write(answer(b"", status="503 Busy", Retry_After=when or in_two_seconds))

    for path, when in (("/seconds", "1"), ("/hours", "7200"), ("/odd", "-?"), ("/date", None)):
        site.routes[path] = flaky(1, partial(busy, when), answer(TEXT))
    for path in ("/seconds", "/date", "/hours", "/odd"):
        site.requests.clear()
        began = time.monotonic()
        assert fetch_one(run, site.url + path) == ("HTTP 503" if path == "/hours" else "kept")
        times = [when for when, asked, _ in site.requests if asked == path]
        if path in ("/seconds", "/date"):
            assert times[1] - times[0] >= 0.9
        else:
            assert time.monotonic() - began < 0.9


def fetch_one(run: Callable, url: str) -> str:
    (outcome,) = run(url, overwrite=True).outcomes.values()
    return outcome


def test_nobody_there(run, site):
    site.server_close()
    began = time.monotonic()
    _, _, outcomes = run(f"{site.url}/a", f"{site.url}/b", "http://no-such-host.invalid/")
    assert outcomes[f"{site.url}/a"] == outcomes[f"{site.url}/b"] == "no connection"
    assert outcomes["http://no-such-host.invalid/"] == "no such host"
    assert time.monotonic() - began < 4


def test_the_rate_of_a_site_holds_for_all_requests(run, site, make_site, answer):
    other = make_site()
    for one in (site, other):
        one.routes = {f"/{n}": answer(TEXT) for n in range(4)}
        one.routes["/moved"] = answer(status="302 Found", Location="/3")
    paths = ["/0", "/1", "/2", "/moved"]
    began = time.monotonic()
    urls = [one.url + path for path in paths for one in (site, other)]
    assert run(*urls, per_host="5/s").counts.n_kept == 8
    for one in (site, other):
        times = [when for when, *_ in one.requests]
        assert len(times) == 6  # robots.txt, four pages and a redirect
        assert min(later - sooner for sooner, later in pairwise(times)) > 0.17
    assert time.monotonic() - began < 2.5  # the sites did not wait for each other


def test_requests_to_a_site_at_a_time(run, site, answer):
    at_work, most = [0], [0]

    def slow(handler) -> None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.05)
        at_work[0] -= 1
        handler.wfile.write(answer(TEXT))

    site.routes = {f"/{n}": slow for n in range(12)}
    assert run(*(f"{site.url}/{n}" for n in range(12)), host_connections=3).counts.n_kept == 12
    assert most[0] == 3


def test_a_slow_site_does_not_keep_the_others(run, site, make_site, answer):
    slow = make_site()
    slow.routes = {f"/{n}": lambda _: time.sleep(3) for n in range(50)}
    site.routes = {f"/{n}": answer(TEXT) for n in range(50)}
    urls = [*(f"{slow.url}/{n}" for n in range(50)), *(f"{site.url}/{n}" for n in range(50))]
    began = time.monotonic()
    counts, *_ = run(*urls, host_connections=2, workers=4, timeout=0.1, retries=0)
    assert counts.dropped == {"timeout": 50}
    assert max(when for when, *_ in site.requests) - began < 1.5
    assert len(slow.paths) == 50


def test_memory_is_bounded_and_every_page_comes(run, make_site, answer, monkeypatch):
    monkeypatch.setattr(fetch, "_MOST_WAITING", 60)
    monkeypatch.setattr(fetch, "_LINES", 7)
    most = []
    put = fetch.SiteQueues.put

    def note(queues, *arguments, **named) -> None:
        put(queues, *arguments, **named)
        most.append(queues.n_waiting)

    monkeypatch.setattr(fetch.SiteQueues, "put", note)
    sites = [make_site() for _ in range(3)]
    for one in sites:
        one.routes = {f"/{n}": answer(TEXT) for n in range(200)}
    urls = [f"{one.url}/{n}" for one in sites for n in range(200)]
    assert run(*urls, workers=3, host_connections=1).counts.n_kept == 600
    assert max(most) <= 61
    assert all(Counter(one.paths) == Counter(list(one.routes)) for one in sites)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("404 Not Found", "kept"),
        ("403 Forbidden", "kept"),
        ("200 OK", "robots.txt"),
        ("500 Broken", "robots.txt unreachable"),
        ("503 Busy", "robots.txt unreachable"),
        ("429 Too Many", "robots.txt unreachable"),
    ],
)
def test_what_an_answer_for_robots_means(run, site, answer, status, expected):
    site.routes["/robots.txt"] = answer(b"User-agent: *\nDisallow: /", "text/plain", status=status)
    site.routes["/a"] = site.routes["/b"] = answer(TEXT)
    _, _, outcomes = run(f"{site.url}/a", f"{site.url}/b")
    assert set(outcomes.values()) == {expected}
    asked = [path for _, path, _ in site.requests].count("/robots.txt")
    assert asked == (3 if expected.endswith("unreachable") else 1)


def test_robots_are_found_behind_redirects(run, site, make_site, answer):
    other = make_site()
    site.routes["/robots.txt"] = answer(status="302 Found", Location=f"{other.url}/rules")
    other.routes["/rules"] = answer(b"User-agent: scratchlm\nDisallow: /a", "text/plain")
    site.routes["/a"] = site.routes["/b"] = answer(TEXT)
    outcomes = run(f"{site.url}/a", f"{site.url}/b").outcomes
    assert outcomes == {f"{site.url}/a": "robots.txt", f"{site.url}/b": "kept"}


def test_robots_that_redirect_for_ever_or_away(run, site, make_site, answer):
    away = make_site()
    site.routes["/robots.txt"] = answer(status="302 Found", Location="/robots.txt")
    away.routes["/robots.txt"] = answer(status="302 Found", Location="file:///etc/passwd")
    site.routes["/a"] = away.routes["/a"] = answer(TEXT)
    outcomes = run(f"{site.url}/a", f"{away.url}/a").outcomes
    assert outcomes == {f"{site.url}/a": "kept", f"{away.url}/a": "robots.txt unreachable"}
    assert len(site.requests) == 7


def test_crawl_delay_is_honoured_up_to_a_limit(run, site, answer):
    site.routes = {f"/{n}": answer(TEXT) for n in range(3)}
    site.routes["/robots.txt"] = answer(b"User-agent: *\nCrawl-delay: 50", "text/plain")
    urls = [f"{site.url}/{n}" for n in range(3)]
    assert run(*urls, max_crawl_delay=0.3).counts.n_kept == 3
    times = [when for when, *_ in site.requests]
    assert min(later - sooner for sooner, later in pairwise(times)) > 0.28


def test_forbidden_pages_do_not_take_turns(run, site, answer):
    site.routes["/robots.txt"] = answer(b"User-agent: *\nDisallow: /no", "text/plain")
    site.routes["/yes"] = answer(TEXT)
    began = time.monotonic()
    counts, *_ = run(*(f"{site.url}/no/{n}" for n in range(50)), f"{site.url}/yes", per_host="2/s")
    assert counts.dropped == {"robots.txt": 50}
    assert time.monotonic() - began < 2
    assert site.paths == ["/yes"]
