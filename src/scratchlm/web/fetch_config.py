"""The settings of `corpus fetch`."""

import math
import re
from dataclasses import dataclass

from scratchlm import __version__
from scratchlm.base.errors import ConfigError
from scratchlm.web.robots import name_of

TYPES = (
    *("text/html", "application/xhtml+xml", "text/plain", "text/markdown", "application/pdf"),
    "application/epub+zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
)
_TYPE = re.compile(r"[^\s/;,]+/[^\s/;,]+")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class FetchConfig:
    """How pages are fetched."""

    workers: int = 100  # requests at a time
    timeout: float = 30.0  # seconds for a page with its redirects, without waiting for turns
    per_host: str = "1/s"  # requests to each host: 1/s, 10/m or 100/h; 0 sets no limit
    host_connections: int = 2  # requests to one host at a time
    max_crawl_delay: float = 30.0  # seconds between requests that a robots.txt can ask for
    user_agent: str = ""  # NAME/VERSION, told to servers; empty: scratchlm and its version
    contact: str = ""  # page or mail address for the owners of sites, told with the user agent
    retries: int = 2  # further requests where a server is busy or cannot be reached
    max_mb: float = 10.0  # of a page, decoded; larger ones are dropped
    types: tuple[str, ...] = TYPES  # content types that are kept
    chunk_mb: float = 1000.0  # a WARC file ends with the page that brings it to this
    limit: int = 0  # take only so many lines of the lists, for a dry run; 0 takes all
    overwrite: bool = False  # replace a folder that this made before
    allow_loopback: bool = False  # fetch from this machine as well, for tests

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("host_connections", 1), ("retries", 0), ("limit", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"fetch.{name} = {getattr(self, name)} must be at least {least}.")
        for name in ("timeout", "max_mb", "chunk_mb"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"fetch.{name} = {getattr(self, name)} must be above 0.")
        if not 0 <= self.max_crawl_delay < math.inf:
            raise ConfigError(f"fetch.max_crawl_delay = {self.max_crawl_delay} must be 0 or more.")
        if not self.types:
            raise ConfigError("fetch.types is empty: no page would be kept. Name some.")
        if odd := [one for one in self.types if not _TYPE.fullmatch(one)]:
            raise ConfigError(f"fetch.types: {odd[0]!r} is no content type, such as text/html.")
        for name in ("user_agent", "contact"):
            text = getattr(self, name)
            if not (text.isascii() and text.isprintable()):
                raise ConfigError(f"fetch.{name} = {text!r} must be one line of ASCII.")
        if not name_of(self.agent):
            raise ConfigError(
                f"fetch.user_agent = {self.user_agent!r} must begin with a name that the owners of "
                "sites can write into their robots.txt, such as my-crawler/1.0."
            )
        _ = self.interval

    @property
    def interval(self) -> float:
        """Seconds between two requests to a host; 0 for no limit."""
        rate = self.per_host.strip()
        match = re.fullmatch(r"(\d+(?:\.\d+)?)/([smh])", rate)
        if rate == "0":
            return 0.0
        if match is None or not float(match[1]):
            raise ConfigError(
                f"fetch.per_host = {self.per_host!r} is no rate. Write 1/s, 10/m, 100/h or 0."
            )
        return _SECONDS[match[2]] / float(match[1])

    @property
    def agent(self) -> str:
        """The user agent that servers are told."""
        name = self.user_agent or f"scratchlm/{__version__}"
        return f"{name} (+{self.contact})" if self.contact else name
