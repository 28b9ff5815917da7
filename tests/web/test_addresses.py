"""Which addresses may be connected to: nothing inside any network, whatever it is wrapped in."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scratchlm.web.addresses import LOOPBACK, is_public

PRIVATE_V4 = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.254", "169.254.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    "255.255.255.255",
    *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),  # keys of clouds
]
PRIVATE_V6 = [
    *("::", "::1", "::2", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254"),
    *("ff02::1", "ff0e::1", "100::1", "2001:db8::1", "2001::1", "2001:10::1", "2002::1"),
    *("3fff::1", "5f00::1", "64:ff9b:1::1", "4000::1", "fe80::1%eth0", "2606:4700::1%1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255"),
    *("223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1", "2400:3200::1"),
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("address", PRIVATE_V4 + PRIVATE_V6)
def test_private_addresses_are_refused(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address):
    assert is_public(address)


@pytest.mark.parametrize("inner", PRIVATE_V4)
def test_ipv4_inside_ipv6_is_refused(inner):
    number = int(IPv4Address(inner))
    wrapped = [
        f"::ffff:{inner}",  # mapped
        f"::{inner}",  # compatible
        f"::ffff:0:{inner}",  # translated
        f"64:ff9b::{inner}",  # NAT64
        f"64:ff9b:1::{inner}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",  # 6to4
        f"2001:0:{number >> 16:x}:{number & 0xFFFF:x}::1",  # Teredo, its server
        f"2001:0:808:808:0:0:{~number >> 16 & 0xFFFF:x}:{~number & 0xFFFF:x}",  # and its client
    ]
    assert [address for address in wrapped if is_public(address)] == []


@pytest.mark.parametrize(
    "text",
    [
        *("2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.1", "010.0.0.1", "1.1.1"),
        *("localhost", "example.org", "", " 8.8.8.8", "8.8.8.8:80", "[::1]", "8.8.8.8%eth0"),
        "\uff18.8.8.8",
    ],
)
def test_whatever_is_no_plain_address_is_refused(text):
    assert not is_public(text)


def test_allowed_networks():
    assert is_public("127.0.0.1", LOOPBACK)
    assert is_public("::1", LOOPBACK)
    assert not is_public("127.0.0.1", [ip_network("127.0.0.2/32")])
    for address in ("0.0.0.0", "::", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254"):
        assert not is_public(address, LOOPBACK)


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
@example(IPv4Address("192.31.196.1"))
def test_what_python_knows_to_be_private_is_refused(address):
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
