"""Networks of callers, and the proxies that a setting trusts."""

from __future__ import annotations

import pytest

from runyard_common.values.networks import UNKNOWN, network_of, shown, trusted_proxies


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", UNKNOWN),
        ("localhost", UNKNOWN),
        ("192.0.2.1:80", UNKNOWN),
    ],
)
def test_a_network_is_what_one_site_has_at_least(host: str, network: str) -> None:
    assert network_of(host) == network


def test_an_address_is_shown_as_it_is_but_for_its_zone() -> None:
    assert (shown("fe80::1%eth0"), shown("::ffff:192.0.2.1"), shown("x")) == ("fe80::1", "192.0.2.1", None)


def test_proxies_are_addresses_and_networks_in_both_spellings() -> None:
    assert trusted_proxies("") == []
    assert trusted_proxies(" 10.0.0.0/8, ::1,") == ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::1/128"]


@pytest.mark.parametrize(
    "bad",
    [
        "*",
        "proxy.example.com",
        "10.0.0.1/8",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1;::1",
        "0.0.0.0/1,128.0.0.0/1",
        "::/1",
    ],
)
def test_what_would_trust_all_or_none_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"proxy|address"):
        trusted_proxies(bad)
