"""Which addresses a stranger's link may lead to: public ones only.

A page that is fetched can point, or redirect, at machines of one's own network: a router's
settings, a cloud's keys. A name tells nothing, since it can resolve to anything, and to something
else a moment later; so what is judged here is the very address that a socket is to connect to.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

# IANA's registry of special IPv4 addresses, but for the two ranges of AS112 and AMT, which are
# public. `ipaddress.is_global` is not asked: what it says has changed within versions of Python.
_SPECIAL_V4 = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's own server, which holds what a machine was set up with
    )
]
_GLOBAL_V6 = ip_network("2000::/3")  # all that is given to networks so far (RFC 4291)
_SPECIAL_V6 = [
    ip_network(text)
    for text in (
        "2001::/23",  # protocols of the IETF, among them Teredo, which holds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: holds an IPv4 address
        "3fff::/20",  # documentation
    )
]
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: networks without IPv4 reach all of it there

# Ports of other protocols, whose servers could take a request for a command: the list of browsers
# (https://fetch.spec.whatwg.org/#port-blocking).
BAD_PORTS = frozenset(
    [
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95),
        *(101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161),
        *(179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563),
        *(587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061),
        *(6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    ]
)


def is_public(address: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether a socket may connect to an address.

    address   as a socket takes it: four numbers, or IPv6. Any other text is refused, since the
              system would look it up as a name: "2130706433", "0x7f.1", and those with a zone
    allowed   networks that may be connected to although they are not public
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.scope_id is not None:
        return False
    if any(parsed in network for network in allowed):
        return True
    return _is_public_v4(parsed) if isinstance(parsed, IPv4Address) else _is_public_v6(parsed)


def _is_public_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _SPECIAL_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    """Addresses that hold an IPv4 address are refused, but for NAT64's, where that one counts."""
    if address in _NAT64:
        return _is_public_v4(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)
