"""Two hundred addresses that lead into networks of one's own: none of them is ever connected to.

A site at 127.0.0.2 stands for the public web. Behind everything else listens somebody who would be
glad of a connection, and Python's audit events tell of each address that a socket is sent to.
"""

import asyncio
import random
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from scratchlm.web import client, url_lists
from scratchlm.web.client import Client, FetchError
from scratchlm.web.fetch import Fetcher
from scratchlm.web.fetch_config import FetchConfig
from scratchlm.web.journal import Journal
from scratchlm.web.url_lists import UrlList, write_list
from scratchlm.web.url_set import UrlSet

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 at once"
)
PUBLIC = "127.0.0.2"
ALLOWED = (ip_network(f"{PUBLIC}/32"),)
CONFIG = FetchConfig(timeout=3.0, per_host="0", host_connections=50, retries=0)
RANDOM = random.Random(1)

HOSTS = [  # all of them ways to write 127.0.0.1, or what leads there
    *("127.0.0.1", "127.1", "127.0.1", "127.000.000.001", "127.255.255.254", "127.0.0.3"),
    *("2130706433", "4294967296", "017700000001", "0177.0.0.1", "0177.1", "0x7f000001"),
    *("0x7F.0x0.0x0.0x1", "0x7f.1", "0x0000007f.1", "00000000177.1", "127.0x1", "1.0.0.127.in"),
    *("0", "0.0.0.0", "0x0", "00", "0.0", "000.000.000.000"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::0.0.0.1]", "[::127.0.0.1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:7F00:0001]", "[0:0:0:0:0:ffff:7f00:1]"),
    *("[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]"),
    *("[2002:7f00:1::]", "[2002:7f00:1::7f00:1]", "[2001:0:7f00:1::]", "[2001::80ff:fffe]"),
    *("[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "[fe80::1]", "[::ffff:0.0.0.0]"),
    *("localhost", "LocalHost", "localhost.", "ip6-localhost", "ip6-loopback"),
    *("%31%32%37.0.0.1", "127%2e0%2e0%2e1", "127.0.0.%31", "l%6fcalhost", "%6c%6f%63alhost"),
    *("\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127\u30020\u30020\u30021"),
    *("\u2460\u2461\u2466.1", "127\uff0e0\uff0e0\uff0e1"),
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",  # localhost
    *("127.0.0.1.", "127.0.0.1..", ".127.0.0.1", "127..1", "[127.0.0.1]"),
    *(f"{PUBLIC}{'@'}127.0.0.1", f"x:y{'@'}127.0.0.1", f"{PUBLIC}#{'@'}127.0.0.1"),
    *(f"127.0.0.1\\{'@'}{PUBLIC}", f"{PUBLIC}%00.127.0.0.1", f"{PUBLIC}%23{'@'}127.0.0.1"),
    *("169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]"),
    *("224.0.0.1", "255.255.255.255", "[ff02::1]", "240.0.0.1", "198.18.0.1", "100.64.0.1"),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "[fc00::1]", "[fec0::1]", "[::ffff:10.0.0.1]"),
]
NAMED = [  # what names are made to resolve to
    *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.31.255.1", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.9", "198.18.0.7", "224.0.0.251", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1"),
    *("fe80::1", "fe80::1%lo", "fc00::1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::80ff:fffe"),
    *("2130706433", "127.1", "0x7f.0.0.1", "localhost", "not an address"),
    *(str(IPv4Address(int(IPv4Address("127.0.0.0")) + RANDOM.getrandbits(24))) for _ in range(60)),
    *(str(IPv4Address(int(IPv4Address("10.0.0.0")) + RANDOM.getrandbits(24))) for _ in range(10)),
]


class Names(AbstractResolver):
    """Whose names change their addresses at each question, as rebinding does."""

    def __init__(self) -> None:
        self.n_asked: dict[str, int] = {}

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        kind, _, rest = host.partition("-")
        if kind in ("named", "rebinding", "both", "public"):
            address = NAMED[int(rest.partition(".")[0])]
            self.n_asked[host] = self.n_asked.get(host, 0) + 1
            if kind == "public" or (kind == "rebinding" and self.n_asked[host] % 2):
                address = PUBLIC
            addresses = [PUBLIC, address] if kind == "both" else [address]
        elif "localhost" in host or "loopback" in host:
            addresses = ["127.0.0.1", "::1"]
        else:  # what the system makes of numbers, and nothing else
            infos = socket.getaddrinfo(host, port, family, flags=socket.AI_NUMERICHOST)
            addresses = [info[4][0] for info in infos]
        return [
            {"hostname": host, "host": address, "port": port, "family": socket.AF_INET}
            | {"proto": 0, "flags": socket.AI_NUMERICHOST}
            for address in addresses
        ]

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def audit() -> list[str]:
    """The addresses that sockets of this process are sent to."""
    seen: list[str] = []

    def note(event: str, arguments: tuple) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = arguments[1]
            seen.append(address[0] if isinstance(address, tuple) else str(address))

    sys.addaudithook(note)
    return seen


