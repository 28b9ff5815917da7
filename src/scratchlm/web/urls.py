"""Links that people found worth a vote, to pages worth fetching: OpenWebText's rules.

The idea is WebText's (Radford et al. 2019, section 2.1): a link that got at least 3 karma on
Reddit. Which hosts and endings are no text follows OpenWebText; they stand in `lists/`.
"""

import ipaddress
import re
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from scratchlm.web.dumps import Reading, Submission, parse_submission, read_records
from scratchlm.web.url_set import UrlSet

_BATCH = 4096  # addresses that are looked up together


@dataclass(frozen=True)
class Rules:
    """Which submissions are kept; the lists of hosts and endings hold for all."""

    min_score: int = 3  # votes for less votes against, at least (Radford et al. 2019)
    years: tuple[int, int] | None = None  # first and last, both kept, UTC; None: all
    allow_nsfw: bool = False  # keep what is marked as for adults
    blocked_hosts: tuple[str, ...] = ()  # more hosts to leave out, lower case, subdomains too


def reason_to_drop(submission: Submission, url: str | None, rules: Rules) -> str | None:
    """Why a submission, `url` its canonical address, is left out, in a word; None: it is kept."""
    return _fault_of_post(submission, rules) or _fault_of_url(submission.url, url, rules)


def _fault_of_post(submission: Submission, rules: Rules) -> str | None:
    if submission.is_self:
        return "self post"
    if submission.score is None or submission.score < rules.min_score:
        return "score"
    if rules.years is not None:
        year = -1 if submission.created is None else time.gmtime(submission.created).tm_year
        if not rules.years[0] <= year <= rules.years[1]:
            return "year"
    return "nsfw" if submission.over_18 and not rules.allow_nsfw else None


def _fault_of_url(given: str, url: str | None, rules: Rules) -> str | None:
    if url is None:
        return "no host" if _URL.match(_cleaned(given)) else "not http"
    host, _, rest = url.removeprefix("https://").partition("/")
    host = host if host.endswith("]") else host.rpartition(":")[0] or host
    if "." not in host and ":" not in host:  # a name of somebody's own network
        return "no host"
    for fault in ("media host", "shortener", "blocked host"):
        if _is_below(host, _listed(fault.replace(" ", "_") + "s")):
            return fault
    if _is_below(host, rules.blocked_hosts):
        return "blocked host"
    file = rest.partition("?")[0].rpartition("/")[2]
    _, dot, ending = file.rpartition(".")
    return "extension" if dot and ending.lower() in _listed("extensions") else None


@cache
def _listed(name: str) -> frozenset[str]:
    """The entries of `lists/NAME.txt`."""
    path = Path(__file__).parent / "lists" / f"{name}.txt"
    lines = path.read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _is_below(host: str, names: Container[str]) -> bool:
    """Whether a host or a domain above it is among `names`."""
    parts = host.split(".")
    return any(".".join(parts[i:]) in names for i in range(len(parts)))


MOST_URL = 8000  # characters, which servers are asked to take (RFC 9110, section 4.1)
_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@\\]+)(?::([0-9]{0,5}))?")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BLANK = "".join(map(chr, range(33)))  # what browsers strip from both ends
_BREAKS = str.maketrans("", "", "\t\r\n")  # and from the middle
_PERCENT = re.compile("%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_FORBIDDEN = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]+")  # RFC 3986, sections 3.3 and 3.4
_AMP = re.compile("&(?:amp;)+")  # Reddit's own escapes, some of them twice
_ENTITY = re.compile("&(lt|gt|quot|#39);")
_ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "#39": "'"}


def canonical(url: str) -> str | None:
    """The form under which two addresses of one page are the same; None: not one to fetch.

    returns  "https://host[:port]/path[?query]" in ASCII; what goes in again comes out unchanged.
             None for other schemes, hosts that cannot be, and names and passwords in front of one

    The steps of RFC 3986, section 6.2.2, and: http counts as https; "www." goes, since nearly every
    site answers to both with one page, and what is fetched is the address as given; parameters of
    `lists/tracking.txt` go; the order of the others stays, since some servers mind it.
    """
    match = _URL.fullmatch(_cleaned(url))
    host = _canonical_host(match[2]) if match else None
    if match is None or host is None:
        return None
    rest = _unescaped(_PERCENT.sub(_one_spelling, match[3])).partition("#")[0]
    path, _, query = _FORBIDDEN.sub(_encoded, rest).partition("?")
    query = "&".join(part for part in query.split("&") if part and not _tracks(part))
    return f"https://{host}{_without_dots(path)}{'?' if query else ''}{query}"


