"""Asking an OpenAI-compatible endpoint: one prompt in, one reply out, patiently and within limits.

The protocol is POST URL/chat/completions, as OpenAI, vLLM, llama.cpp's server, ollama and LM Studio
speak it. The standard library is enough for it. Redirects are not followed: they would carry the
key to another address.
"""

import email.utils
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from scratchlm.base.errors import ConfigError
from scratchlm.base.log import warn_once

PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # before an endpoint is asked again
MOST_PATIENCE_S = 120.0  # that Retry-After may ask for
_MOST_BYTES = 1 << 22  # of a reply
_SHOWN = 200  # characters of an answer in messages
_PASSING = (408, 425, 429)  # and all from 500 on
_REFUSED = (401, 403, 404, 405)  # another prompt would fare no better


class NoReply(Exception):
    """A prompt without a reply, and why; `passing`: the endpoint was not able to, for now."""

    def __init__(self, reason: str, *, passing: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.passing, self.wait_s = reason, passing, wait_s


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Leave a redirect to be an error."""


@dataclass(frozen=True)
class Endpoint:
    """An address that completes chats.

    url        up to /v1; with or without /chat/completions
    key        sent as a bearer token; None: none
    timeout_s  until a reply is whole; a connection alone may take as long again
    pauses_s   before each further try
    """

    url: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    pauses_s: tuple[float, ...] = PAUSES_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number
            usable = False
        if not usable or parts.username or parts.query or parts.fragment:
            raise ConfigError(
                f"judge url = {_without_user(self.url)!r} is not the address of an endpoint. Write "
                "it as https://HOST/v1, without a name, a password or a query."
            )
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError("the judge's key has characters that no key has. Set it again.")
        if self.key and parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            warn_once(f"the judge's key travels in clear to {self.url}: it is no https address.")

    @property
    def address(self) -> str:
        """Where prompts are posted to."""
        base = self.url.rstrip("/").removesuffix("/chat/completions")
        return f"{base}/chat/completions"

    def reply(self, body: dict[str, Any], stop: threading.Event) -> str:
        """What the endpoint answers to a chat; after a passing failure it is asked again.

        stop     set: no further pause or try
        raises   NoReply after the last try; ConfigError where no prompt can have a reply
        """
        pauses = iter(self.pauses_s)
        while True:
            try:
                return self._ask(body)
            except NoReply as failure:
                pause = next(pauses, None)
                if not failure.passing or pause is None:
                    raise
                wait_s = pause if failure.wait_s is None else failure.wait_s
                if wait_s > MOST_PATIENCE_S or stop.wait(wait_s):
                    raise

    def _ask(self, body: dict[str, Any]) -> str:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            self.address, json.dumps(body).encode(), headers, method="POST"
        )
        deadline = time.monotonic() + self.timeout_s
        try:
            with self._sender()(request, timeout=self.timeout_s) as answer:
                return self._content(_read(answer, deadline, self.timeout_s))
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise self._explained(refusal) from None
        except TimeoutError:
            raise NoReply(f"no reply in {self.timeout_s:g} s", passing=True) from None
        except (OSError, http.client.HTTPException) as bad:
            reason = getattr(bad, "reason", None) or bad
            timed_out = isinstance(reason, TimeoutError)
            said = f"no reply in {self.timeout_s:g} s" if timed_out else f"no connection: {reason}"
            raise NoReply(said, passing=True) from None

    def _content(self, raw: bytes) -> str:
        """The text of a chat completion's first choice."""
        try:
            content = json.loads(raw)["choices"][0]["message"]["content"]
        except (ValueError, RecursionError, KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            raise NoReply(f"not a chat completion: {self._shown(raw.decode('utf-8', 'replace'))}")
        return content

    def _shown(self, text: str) -> str:
        """A foreign text in one short line, without our key and what moves a terminal's cursor."""
        text = text.replace(self.key, "(the key)") if self.key else text
        line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _SHOWN]).split())
        return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."

    def _sender(self) -> Callable[..., Any]:
        """Through the environment's proxy, but never to this machine itself."""
        host = urlsplit(self.url).hostname or ""
        proxy = [urllib.request.ProxyHandler({})] if _is_loopback(host) else []
        return urllib.request.build_opener(_NoRedirects, *proxy).open

    def _explained(self, refusal: urllib.error.HTTPError) -> Exception:
        """An HTTP status in words, with what the endpoint said itself."""
        status = refusal.code
        try:
            said = self._shown(_message(refusal.read(_MOST_BYTES)))
        except (OSError, http.client.HTTPException):
            said = ""
        reason = f"the endpoint answers {status}" + (f": {said}" if said else "")
        if status in _PASSING or status >= 500:
            wait_s = _seconds(refusal.headers.get("Retry-After", ""))
            return NoReply(reason, passing=True, wait_s=wait_s)
        if 300 <= status < 400:
            place = self._shown(refusal.headers.get("Location", "nowhere"))
            return ConfigError(
                f"{self.address} sends us on to {place}. That is not followed, since the key would "
                "go there. Give that address as the judge's url if it is the right one."
            )
        if status in _REFUSED:
            cure = "key" if status in (401, 403) else "url and model"
            return ConfigError(f"{self.address}: {reason}. Check the judge's {cure}.")
        return NoReply(reason)


def _without_user(url: str) -> str:
    """A mistaken address for messages: what may be a password is left out."""
    return "...@" + url.rpartition("@")[2] if "@" in url else url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(answer: http.client.HTTPResponse, deadline: float, timeout_s: float) -> bytes:
    """A reply's bytes; a server that sends drop by drop is not waited for."""
    parts, size = [], 0
    while part := answer.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise NoReply(f"a reply of over {_MOST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise NoReply(f"no reply in {timeout_s:g} s", passing=True)
    if answer.length:  # read1 does not tell of a connection that broke
        raise NoReply("no connection: it broke off within the reply", passing=True)
    return b"".join(parts)


def _message(raw: bytes) -> str:
    """What an error says: {"error": {"message": ...}}, {"error": ...}, or plain text."""
    text = raw.decode("utf-8", "replace")
    try:
        said = json.loads(text)
        said = said.get("error", said.get("message", said))
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, RecursionError, AttributeError):
        said = text
    return said if isinstance(said, str) else text


def _seconds(retry_after: str) -> float | None:
    """What a Retry-After header asks for: seconds, or a date (RFC 9110, 10.2.3)."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
