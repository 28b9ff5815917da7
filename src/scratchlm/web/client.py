"""One request over HTTP/1.1, to public addresses alone, within limits of time and size.

The library aiohttp speaks the protocol; it knows no HTTP/2. Redirects are handed back to the
caller, cookies are forgotten, proxies of the environment are not used, and certificates must hold.
"""

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from scratchlm.base.errors import ConfigError, MissingExtraError
from scratchlm.base.log import warn_once
from scratchlm.web.addresses import Network, is_public
from scratchlm.web.warc import Header

_CONNECT_SECONDS = 10.0  # for the handshakes with one of a host's addresses
_IDLE_SECONDS = 3.0  # that a connection is kept for the next request: rates are near 1/s
_NAMES_SECONDS = 300  # that a name's address is remembered
_MOST_FILES = 65_536  # open at a time, for which the system is asked
_SMALL = 1 << 14  # bytes of an unwanted body that are read, for the connection to be used again
_ACCEPT = {
    "Accept": "text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.5",
    "Accept-Encoding": "gzip, deflate",  # see `encodings.py`
}


class FetchError(Exception):
    """A request without an answer.

    reason    in a word or two, for counting
    passing   True: it may go better later
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.passing = reason, passing


class _NotPublicError(OSError):
    """Raised where a socket would be made, so that none is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    url            as it was asked for, in ASCII, without a fragment
    status_line    "HTTP/1.1 200 OK"
    headers        as they came; the four below are taken from them, "" where they are missing
    content_type   in lower case, without parameters
    body           as it came, but for chunks; empty where it was not wanted
    encoding       of the body: "gzip"; "" for none
    is_whole       False: it is longer than was allowed, and the rest was not read
    peer           the address of the server
    """

    url: str
    status: int
    status_line: str
    headers: tuple[Header, ...]
    content_type: str
    encoding: str
    location: str
    retry_after: str
    body: bytes
    is_whole: bool
    peer: str
    date: datetime


# (status, content type) -> whether the body is wanted
Wanted = Callable[[int, str], bool]


class Client:
    """Makes requests, on connections that are used again: `async with Client(...) as client`.

    user_agent      which servers are told
    n_connections   at most, at a time
    allowed         networks that may be connected to although they are not public
    resolver        aiohttp's, instead of the system's names
    """

    def __init__(
        self,
        user_agent: str,
        n_connections: int,
        *,
        allowed: Sequence[Network] = (),
        resolver: Any = None,
    ) -> None:
        self._aiohttp = _aiohttp()
        self._headers = {"User-Agent": user_agent, **_ACCEPT}
        self._n_connections, self._resolver = n_connections, resolver
        self._allowed = tuple(allowed)

    async def __aenter__(self) -> Self:
        aiohttp = self._aiohttp
        _allow_open_files()
        connector = aiohttp.TCPConnector(
            limit=self._n_connections,
            keepalive_timeout=_IDLE_SECONDS,
            ttl_dns_cache=_NAMES_SECONDS,
            resolver=self._resolver,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            response_class=_response_class(aiohttp),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def _socket(self, address_info: Any) -> socket.socket:
        """The socket for one address: aiohttp asks for it right before it connects to this one.

        So there is no moment in which a name could change its address, and no way around: addresses
        that stand in a link itself come here too.
        """
        family, kind, protocol, _, address = address_info
        if not is_public(address[0], self._allowed):
            raise _NotPublicError(errno.EACCES, "not a public address")
        return socket.socket(family, kind, protocol)

    async def get(self, url: str, seconds: float, max_bytes: int, wanted: Wanted) -> Answer:
        """Ask for one page.

        url         with http or https
        seconds     until all of the body must have come
        max_bytes   of the body, as it comes, behind which it is cut
        raises      FetchError; ConfigError where the system has no more sockets
        """
        timeout = self._aiohttp.ClientTimeout(
            total=seconds, sock_connect=min(_CONNECT_SECONDS, seconds)
        )
        try:
            async with self._session.get(url, allow_redirects=False, timeout=timeout) as response:
                date = datetime.now(UTC)
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                body, is_whole = b"", True
                if wanted(response.status, kind):
                    body, is_whole = await _read(response.content, max_bytes)
                elif 0 < (response.content_length or 0) <= _SMALL:
                    await _read(response.content, _SMALL)
                return _answer(response, kind, body, is_whole, date)
        except Exception as bad:
            raise self._explained(bad) from None

    def _explained(self, bad: Exception) -> Exception:
        """What went wrong, as the caller counts it.

        aiohttp raises errors of its own, of the system and of Python about what strangers send; one
        that is not known here must not end a run of days, so that it is shown once and counted.
        """
        aiohttp = self._aiohttp
        cause = getattr(bad, "os_error", bad)
        number = getattr(cause, "errno", None)
        if number in (errno.EMFILE, errno.ENFILE):
            return ConfigError(
                "the system allows no more open files: lower --workers, or raise the limit (ulimit "
                "-n). The same command then goes on."
            )
        if isinstance(bad, aiohttp.InvalidURL):
            return FetchError("no address")
        if isinstance(cause, _NotPublicError):
            return FetchError("private address")
        if isinstance(bad, aiohttp.ClientConnectorDNSError):
            return FetchError("no such host", passing=number == socket.EAI_AGAIN)
        if isinstance(bad, aiohttp.ClientSSLError):  # certificates too
            return FetchError("TLS")
        if isinstance(bad, aiohttp.ServerTimeoutError):  # of the handshakes
            return FetchError("no connection", passing=True)
        if isinstance(bad, TimeoutError):
            return FetchError("timeout")
        if isinstance(bad, aiohttp.ClientConnectorError):
            return FetchError("no connection", passing=True)
        if isinstance(bad, (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError)):
            return FetchError("broken off", passing=True)
        if not isinstance(bad, (aiohttp.ClientError, aiohttp.http.HttpProcessingError, ValueError)):
            warn_once(f"the HTTP library failed, and a page is dropped ({bad!r}).")
        return FetchError("not HTTP")


async def _read(content: Any, max_bytes: int) -> tuple[bytes, bool]:
    """A body, and whether it is whole: more than `max_bytes` are never read."""
    pieces, n_bytes = [], 0
    while not content.at_eof():
        piece = await content.readany()
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > max_bytes:
            return b"".join(pieces)[:max_bytes], False
    return b"".join(pieces), True


def _answer(response: Any, kind: str, body: bytes, is_whole: bool, date: datetime) -> Answer:
    headers, version = response.headers, response.version
    protocol = f"HTTP/{version.major}.{version.minor}"
    return Answer(
        url=str(response.url),
        status=response.status,
        status_line=f"{protocol} {response.status} {response.reason or ''}",
        headers=response.raw_headers,
        content_type=kind,
        encoding=headers.get("Content-Encoding", "").strip().lower(),
        location=headers.get("Location", ""),
        retry_after=headers.get("Retry-After", ""),
        body=body,
        is_whole=is_whole,
        peer=response.peer,
        date=date,
    )


def _response_class(aiohttp: Any) -> type:
    """aiohttp's answer, which notes the server's address before the connection is given back."""

    class Response(aiohttp.ClientResponse):
        peer = ""

        async def start(self, connection: Any) -> Any:
            transport = connection.transport
            address = transport.get_extra_info("peername") if transport else None
            self.peer = address[0] if address else ""
            return await super().start(connection)

    return Response


def _allow_open_files() -> None:
    """Raise the number of files that this process may have open: macOS begins with 256."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ModuleNotFoundError:
        raise MissingExtraError("aiohttp", "web", "Fetching pages") from None
    return aiohttp
