"""TLS of the broker and of Redis: a certificate that cannot be verified is refused, by every client and in words."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runyard_common.broker.application import application, write
from runyard_common.settings import Settings
from runyard_common.stream import Live
from runyard_common.values.outages import Outage, diagnose
from runyard_launch.cli import doctor
from runyard_launch.cli.doctor import Verdict
from runyard_launch.supervisor import process
from tests.waiting import wait_until


@dataclass
class TlsRedis:
    """Debian's Redis with a self-signed certificate of localhost."""

    port: int
    ca: Path

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0"


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2)).add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, secret = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, secret


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = _certificate(folder)
    running = TlsRedis(process.free_port(), certificate)
    options = {
        "port": "0", "tls-port": str(running.port), "bind": "127.0.0.1", "tls-cert-file": str(certificate),
        "tls-key-file": str(key), "tls-auth-clients": "no", "save": "", "dir": str(folder),
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    child: subprocess.Popen[bytes] = process.spawn([program, *arguments], log=folder / "log")
    with redis.Redis.from_url(f"{running.url}?ssl_ca_certs={certificate}") as client:

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers)
    yield running
    process.end(child, grace=5)


def test_the_broker_refuses_a_certificate_that_cannot_be_verified(server: TlsRedis) -> None:
    with pytest.raises(Exception, match=r".") as refused:
        write(application(Settings(broker_url=server.url)))
    assert diagnose(refused.value).outage is Outage.CERTIFICATE


def test_rabbitmq_over_tls_is_verified_as_well(server: TlsRedis) -> None:
    """The handshake fails before a word of either protocol is spoken."""
    url = f"amqps://guest:guest@localhost:{server.port}//"
    with pytest.raises(Exception, match=r".") as refused:
        write(application(Settings(broker_url=url)))
    assert diagnose(refused.value).outage is Outage.CERTIFICATE


@pytest.mark.parametrize("parameters", ["ssl_ca_certs={ca}", "ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE"])
def test_a_named_authority_or_the_documented_override_lets_broker_and_stream_connect(
    server: TlsRedis, parameters: str
) -> None:
    settings = Settings(broker_url=f"{server.url}?{parameters.format(ca=server.ca)}")
    write(application(settings))
    live = Live(settings.redis)
    assert live.check() is None
    live.close()


def test_the_stream_names_the_certificate(server: TlsRedis) -> None:
    live = Live(Settings(redis_url=server.url).redis)
    trouble = live.check()
    assert trouble is not None
    assert "certificate" in trouble.reason
    live.close()


def test_the_doctor_names_the_certificate_of_both(
    server: TlsRedis, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("RUNYARD_HOME", str(home))
    monkeypatch.setenv("RUNYARD_BROKER_URL", server.url)
    found = {finding.part: finding for finding in doctor.findings()}
    for part in ("broker", "redis"):
        assert found[part].verdict is Verdict.BAD
        assert "certificate" in found[part].text
        assert "RUNYARD_BROKER_URL" in found[part].text
