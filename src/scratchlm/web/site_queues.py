"""What waits to be fetched, site by site: each has its turns, and none keeps the others waiting."""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Visit:
    """A page on its way.

    number       of the page in the list
    site         whose turn it takes: host and port, without "www."
    url          to ask for next
    hops         the addresses that have led to it, by redirects
    tries        requests of this address that have failed
    seconds      that requests took since the first address, or since the last failure
    is_allowed   the robots.txt of this address has been read, and lets it be fetched
    """

    number: int
    site: str
    url: str
    hops: tuple[str, ...] = ()
    tries: int = 0
    seconds: float = 0.0
    is_allowed: bool = False


@dataclass(slots=True, eq=False)
class _Site:
    """A site and who waits for it.

    interval    seconds between the beginnings of two requests
    ready_at    when the next may begin
    n_active    requests under way
    is_held     nothing is taken until it is let go
    entry       number of its entry in the heap; older ones do not count any more
    """

    interval: float
    ready_at: float = 0.0
    waiting: deque[Visit] = field(default_factory=deque)
    n_active: int = 0
    is_held: bool = False
    entry: int | None = None


class SiteQueues:
    """A queue for each site; all times are in seconds, by one clock.

    interval      between the beginnings of two requests to a site; 0 for no limit
    connections   requests to one site at a time
    """

    def __init__(self, interval: float, connections: int) -> None:
        self._interval, self._connections = interval, connections
        self._sites: dict[str, _Site] = {}
        self._ready: list[tuple[float, int, _Site]] = []  # a heap, by time and number
        self._numbers: Iterator[int] = count()
        self._most_sites = 1000  # behind which sites without work are forgotten
        self._now = 0.0
        self.n_waiting = 0

    def n_waiting_at(self, site: str) -> int:
        """How many visits wait for a site."""
        known = self._sites.get(site)
        return len(known.waiting) if known else 0

    def put(self, visit: Visit, *, first: bool = False) -> None:
        """Let a visit wait for its site; `first`: in front of the others."""
        site = self._site(visit.site)
        (site.waiting.appendleft if first else site.waiting.append)(visit)
        self.n_waiting += 1
        self._list(site)

    def take(self, now: float) -> Visit | None:
        """A visit whose turn it is, and a turn of its site; None where all have to wait."""
        self._now = now
        while self._ready and self._ready[0][0] <= now:
            _, entry, site = heapq.heappop(self._ready)
            if entry != site.entry:
                continue
            site.entry = None
            if site.ready_at > now or site.is_held:
                self._list(site)
                continue
            visit = site.waiting.popleft()
            self.n_waiting -= 1
            site.n_active += 1
            site.ready_at = now + site.interval
            self._list(site)
            return visit
        return None

    def next_turn(self) -> float | None:
        """When it is worth to call `take` again, as far as is known now."""
        return self._ready[0][0] if self._ready else None

    def end(self, name: str, *, unused_since: float | None = None) -> None:
        """The request of a visit that was taken is over.

        unused_since   the time of `take`, if there was no request: gives the turn back
        """
        site = self._sites[name]
        site.n_active -= 1
        if unused_since is not None:
            site.ready_at, site.entry = unused_since, None
        self._list(site)

    def pause(self, name: str, until: float) -> None:
        """No request to a site before a time."""
        site = self._site(name)
        site.ready_at = max(site.ready_at, until)

    def slow_down(self, name: str, interval: float) -> None:
        """Leave at least so many seconds between two requests to a site."""
        site = self._site(name)
        site.ready_at += max(interval - site.interval, 0.0)
        site.interval = max(interval, site.interval)

    def hold(self, name: str) -> None:
        """Take nothing of a site until it is let go."""
        self._site(name).is_held = True

    def let_go(self, name: str) -> None:
        """Undo `hold`."""
        site = self._site(name)
        site.is_held = False
        self._list(site)

    def reserve(self, name: str, now: float) -> float:
        """Take a turn of a site that has not come yet: in how many seconds it will."""
        site = self._site(name)
        turn = max(site.ready_at, now)
        site.ready_at = turn + site.interval
        return turn - now

    def _site(self, name: str) -> _Site:
        if name not in self._sites:
            if len(self._sites) >= self._most_sites:
                self._forget_idle()
            self._sites[name] = _Site(self._interval)
        return self._sites[name]

    def _list(self, site: _Site) -> None:
        """Put a site into the heap, if it has something to take; its place may be too early."""
        is_ready = site.waiting and site.n_active < self._connections and not site.is_held
        if is_ready and site.entry is None:
            site.entry = next(self._numbers)
            heapq.heappush(self._ready, (site.ready_at, site.entry, site))

    def _forget_idle(self) -> None:
        """Drop the sites without work whose next turn has come: a new one would be the same."""
        self._sites = {
            name: site
            for name, site in self._sites.items()
            if site.waiting or site.n_active or site.is_held or site.ready_at > self._now
        }
        self._most_sites = 1000 + 2 * len(self._sites)
