"""Pages from a list of addresses: politely, from many sites at a time, resumable at any moment.

Each worker takes a page whose site has a turn, and makes one request for it. What comes of that is
written to the journal, or waits for another turn: behind a redirect at the site it leads to, behind
a failure that may pass in front of the other pages of its site.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any
from urllib.parse import urljoin

from scratchlm.web.addresses import BAD_PORTS, LOOPBACK, Network
from scratchlm.web.client import Answer, Client, FetchError
from scratchlm.web.encodings import PACKED, unpacked
from scratchlm.web.fetch_config import FetchConfig
from scratchlm.web.journal import KEPT, Done, Journal
from scratchlm.web.robots import (
    MOST_BYTES,
    MOST_REDIRECTS,
    RobotsCache,
    Rules,
    name_of,
    parse_rules,
)
from scratchlm.web.site_queues import SiteQueues, Visit
from scratchlm.web.url_lists import UrlList, cleaned, site_of
from scratchlm.web.url_set import UrlSet
from scratchlm.web.urls import canonical
from scratchlm.web.write_thread import WriteThread

PAUSE_SECONDS = 2.0  # before a request is made again; before the next, twice as many
_MOST_PAUSE = 120.0  # that a server may ask for: who asks for more is not asked again
_MOST_HOPS = 5  # redirects of a page
_MOST_WAITING = 100_000  # pages in memory
_LINES = 500  # of the list that are read at a time
_NAMES = 64  # of hosts that are looked up at a time
_MOST_PACKED = 1032  # bytes that gzip can make one (https://zlib.net/zlib_tech.html)
_UNREACHABLE = "robots.txt unreachable"
_ORIGIN = re.compile("[^/]*//[^/?#]*")

_PAGES = frozenset([200, 203])
_REDIRECTS = frozenset([301, 302, 303, 307, 308])
_BUSY = frozenset([429, 502, 503, 504])


class Fetcher:
    """Fetches what is left of a list.

    pages      the list
    seen       the canonical addresses of the list, and of what its redirects have led to
    journal    where it goes
    shown      called when a page is done, and written
    allowed    networks that may be connected to although they are not public
    resolver   aiohttp's, instead of the system's names
    raises     MissingExtraError
    """

    def __init__(
        self,
        config: FetchConfig,
        pages: UrlList,
        seen: UrlSet,
        journal: Journal,
        shown: Callable[[], None],
        *,
        allowed: tuple[Network, ...] = (),
        resolver: Any = None,
    ) -> None:
        self._config, self._pages, self._seen = config, pages, seen
        self._writer = WriteThread(journal, shown)
        self._allowed = allowed + (LOOPBACK if config.allow_loopback else ())
        self._resolver = resolver
        self._agent = name_of(config.agent)
        parse_rules(b"", self._agent)  # a missing library is told now, not when a site has rules
        self._max_bytes = int(config.max_mb * 1e6)
        self._types = frozenset(kind.lower() for kind in config.types)
        self._robots = RobotsCache()
        self._queues = SiteQueues(config.interval, config.host_connections)
        # small enough that a full memory has pages of twice as many sites as there are workers
        self._most_of_site = max(_MOST_WAITING // (2 * config.workers), 10)
        self._left = pages.left()
        self._passed: set[str] = set()  # sites with pages for which there was no room
        self._waiting = asyncio.Lock()  # one worker waits for a page, the others for this one
        self._changed = asyncio.Event()  # there may be more to take
        self._n_active = 0

    async def run(self) -> None:
        """Fetch until nothing is left.

        raises   ConfigError where the system has no more sockets, OSError for a full disk
        """
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_NAMES))  # in which names are looked up
        self._client = Client(
            self._config.agent,
            self._config.workers,
            allowed=self._allowed,
            resolver=self._resolver,
        )
        try:
            async with self._client, asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._writer.run())
                n_workers = self._config.workers
                await asyncio.wait([tasks.create_task(self._work()) for _ in range(n_workers)])
                writing.cancel()
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _work(self) -> None:
        """Take pages, one after the other, and see to them until all are done."""
        clock = asyncio.get_running_loop().time
        while True:
            visit = self._queues.take(clock()) or await self._next()
            if visit is None:
                return
            work = self._begin(visit)
            if work is None:
                await self._writer.written()
                continue
            self._n_active += 1
            try:
                await work
                await self._writer.written()  # until then the page is under way
            finally:
                self._n_active -= 1
                self._changed.set()

    async def _next(self) -> Visit | None:
        """Wait for a page whose site has a turn; None when all are done."""
        clock = asyncio.get_running_loop().time
        async with self._waiting:
            while (visit := self._queues.take(clock())) is None:
                if self._read_more():
                    await asyncio.sleep(0)
                    continue
                if not self._queues.n_waiting and not self._n_active:
                    return None
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._queues.next_turn()):
                        await self._changed.wait()
            return visit

    def _read_more(self) -> bool:
        """Take some more of the list into memory; False where nothing is left, or no room.

        A page whose site has enough in memory is passed over, so that it does not keep others from
        being read; when a site has run out of pages, the list is read again for what was passed.
        """
        if self._queues.n_waiting >= _MOST_WAITING:
            return False
        n_lines = 0
        for n_lines, page in enumerate(islice(self._left, _LINES), 1):  # noqa: B007
            if page is None:  # many were passed: let others work
                break
            number, site, url = page
            if self._queues.n_waiting_at(site) >= self._most_of_site:
                self._passed.add(site)
            else:
                self._pages.taken[number] = 1
                self._queues.put(Visit(number, site, url))
        if not n_lines and any(not self._queues.n_waiting_at(site) for site in self._passed):
            self._passed.clear()
            self._left = self._pages.left()
            return True
        return n_lines > 0

    def _begin(self, visit: Visit) -> Coroutine[Any, Any, None] | None:
        """What to do for a page whose turn it is; None: it may not be fetched, and is done.

        Decided before another one is taken, so that its turn can be given back.
        """
        if visit.is_allowed:
            return self._visit(visit)
        now, origin = asyncio.get_running_loop().time(), origin_of(visit.url)
        rules = self._robots.get(origin, now)
        if _has_bad_port(visit.site):
            refusal: str | None = "bad port"
        elif rules is None:
            self._queues.hold(visit.site)
            return self._learn_rules(visit, origin)
        else:
            self._queues.slow_down(visit.site, min(rules.delay, self._config.max_crawl_delay))
            refusal = rules.reason_to_refuse(visit.url)
        if refusal is None:
            return self._visit(visit)
        self._queues.end(visit.site, unused_since=now)
        self._finish(visit, refusal)
        return None

    async def _learn_rules(self, visit: Visit, origin: str) -> None:
        """Read the robots.txt of a site, which is held until then."""
        try:
            rules = await self._ask_for_rules(origin, visit.site)
            self._robots.put(origin, rules, asyncio.get_running_loop().time())
            self._queues.slow_down(visit.site, min(rules.delay, self._config.max_crawl_delay))
            refusal = rules.reason_to_refuse(visit.url)
            if refusal is None:
                self._queues.put(replace(visit, is_allowed=True), first=True)
            else:
                self._finish(visit, refusal)
        finally:
            self._queues.end(visit.site)
            self._queues.let_go(visit.site)

    async def _ask_for_rules(self, origin: str, site: str) -> Rules:
        """What RFC 9309, section 2.3.1, makes of the answers to a request for robots.txt."""
        url = f"{origin}/robots.txt"
        try:
            for n_hops in range(MOST_REDIRECTS + 1):
                if n_hops:
                    await self._wait_for_turn(site, 0.0)
                answer = await self._ask_patiently(url, site)
                if answer.status // 100 == 2:
                    return parse_rules(_text_of(answer), self._agent)
                if answer.status not in _REDIRECTS:
                    return Rules()
                target = target_of(answer)
                if target is None or _has_bad_port(target[1]):
                    return Rules(failure=_UNREACHABLE)
                url, site = target
        except FetchError as failure:
            return Rules(failure=failure.reason)
        return Rules()

    async def _ask_patiently(self, url: str, site: str) -> Answer:
        """An answer from which to learn: neither "busy" nor "broken", if it takes several requests.

        raises   FetchError
        """
        failure = FetchError(_UNREACHABLE)
        for n_tries in range(self._config.retries + 1):
            if n_tries:
                await self._wait_for_turn(site, PAUSE_SECONDS * 2 ** (n_tries - 1))
            try:
                answer = await self._client.get(
                    url, self._config.timeout, MOST_BYTES, lambda status, _: status // 100 == 2
                )
            except FetchError as error:
                if not error.passing:
                    raise
                failure = error
            else:
                if answer.status < 500 and answer.status != 429:
                    return answer
        raise failure

    async def _wait_for_turn(self, site: str, pause: float) -> None:
        """Wait so many seconds at least, and for a turn; FetchError where too many wait for one."""
        now = asyncio.get_running_loop().time()
        self._queues.pause(site, now + pause)
        seconds = self._queues.reserve(site, now)
        if seconds > max(_MOST_PAUSE, 2 * self._config.interval):
            raise FetchError(_UNREACHABLE)
        await asyncio.sleep(seconds)

    async def _visit(self, visit: Visit) -> None:
        """Make the request for a page, and see to what comes of it."""
        clock = asyncio.get_running_loop().time
        began, left = clock(), max(self._config.timeout - visit.seconds, 0.1)
        try:
            answer = await self._client.get(visit.url, left, self._max_bytes, self._is_wanted)
            visit.seconds += clock() - began
            self._judge(visit, answer)
        except FetchError as failure:
            if failure.passing:
                self._try_again(visit, failure.reason)
            else:
                self._finish(visit, failure.reason)
        finally:
            self._queues.end(visit.site)

    def _judge(self, visit: Visit, answer: Answer) -> None:
        if answer.status in _REDIRECTS:
            self._follow(visit, answer)
        elif answer.status in _BUSY:
            self._try_again(visit, f"HTTP {answer.status}", answer.retry_after)
        else:
            fault = self._fault_of(answer)
            self._finish(visit, fault or KEPT, None if fault else answer)

    def _is_wanted(self, status: int, content_type: str) -> bool:
        return status in _PAGES and content_type in self._types

    def _fault_of(self, answer: Answer) -> str | None:
        """Why an answer is not kept, in a word or two; None: it is."""
        if answer.status not in _PAGES:
            return f"HTTP {answer.status}"
        if answer.content_type not in self._types:
            return "content type"
        if not answer.is_whole:
            return "too large"
        if 0 < len(answer.body) * _MOST_PACKED <= self._max_bytes and answer.encoding in PACKED:
            return None  # it cannot be too large; whoever reads it will see whether it is sound
        try:
            n_bytes = len(unpacked(answer.body, answer.encoding, self._max_bytes))
        except ValueError:
            return "encoding"
        if n_bytes > self._max_bytes:
            return "too large"
        return None if n_bytes else "empty"

    def _try_again(self, visit: Visit, reason: str, retry_after: str = "") -> None:
        """Let the site rest, then ask once more; or drop the page after the last try."""
        pause = max(PAUSE_SECONDS * 2**visit.tries, _seconds_until(retry_after))
        if visit.tries >= self._config.retries or pause > _MOST_PAUSE:
            self._finish(visit, reason)
            return
        self._queues.pause(visit.site, asyncio.get_running_loop().time() + pause)
        self._queues.put(replace(visit, tries=visit.tries + 1, seconds=0.0), first=True)

    def _follow(self, visit: Visit, answer: Answer) -> None:
        """Let a page wait for a turn of the site that it was moved to."""
        hops, target = (*visit.hops, visit.url), target_of(answer)
        if target is None:
            self._finish(visit, "bad redirect")
        elif target[0] in hops:
            self._finish(visit, "redirect loop")
        elif len(hops) > _MOST_HOPS:
            self._finish(visit, "too many redirects")
        elif self._is_known(visit.url, target[0]):
            self._finish(visit, "redirect to a known page")
        else:
            url, site = target
            if site != visit.site and self._queues.n_waiting_at(site) > 2 * self._most_of_site:
                self._finish(visit, "redirect to a busy site")
                return
            moved = Visit(visit.number, site, url, hops, seconds=visit.seconds)
            self._queues.put(moved, first=True)

    def _is_known(self, url: str, target: str) -> bool:
        """Whether another page of the list is the target, or has led there before."""
        form = canonical(target) or ""
        return form != canonical(url) and not self._seen.add([form])[0]

    def _finish(self, visit: Visit, outcome: str, answer: Answer | None = None) -> None:
        url = answer.url if answer else visit.url
        self._writer.put(Done(visit.number, outcome, len(visit.hops), url), answer)


def origin_of(url: str) -> str:
    """Scheme, host and port of an address: what a robots.txt holds for."""
    match = _ORIGIN.match(url)
    return match[0].lower() if match else url


def _text_of(answer: Answer) -> bytes:
    """A robots.txt, or its beginning; nothing where it cannot be decoded."""
    try:
        return unpacked(answer.body, answer.encoding, MOST_BYTES)
    except ValueError:
        return b""


def target_of(answer: Answer) -> tuple[str, str] | None:
    """The address that an answer redirects to, and its site; None: not one to fetch."""
    location = cleaned(answer.location)
    try:
        url = urljoin(answer.url, location).partition("#")[0] if location else ""
    except ValueError:  # half of an IPv6 address
        return None
    site = site_of(url)
    return (url, site) if site else None


def _has_bad_port(site: str) -> bool:
    port = site.rpartition(":")[2]
    return port.isdigit() and int(port) in BAD_PORTS


def _seconds_until(retry_after: str) -> float:
    """What a Retry-After means: seconds, or a date; 0 for anything else (RFC 9110, 10.2.3)."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        date = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return (date - datetime.now(UTC)).total_seconds()
