"""URLs that mean one thing, and addresses of the open internet."""

from __future__ import annotations

import pytest

from tallystick.delivery.addresses import MAX_URL, Target, is_public, parse_target
from tallystick.errors import InvalidInput


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "172.15.0.1", "172.32.0.1"],
)
def test_the_open_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255",
        "192.168.0.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1",
        "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:7f00:1", "::127.0.0.1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1",
        "", "localhost", "2130706433", "0177.0.0.1", "127.1",
    ],
)  # fmt: skip
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("example.com", 443, "/", True)),
        ("https://example.com:8443/a/b?c=d&e", Target("example.com", 8443, "/a/b?c=d&e", True)),
        ("https://EXAMPLE.com/%20", Target("example.com", 443, "/%20", True)),
        ("https://[2606:4700:4700::1111]/x", Target("2606:4700:4700::1111", 443, "/x", True)),
        ("https://8.8.8.8:80/", Target("8.8.8.8", 80, "/", True)),
        ("https://a_b.example.com./", Target("a_b.example.com.", 443, "/", True)),
    ],
)
def test_a_url_leads_somewhere(url: str, target: Target) -> None:
    assert parse_target(url) == target


def test_the_host_header_names_the_port_that_does_not_go_without_saying() -> None:
    assert parse_target("https://example.com:443/").authority == "example.com"
    assert parse_target("https://example.com:80/").authority == "example.com:80"
    assert parse_target("https://[2606:4700:4700::1111]:8443/").authority == "[2606:4700:4700::1111]:8443"


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "HTTPS:/example.com",
        "https:///", "https://", "https://:443/", "gopher://example.com/", "javascript:alert(1)",
        "https://user@example.com/", "https://user:pass@example.com/", "https://example.com@127.0.0.1/",
        "https://127.0.0.1@example.com/", "https://@example.com/", "https://example.com/#x", "https://example.com#@a/",
        "https://example.com\\@127.0.0.1/", "https://exam ple.com/", "https://example.com/\r\nx: y",
        "https://example.com/\t", "https://example.com/ü", "https://exämple.com/", "https://example.com:0/",
        "https://example.com:65536/", "https://example.com:-1/", "https://example.com:/", "https://example.com:x/",
        "https://-a.com/", "https://a..com/", "https://.com/", "https://example.com%2e/", "https://%31%32%37.0.0.1/",
        "https://[::1", "https://[::1]x/", "https://[fe80::1%25eth0]/", "https://[::ffff:1.2.3]/", "https://[]/",
        "https://" + "a" * 254 + "/", "https://example.com/" + "a" * MAX_URL,
    ],
)  # fmt: skip
@pytest.mark.parametrize("allow_private", [False, True])
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str, allow_private: bool) -> None:
    with pytest.raises(InvalidInput):
        parse_target(url, allow_private=allow_private)


@pytest.mark.parametrize("url", ["https://2130706433/", "https://0177.0.0.1/", "https://0x7f000001/", "https://0x7f.1/",
                                 "https://127.1/", "https://1/", "https://127.0.0.1./", "https://017700000001/",
                                 "https://a.0x1/", "https://1.2.3.4.5/", "https://256.0.0.1/"])  # fmt: skip
def test_other_ways_to_write_an_ipv4_address_are_refused_even_where_private_ones_are_allowed(url: str) -> None:
    with pytest.raises(InvalidInput, match="IPv4"):
        parse_target(url, allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/", "https://10.0.0.1:8443/", "https://example.com:22/", "https://example.com:25/",
        "https://example.com:1023/",
    ],
)  # fmt: skip
def test_plain_private_and_service_ports_are_refused_unless_allowed(url: str) -> None:
    with pytest.raises(InvalidInput):
        parse_target(url)
    parse_target(url, allow_private=True)


def test_a_url_has_a_largest_length() -> None:
    longest = "https://example.com/" + "a" * (MAX_URL - 20)
    assert len(longest) == MAX_URL
    parse_target(longest)
