"""Where outbound calls may not go: a corpus of the spellings attackers use, and what stays allowed."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_common.outbound import OutboundPolicy, UrlRefused, check_headers, check_url
from runyard_common.outbound.addresses import Kind, is_safe_port, kind_of
from runyard_common.outbound.errors import HeaderRefused
from runyard_common.outbound.urls import target_of
from runyard_common.values.errors import ConfigurationError, InvalidRequest
from tests.fakes.ssrf import CORPUS, PUBLIC


@pytest.mark.parametrize(("url", "reason"), CORPUS.items(), ids=[ascii(url)[:60] for url in CORPUS])
def test_each_entry_of_the_corpus_is_refused_with_its_reason_and_advice(url: str, reason: str) -> None:
    with pytest.raises(UrlRefused) as caught:
        check_url(url, field="callback.url")

    refusal = caught.value
    assert (refusal.code, refusal.reason, refusal.field) == ("url_refused", reason, "callback.url")
    assert refusal.details == {"reason": reason}
    assert refusal.message.endswith(".")
    assert isinstance(refusal, InvalidRequest)  # the api answers 400
    assert refusal.status == 400


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 80


@pytest.mark.parametrize("url", PUBLIC)
def test_public_urls_pass(url: str) -> None:
    check_url(url)


def test_the_target_is_what_the_http_client_will_call() -> None:
    for url in PUBLIC:
        seen = httpx2.URL(url)
        target = target_of(url)
        assert (target.scheme, target.host) == (seen.scheme, seen.raw_host.decode())
        assert target.port == (seen.port or {"http": 80, "https": 443}[seen.scheme])


def test_a_front_can_demand_https() -> None:
    with pytest.raises(UrlRefused, match="use https") as caught:
        check_url("http://example.com/", schemes=("https",))
    assert caught.value.reason == "scheme"


@given(st.ip_addresses(v=4), st.sampled_from(["mapped", "compatible", "nat64", "6to4", "isatap"]))
def test_no_ipv4_address_passes_inside_an_ipv6_one(inner: IPv4Address, form: str) -> None:
    number = int(inner)
    outer = {
        "mapped": (0xFFFF << 32) | number,
        "compatible": number,
        "nat64": (0x0064FF9B << 96) | number,
        "6to4": (0x2002 << 112) | (number << 80) | 1,
        "isatap": (0x26064700 << 96) | (0x5EFE << 32) | number,
    }[form]

    assert kind_of(IPv6Address(outer)) is not None


_PART = st.one_of(
    st.integers(0, 2**32).map(str),
    st.integers(0, 2**32).map(oct).map(lambda text: text.replace("o", "")),
    st.integers(0, 2**32).map(hex),
    st.integers(0, 255).map(str),
)


@given(st.lists(_PART, min_size=1, max_size=4).map(".".join))
def test_what_the_system_reads_as_an_ipv4_number_is_refused_unless_spelled_plainly(host: str) -> None:
    try:
        meant = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return
    if meant == host:
        assert target_of(f"http://{host}/").address == ip_address(meant)
    else:
        with pytest.raises(UrlRefused, match="four decimal numbers"):
            target_of(f"http://{host}/")


@given(st.ip_addresses())
def test_nothing_the_standard_library_calls_private_passes(address: IPv4Address | IPv6Address) -> None:
    if not address.is_global:
        assert kind_of(address) is not None


@given(st.text(alphabet="ahtp:/@[]\\.%#?0127xе。-_ \t", max_size=30).map("http://".__add__))
def test_a_url_is_either_refused_or_read_as_the_http_client_reads_it(url: str) -> None:
    try:
        target = target_of(url)
    except UrlRefused:
        return
    seen = httpx2.URL(url)
    assert (target.scheme, target.host) == (seen.scheme, str(seen.raw_host, "ascii"))
    assert not seen.userinfo


def test_a_url_that_the_http_client_reads_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    read = httpx2.URL
    monkeypatch.setattr(httpx2, "URL", lambda url: read(url.replace("example.com", "internal")))

    with pytest.raises(UrlRefused, match="in two ways"):
        check_url("https://example.com/")


class TestPolicy:
    def test_allow_private_opens_loopback_and_private_networks_only(self) -> None:
        policy = OutboundPolicy(allow_private=True)

        for url in (
            "http://127.0.0.1:9000/",
            "http://localhost:9000/",
            "http://10.1.2.3/",
            "http://[fd12::1]/",
        ):
            check_url(url, policy)
        for url in (
            "http://169.254.169.254/",
            "http://0.0.0.0/",
            "http://[::ffff:127.0.0.1]/",
            "http://224.0.0.1/",
            "http://[fd00:ec2::254]/",
            "http://127.1/",
            "http://127.0.0.1:6379/",
        ):
            with pytest.raises(UrlRefused):
                check_url(url, policy)

    def test_a_listed_name_opens_its_private_addresses_but_no_metadata_service(self) -> None:
        policy = OutboundPolicy.parse(allowed_hosts="hooks.corp, *.svc.internal")

        check_url("http://hooks.corp/", policy)
        check_url("http://a.svc.internal/", policy)
        assert policy.refuses(ip_address("10.0.0.1"), "hooks.corp", 80) is None
        assert policy.refuses(ip_address("10.0.0.1"), "other.corp", 80) is Kind.PRIVATE
        assert policy.refuses(ip_address("169.254.169.254"), "hooks.corp", 80) is Kind.METADATA
        for url in ("http://svc.internal/", "http://evilhooks.corp/", "http://b.internal/"):
            with pytest.raises(UrlRefused):
                check_url(url, policy)

    def test_a_listed_port_is_opened_for_that_host_alone(self) -> None:
        policy = OutboundPolicy.parse(allowed_hosts="couch.corp:5984")

        check_url("http://couch.corp:5984/", policy)
        for url in ("http://couch.corp/", "http://couch.corp:6379/", "http://example.com:5984/"):
            with pytest.raises(UrlRefused):
                check_url(url, policy)

    def test_a_listed_network_opens_its_addresses_under_any_name(self) -> None:
        policy = OutboundPolicy.parse(allowed_hosts="10.1.0.0/16,fd00::/8,[::1]")

        check_url("http://10.1.255.1/", policy)
        check_url("http://[fd12::1]/", policy)
        check_url("http://[::1]/", policy)
        assert policy.refuses(ip_address("10.1.0.9"), "hooks.example.com", 443) is None
        assert policy.refuses(ip_address("10.2.0.9"), "hooks.example.com", 443) is Kind.PRIVATE

    def test_a_metadata_service_opens_only_to_its_exact_address(self) -> None:
        metadata = ip_address("169.254.169.254")

        assert OutboundPolicy.parse(allowed_hosts="0.0.0.0/0").refuses(metadata, "", 80) is Kind.METADATA
        assert OutboundPolicy.parse(allowed_hosts="169.254.169.254").refuses(metadata, "", 80) is None

    def test_a_listed_tunnel_still_has_what_it_leads_to_judged(self) -> None:
        policy = OutboundPolicy.parse(allowed_hosts="64:ff9b::/96")

        check_url("http://[64:ff9b::8.8.8.8]/", policy)
        for url in ("http://[64:ff9b::10.0.0.1]/", "http://[64:ff9b::169.254.169.254]/"):
            with pytest.raises(UrlRefused):
                check_url(url, policy)

    @pytest.mark.parametrize(
        "entry", ["http://hooks.corp", "10.0.0.1/8", "a b", "*", "hooks.corp:0", "127.1"]
    )
    def test_an_entry_that_cannot_be_is_named(self, entry: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            OutboundPolicy.parse(allowed_hosts=f"fine.corp,{entry}")
        assert caught.value.field == "RUNYARD_ALLOWED_HOSTS"
        assert repr(entry) in caught.value.message


def test_safe_ports() -> None:
    assert [port for port in range(1025) if is_safe_port(port)] == [80, 443, 1024]
    assert all(map(is_safe_port, (3000, 5000, 8000, 8080, 8443, 9000, 65535)))
    assert not any(map(is_safe_port, (3306, 5432, 6379, 27017, 65536)))


class TestHeaders:
    def test_ordinary_headers_pass(self) -> None:
        check_headers({"Authorization": "Bearer abc", "X-Tenant": "acme", "content-type": "application/json"})

    @pytest.mark.parametrize(
        ("name", "value", "reason", "field"),
        [
            ("Host", "internal", "reserved", "callback.headers.Host"),
            ("Content-Length", "0", "reserved", "callback.headers.Content-Length"),
            ("transfer-encoding", "chunked", "reserved", "callback.headers.transfer-encoding"),
            ("Webhook-Signature", "v1,abc", "reserved", "callback.headers.Webhook-Signature"),
            ("X-Forwarded-For", "127.0.0.1", "reserved", "callback.headers.X-Forwarded-For"),
            ("Proxy-Authorization", "hunter2", "reserved", "callback.headers.Proxy-Authorization"),
            ("X-A", "a\r\nHost: b", "value", "callback.headers.X-A"),
            ("X-A", "é", "value", "callback.headers.X-A"),
            ("X A", "hunter2", "name", "callback.headers"),
            ("", "hunter2", "name", "callback.headers"),
            ("X-A", "a" * 9000, "too_long", "callback.headers"),
        ],
    )
    def test_a_header_that_would_change_the_call_is_refused(
        self, name: str, value: str, reason: str, field: str
    ) -> None:
        with pytest.raises(HeaderRefused) as caught:
            check_headers({name: value}, field="callback.headers")
        assert (caught.value.code, caught.value.reason, caught.value.field) == (
            "header_refused",
            reason,
            field,
        )
        assert value not in caught.value.message

    def test_there_is_a_most(self) -> None:
        with pytest.raises(HeaderRefused, match="At most 50"):
            check_headers({f"x-{n}": "" for n in range(51)})