@pytest.fixture
def listener() -> Iterator[list[socket.socket]]:
    """Somebody who listens at the addresses of this machine itself, at one port."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        with socket.create_server(("::1", port), family=socket.AF_INET6) as other:
            yield [one, other]


def port_of(listener: list[socket.socket]) -> int:
    return listener[0].getsockname()[1]


def forged(port: int) -> list[str]:
    urls = [f"http://{host}:{port}/{number}" for number, host in enumerate(HOSTS)]
    urls += [f"http://named-{n}.example:{port}/" for n in range(len(NAMED))]
    return urls + [f"https://named-{n}.example:{port}/" for n in range(0, len(NAMED), 3)]


def fetch(tmp_path: Path, urls: list[str]) -> dict[str, str]:
    """The outcome of each address that is one."""
    path, out = tmp_path / "list.txt", tmp_path / "out"
    path.write_text("".join(f"{url}\n" for url in urls), "utf-8")
    out.mkdir()
    with UrlSet(tmp_path / "seen") as seen:
        write_list([path], out / url_lists.NAME, seen, 0, lambda _: None)
    with UrlSet(tmp_path / "seen") as seen:
        pages = UrlList(out / url_lists.NAME, seen)
        with Journal(out, len(pages), 1 << 30, {}, lambda *_: None) as journal:

            async def run() -> None:
                await Fetcher(
                    CONFIG, pages, seen, journal, lambda: None, allowed=ALLOWED, resolver=Names()
                ).run()

            asyncio.run(run())
        asked = [url for _, _, url in pages_left(out)]
    lines = (out / "journal.tsv").read_text("utf-8").splitlines()[1:]
    return {asked[int(line.split("\t")[0])]: line.split("\t")[1] for line in lines}


def pages_left(out: Path) -> list[Any]:
    with UrlSet(out / "again") as seen:
        return [page for page in UrlList(out / url_lists.NAME, seen).left() if page]


def assert_nobody_came(listener: list[socket.socket], audit: list[str]) -> None:
    for server in listener:
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert set(audit) <= {PUBLIC}


def test_there_are_enough():
    assert len(set(forged(80))) >= 200


def test_the_audit_sees_a_connection(audit, listener):
    audit.clear()
    for server in listener:
        socket.create_connection(server.getsockname()[:2]).close()
        assert server.accept()
    assert audit == ["127.0.0.1", "::1"]


def test_the_client_connects_to_none(audit, listener, monkeypatch):
    monkeypatch.setattr(client, "_NAMES_SECONDS", 0)
    audit.clear()
    urls = forged(port_of(listener))

    async def ask() -> list[str]:
        reasons = []
        async with Client("test/1", 50, allowed=ALLOWED, resolver=Names()) as asking:
            for url in urls:
                try:
                    await asking.get(url, 3.0, 1000, lambda *_: True)
                except FetchError as error:
                    reasons.append(error.reason)
        return reasons

    reasons = asyncio.run(ask())
    assert len(reasons) == len(urls)
    assert set(reasons) <= {"private address", "no such host", "no address", "no connection"}
    assert reasons.count("private address") > 90
    assert_nobody_came(listener, audit)


def test_lists_of_them_are_fetched_from_none(audit, listener, tmp_path):
    audit.clear()
    outcomes = fetch(tmp_path, forged(port_of(listener)))
    assert len(outcomes) > 120
    refused = {"private address", "no such host", "no address", "no connection"}
    assert set(outcomes.values()) <= refused
    assert_nobody_came(listener, audit)


def test_redirects_lead_to_none(audit, listener, tmp_path, make_site, answer):
    public = make_site(PUBLIC)
    targets = forged(port_of(listener))
    for number, target in enumerate(targets):
        public.routes[f"/{number}"] = answer(status="302 Found", Location=target)
    audit.clear()
    outcomes = fetch(tmp_path, [f"{public.url}/{number}" for number in range(len(targets))])
    assert len(outcomes) == len(targets)
    assert set(outcomes.values()) <= {
        *("private address", "no such host", "no address", "bad redirect", "no connection"),
        "redirect to a known page",  # two forms of one address
    }
    assert_nobody_came(listener, audit)


def test_a_robots_txt_leads_to_none(audit, listener, tmp_path, make_site, answer):
    targets = forged(port_of(listener))[::9]
    sites = [make_site(PUBLIC) for _ in targets]
    for public, target in zip(sites, targets, strict=True):
        public.routes["/robots.txt"] = answer(status="302 Found", Location=target)
        public.routes["/"] = answer()
    audit.clear()
    outcomes = fetch(tmp_path, [f"{public.url}/" for public in sites])
    assert "kept" not in outcomes.values()
    assert list(outcomes.values()).count("private address") > 10
    assert_nobody_came(listener, audit)


def test_names_that_change(audit, listener, tmp_path, make_site, answer, monkeypatch):
    """Each question is answered differently, and connections are not kept: each page asks anew."""
    monkeypatch.setattr(client, "_NAMES_SECONDS", 0)
    monkeypatch.setattr(client, "_IDLE_SECONDS", 0.0)
    public = make_site(PUBLIC)
    for number in range(4):
        public.routes[f"/{number}"] = answer(Connection="close")
    audit.clear()
    kinds = ("rebinding", "both", "public")
    urls = [
        f"http://{kind}-{name}.example:{public.port}/{number}"
        for kind in kinds
        for name in range(len(NAMED))
        for number in range(4)
    ]
    outcomes = fetch(tmp_path, urls)
    assert set(outcomes.values()) == {"kept", "private address"}
    for kind in ("both", "public"):
        assert {o for url, o in outcomes.items() if f"/{kind}-" in url} == {"kept"}
    rebound = [outcome for url, outcome in outcomes.items() if "/rebinding-" in url]
    assert rebound.count("private address") > len(NAMED)
    assert_nobody_came(listener, audit)
