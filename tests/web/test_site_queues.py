"""Turns: rates are kept, no site waits for another, and the order within one stays."""

import pytest

from scratchlm.web.site_queues import SiteQueues, Visit


def visit(number: int, site: str) -> Visit:
    return Visit(number, site, f"http://{site}/{number}")


def queues(*sites: str, interval: float = 1.0, connections: int = 2) -> SiteQueues:
    made = SiteQueues(interval, connections)
    for number, site in enumerate(sites):
        made.put(visit(number, site))
    return made


def take_all(made: SiteQueues, now: float) -> list[int]:
    taken = []
    while one := made.take(now):
        taken.append(one.number)
    return taken


def test_a_site_gets_a_turn_each_second_and_others_do_not_wait_for_it():
    made = queues("a", "a", "b", "a", "c", "b", connections=9)
    assert take_all(made, 0.0) == [0, 2, 4]
    assert made.next_turn() == 1.0
    assert take_all(made, 0.99) == []
    assert take_all(made, 1.0) == [1, 5]
    assert take_all(made, 1.5) == []
    assert take_all(made, 7.0) == [3]
    assert made.next_turn() is None
    assert made.n_waiting == 0


def test_requests_to_a_site_at_a_time():
    made = queues(*"aaaab", interval=0.0, connections=2)
    assert take_all(made, 0.0) == [0, 4, 1]
    made.end("a")
    assert take_all(made, 0.0) == [2]
    made.end("a")
    made.end("b")
    assert take_all(made, 0.0) == [3]


def test_a_turn_that_was_not_used_goes_to_the_next():
    made = queues(*"aaa")
    assert made.take(5.0).number == 0
    made.end("a", unused_since=5.0)
    assert take_all(made, 5.0) == [1]


def test_what_comes_first():
    made = queues("a", "a")
    made.put(visit(9, "a"), first=True)
    assert [take_all(made, now) for now in (0.0, 1.0)] == [[9], [0]]
    assert made.n_waiting_at("a") == 1
    assert made.n_waiting_at("b") == 0


def test_pauses_delays_and_holds():
    made = queues(*"aaaa", connections=9)
    made.pause("a", 3.0)
    assert take_all(made, 2.9) == []
    assert take_all(made, 3.0) == [0]
    made.slow_down("a", 10.0)
    assert take_all(made, 12.9) == []
    assert take_all(made, 13.0) == [1]
    made.slow_down("a", 0.1)  # never quicker than the rate
    made.hold("a")
    assert take_all(made, 99.0) == []
    made.let_go("a")
    assert take_all(made, 99.0) == [2]


def test_turns_taken_in_advance():
    made = queues("a")
    assert [made.reserve("a", 4.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert take_all(made, 6.9) == []
    assert take_all(made, 7.0) == [0]


@pytest.mark.parametrize("interval", [0.0, 1.0])
def test_idle_sites_are_forgotten_and_busy_ones_are_not(interval):
    made = SiteQueues(interval, 1)
    made.pause("slow", 1e9)
    for number in range(20_000):
        now = 2.0 * number
        made.put(visit(number, f"site-{number}"))
        assert take_all(made, now) == [number]
        if number != 3:
            made.end(f"site-{number}")
    assert len(made._sites) < 5000
    made.put(visit(1, "slow"))
    made.put(visit(2, "site-3"))
    assert take_all(made, 1e6) == []
    made.end("site-3")
    assert take_all(made, 1e6) == [2]
