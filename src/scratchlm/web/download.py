"""Files from servers: patiently, gone on with where a connection broke off.

The library huggingface_hub lends its connections, whichever server is asked; the bytes are fetched
here. It throws away what a broken download had brought (since 1.31, its issue 4196), and its faster
protocol, xet, talks to servers that no mirror stands for.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.log import say
from scratchlm.base.progress import Progress
from scratchlm.web.download_folder import RemoteFile, damaged, size_of

_URL = r"https?://([^/@\s]+@)?([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/\S*)?"
_PAUSES_SECONDS = (1, 2, 4, 8)  # before a request is made again
TIMEOUT_SECONDS = 30  # without a byte
_Answer = TypeVar("_Answer")


class Unreachable(DataError):
    """Nobody answers, so nothing is known of what was asked for."""


class _Passing(Unreachable):
    """Nobody answers now: it may go better in a few seconds."""


class _CutShort(Exception):
    """A file ended before it should."""


def address(variable: str, url: str) -> str:
    """The address that an environment variable names, without a slash at its end.

    raises   ConfigError for what is none
    """
    if not re.fullmatch(_URL, url, re.ASCII):
        raise ConfigError(f"{variable} = {url!r} is no address. Write it as https://HOST/PATH.")
    return url.rstrip("/")


@dataclass(frozen=True)
class Server:
    """Who is asked, and what to tell the user when that fails.

    name      in words: "the Hugging Face hub"
    mirror    the environment variable that names another one; "" where there is none
    refused   (status, X-Error-Code) -> what a refusal means, and the cure
    """

    name: str
    mirror: str
    refused: Callable[[int, str], str]

    def patiently(
        self,
        action: Callable[[], _Answer],
        url: str,
        pauses: Sequence[float] | None = None,
        *,
        done: Callable[[], int] = lambda: 0,
    ) -> _Answer:
        """Do it; after a failure of connection or server again, with ever longer pauses between.

        pauses   seconds; None is a few
        done     how far it is: whoever gets further has all tries again
        raises   DataError that names the address and the cure; Unreachable where nobody answers
        """
        # HTTPError is httpx's in version 1 of the library, httpx2's in version 2
        from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

        left = pauses = _PAUSES_SECONDS if pauses is None else pauses
        furthest = done()
        while True:
            try:
                return action()
            except OfflineModeIsEnabled:
                reason = f"{url} is not asked, since HF_HUB_OFFLINE is set. Unset it."
                raise Unreachable(reason) from None
            except (HTTPError, _CutShort) as failure:
                error = self._explained(failure, url)
            if done() > furthest:
                left, furthest = pauses, done()
            if not left or not isinstance(error, _Passing):
                raise error
            again = "no answer yet, once more" if len(left) < len(pauses) else f"{error} Once more"
            say(f"{again} in {left[0]} s.")
            time.sleep(left[0])
            left = left[1:]

    def _explained(self, failure: Exception, url: str) -> DataError:
        """A failure in words: the address, what is wrong there, the cure."""
        again = "Try again, it goes on where it stopped"
        again += f"; {self.mirror} may name a mirror." if self.mirror else "."
        answer = getattr(failure, "response", None)
        if answer is None:
            reason = str(failure) or type(failure).__name__
            return _Passing(f"{url} cannot be downloaded ({reason}). {again}")
        status = answer.status_code
        if status in (408, 429) or status >= 500:  # too slow, too often, broken
            return _Passing(f"{url} cannot be downloaded (the server answers {status}). {again}")
        refused = self.refused(status, answer.headers.get("X-Error-Code", ""))
        return DataError(f"{url} is refused (the server answers {status}). {refused}")

    def foreign(self, url: str, what: str = "with the size and checksum of each file") -> DataError:
        """Whoever answers is somebody else: the error that says so."""
        cure = f" Let {self.mirror} name another mirror, or unset it." if self.mirror else ""
        return DataError(f"{url} does not answer as {self.name} does, {what}.{cure}")

    def fetch(self, file: RemoteFile, part: Path, shown: Progress) -> None:
        """Append to a part what it lacks of its file, for as long as that goes on."""
        append = partial(_append, file, part, shown)
        self.patiently(append, file.url, done=lambda: size_of(part))

    def headers_of(self, url: str) -> Mapping[str, str]:
        """What a server says of a file, without the file."""
        plain = {"Accept-Encoding": "identity"}  # or it might tell the length of a packed file
        return self.patiently(partial(_ask, "HEAD", url, plain), url).headers

    def read_json(
        self, url: str, headers: Mapping[str, str], pauses: Sequence[float] | None = None
    ) -> Any:
        """What a server answers, parsed; raises ValueError for what is no JSON."""
        return self.patiently(partial(_ask, "GET", url, headers), url, pauses).json()


def _ask(method: str, url: str, headers: Mapping[str, str]) -> Any:
    from huggingface_hub import get_session

    answer = get_session().request(
        method, url, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=True
    )
    answer.raise_for_status()
    return answer


def _append(file: RemoteFile, part: Path, shown: Progress) -> None:
    """Ask once for what a part lacks of its file; a server that sends no ranges sends it all."""
    from huggingface_hub import get_session

    start = size_of(part)
    headers = {**file.headers, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if file.etag.startswith('"'):  # the weak ones, W/"...", do not go with ranges (RFC 9110)
            headers["If-Range"] = file.etag
    with get_session().stream(
        "GET", file.url, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=True
    ) as answer:
        if answer.status_code == 416:  # it is shorter there than the part is here
            raise damaged(file, part)
        answer.raise_for_status()
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and not goes_on:
            shown.start = min(shown.start, shown.done - start)  # or the speed would be negative
            shown.advance(-start)
            part.unlink()
        with open(part, "ab") as out:
            for chunk in answer.iter_bytes():
                out.write(chunk)
                shown.advance(len(chunk), note=file.name)
    if (size := size_of(part)) < file.n_bytes:
        raise _CutShort(f"it ended after {size:,} of {file.n_bytes:,} bytes")