def _cleaned(url: str) -> str:
    """Without what browsers take off."""
    return url.translate(_BREAKS).strip(_BLANK)


def _unescaped(url: str) -> str:
    """Undo the HTML entities that dumps have; `html.unescape` would also take "&copy=1" for one."""
    return _ENTITY.sub(lambda match: _ENTITIES[match[1]], _AMP.sub("&", url))


def _one_spelling(match: re.Match[str]) -> str:
    """%7e as "~", %2f as %2F, and a percent sign that begins nothing as %25."""
    if match[1] is None:
        return "%25"
    char = chr(int(match[1], 16))
    return char if char in _UNRESERVED else match[0].upper()


def _encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _tracks(part: str) -> bool:
    name = part.partition("=")[0].lower()
    return name in _listed("tracking") or name.startswith(_tracking_beginnings())


@cache
def _tracking_beginnings() -> tuple[str, ...]:
    return tuple(name[:-1] for name in _listed("tracking") if name.endswith("*"))


def _without_dots(path: str) -> str:
    """Resolve "." and ".." (RFC 3986, section 5.2.4); an empty path is "/"."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _canonical_host(authority: str) -> str | None:
    """Host and port; None for what is no host, or has a name or password in front."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None or len(authority) > 1000:  # IDNA's time grows with the square
        return None
    try:
        if match[1].startswith("["):
            ipaddress.IPv6Address(match[1][1:-1])  # its own spelling varies with Python's version
            host = match[1].lower()
        else:
            host = _name(match[1])
    except ValueError:  # UnicodeError is one
        return None
    port = int(match[2]) if match[2] else 443
    if not 0 < port < 65536:
        return None
    # both defaults go, whatever the scheme, because the scheme is not compared
    return host if port in (80, 443) else f"{host}:{port}"


def _name(host: str) -> str:
    """A host's name in lower case and ASCII (IDNA), or its address in four numbers."""
    host = unquote(host, errors="strict")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    host = host.lower().removesuffix(".")
    while host.startswith("www.") and "." in host[4:]:
        host = host[4:]
    if len(host) > 253 or not _HOST.fullmatch(host):  # RFC 1035, section 2.3.4
        raise ValueError
    if _NUMBER.fullmatch(host.rpartition(".")[2]):  # as browsers do: then it must be an address
        return str(ipaddress.IPv4Address(host))
    return host


@dataclass(frozen=True, slots=True)
class Found:
    """A page to fetch: `url` as it was given, `created` in seconds since 1970, UTC."""

    url: str
    canonical: str
    score: int | None
    created: int | None
    id: str  # of the submission


def candidates(
    path: Path, rules: Rules, dropped: Counter[str], reading: Reading, limit: int = 0
) -> Iterator[Found]:
    """The pages that the submissions of a dump point to, in order; one may come several times.

    dropped   filled: how many records were left out, by reason
    reading   filled: what was met in the file
    limit     records to read; 0: all
    raises    what `read_records` does
    """
    for line in islice(read_records(path, reading), limit or None):
        found = _judge(line, rules)
        if isinstance(found, Found):
            yield found
        else:
            dropped[found] += 1
    if reading.n_long:
        dropped["unreadable"] += reading.n_long


def unseen(pages: Iterable[Found], seen: UrlSet) -> Iterator[Found]:
    """The pages whose canonical address is not in `seen`, each once; `seen` takes them in."""
    pages = iter(pages)
    while batch := list(islice(pages, _BATCH)):
        answers = seen.add([page.canonical for page in batch])
        yield from (page for page, is_new in zip(batch, answers, strict=True) if is_new)


def _judge(line: bytes, rules: Rules) -> Found | str:
    """A page, or the reason to leave the record out; an address costs more than the other rules."""
    submission = parse_submission(line)
    if submission is None:
        return "unreadable"
    if fault := _fault_of_post(submission, rules):
        return fault
    if len(submission.url) > MOST_URL:
        return "too long"
    url = canonical(submission.url)
    if (fault := _fault_of_url(submission.url, url, rules)) or url is None:
        return fault or "no host"
    given = _unescaped(_cleaned(submission.url))
    return Found(given, url, submission.score, submission.created, submission.id)
