"""What a site lets robots fetch (RFC 9309), kept in a bounded amount of memory."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from scratchlm.base.errors import MissingExtraError

MOST_BYTES = 500_000  # of a robots.txt that are read: RFC 9309, section 2.5
MOST_REDIRECTS = 5  # on the way to one: section 2.3.1.2
_KEPT_SECONDS = 24 * 3600  # that an answer holds: section 2.4
_KEPT_BYTES = 16 << 20  # of all the text that is kept; its rules take some ten times the memory
_LEAST_BYTES = 1000  # that count for a site, however little it says

_AGENT = re.compile(r"\s*user[\s-]*agent[\s:]+(.*)", re.IGNORECASE)  # all that protego takes for it
_TOKEN = re.compile(r"[A-Za-z0-9_-]*")  # the name of a robot, without a version
_SOMEBODY_ELSE = "()"  # which is nobody's name


class Rules:
    """What one site lets one robot fetch; without any arguments, everything.

    parsed      protego's rules for the robot `agent`
    n_bytes     that stand for what they take in memory
    failure     why the site could not be asked, so that nothing is to be fetched
    """

    def __init__(
        self, parsed: Any = None, agent: str = "", n_bytes: int = 0, *, failure: str = ""
    ) -> None:
        self._parsed, self._agent, self._failure = parsed, agent, failure
        self.n_bytes = max(n_bytes, _LEAST_BYTES)
        # seconds that the site wants between two requests; 0 where it says nothing
        self.delay = float(parsed.crawl_delay(agent) or 0) if parsed else 0.0

    def reason_to_refuse(self, url: str) -> str | None:
        """Why a page of the site may not be fetched, in a word or two; None: it may."""
        if self._failure:
            return self._failure
        if self._parsed is None or self._parsed.can_fetch(url, self._agent):
            return None
        return "robots.txt"


def parse_rules(robots: bytes, agent: str) -> Rules:
    """Take a robots.txt apart.

    robots   of which MOST_BYTES count; bytes that are no UTF-8 do no harm
    agent    the robot's name, as `name_of` gives it
    raises   MissingExtraError
    """
    try:
        from protego import Protego
    except ModuleNotFoundError:
        raise MissingExtraError("protego", "web", "Reading robots.txt") from None
    lines = robots[:MOST_BYTES].decode("utf-8-sig", "replace").splitlines()
    text = "\n".join(_for_one(lines, agent))
    return Rules(Protego.parse(text), agent, len(text))


def name_of(user_agent: str) -> str:
    """The name by which robots.txt calls a robot: "scratchlm" of "scratchlm/1.0 (+contact)"."""
    match = _TOKEN.match(user_agent)
    return match[0] if match else ""


def _for_one(lines: Iterable[str], agent: str) -> Iterator[str]:
    """Give all other robots the same name.

    protego keeps each rule once for each robot that it is for: of half a megabyte, the first half
    names of robots and the second half rules, it would make gigabytes.
    """
    for line in lines:
        match = _AGENT.match(line.partition("#")[0])
        name = match[1].strip() if match else ""
        if name and name != "*":
            ours = name_of(name.strip("*")).lower() == agent.lower()
            line = f"user-agent: {agent if ours else _SOMEBODY_ELSE}"
        yield line


class RobotsCache:
    """The rules of the sites that were asked last, by origin: "https://example.com:8080"."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, Rules]] = OrderedDict()
        self._n_bytes = 0

    def get(self, origin: str, now: float) -> Rules | None:
        """The rules of a site; None where it has to be asked."""
        known = self._known.get(origin)
        if known is None:
            return None
        since, rules = known
        if now - since > _KEPT_SECONDS:
            self._forget(origin)
            return None
        self._known.move_to_end(origin)
        return rules

    def put(self, origin: str, rules: Rules, now: float) -> None:
        """Keep what a site said at the time `now`, in seconds; the longest unused ones go."""
        self._forget(origin)
        self._known[origin] = now, rules
        self._n_bytes += rules.n_bytes
        while self._n_bytes > _KEPT_BYTES and len(self._known) > 1:
            self._forget(next(iter(self._known)))

    def _forget(self, origin: str) -> None:
        if origin in self._known:
            self._n_bytes -= self._known.pop(origin)[1].n_bytes
