"""URLs of brokers and Redis: what is understood, how certificates are verified, what is refused in words."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from runyard_common.broker.application import QueueNames, application
from runyard_common.settings import Settings
from runyard_common.values import broker_urls
from runyard_common.values.errors import ConfigurationError
from runyard_common.values.outages import Outage, diagnose


def _use_ssl(url: str) -> dict[str, object] | None:
    used: dict[str, object] | None = application(Settings(broker_url=url)).conf.broker_use_ssl
    return used


def test_rediss_and_amqps_verify_the_certificate_unless_the_url_turns_it_off() -> None:
    assert _use_ssl("rediss://localhost:1/0") == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
    }
    assert _use_ssl("amqps://u:p@broker:1//") == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "broker",
    }
    for word in ("none", "CERT_NONE"):
        unverified = _use_ssl(f"rediss://localhost:1/0?ssl_cert_reqs={word}")
        assert unverified == {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
        assert _use_ssl(f"amqps://broker:1//?ssl_cert_reqs={word}") == {"cert_reqs": ssl.CERT_NONE}
    assert _use_ssl("redis://localhost:1/0") is None


def test_broker_and_stream_read_one_url_alike() -> None:
    settings = Settings(broker_url="rediss://h:1/2?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/ca.pem")
    assert settings.redis == (
        "rediss://h:1/2?ssl_cert_reqs=none&ssl_ca_certs=%2Fca.pem&ssl_check_hostname=false"
    )
    used = _use_ssl("rediss://h:1/2?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/ca.pem")
    assert used is not None
    assert used["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("redis://:p%40ss@h:6379/0", "redis://:p%40ss@h:6379/0"),
        ("valkey://h/1", "redis://h/1"),
        ("valkeys://h/1?ssl_cert_reqs=optional", "rediss://h/1"),
        ("amqp://guest:guest@h:5672//", "amqp://guest:guest@h:5672//"),
        ("amqps://h:5671//?heartbeat=3&ssl_cert_reqs=none", "amqps://h:5671//?heartbeat=3"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock"),
        ("sentinel://a,b:1/2?master_name=m", "redis+sentinel://a,b:1/2?master_name=m"),
    ],
)
def test_everything_but_the_tls_parameters_of_a_url_is_kept(given: str, kept: str) -> None:
    assert broker_urls.broker(given).url == kept


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis+sentinel://h:26379/0", "master_name"),
        ("redis+sentinel://:secret@h:26379/0?master_name=m&timeout=3", "timeout is no parameter"),
        ("redis+sentinel://h:26379/zero?master_name=m", "number of the database"),
        ("sqs://key:secret@", "scheme"),
        ("h:6379", "scheme"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
    ],
)
def test_a_url_that_is_not_understood_is_refused_by_the_name_of_its_setting(url: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as refused:
        broker_urls.broker(url)
    assert refused.value.field == "RUNYARD_BROKER_URL"
    assert "secret" not in refused.value.message


def test_sentinels_are_asked_by_every_client_with_their_own_and_the_servers_credentials() -> None:
    url = (
        "rediss+sentinel://app:p%40ss@a,[fd00::1]:7/3?master_name=main&sentinel_password=s%26t"
        "&ssl_ca_certs=/ca.pem"
    )
    asked = broker_urls.sentinels(url)
    assert asked is not None
    assert asked.addresses == (("a", 26379), ("fd00::1", 7))
    tls = {
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": "/ca.pem",
    }
    assert asked.options() == {"db": 3, "username": "app", "password": "p@ss"} | tls
    assert asked.sentinel_options() == {"password": "s&t"} | tls
    assert broker_urls.sentinels(Settings(redis_url=url).redis) == asked
    conf = application(Settings(broker_url=url)).conf
    assert conf.broker_url == "sentinel://app:p%40ss@a/3;sentinel://app:p%40ss@[fd00::1]:7/3"
    options = conf.broker_transport_options
    assert options["master_name"] == "main"
    assert asked.sentinel_options().items() <= options["sentinel_kwargs"].items()
    assert broker_urls.sentinels("redis://h/0") is None


def test_quorum_queues_have_names_of_their_own_and_only_rabbitmq_has_them() -> None:
    plain, quorum = (QueueNames.of("an id", kind) for kind in ("classic", "quorum"))
    assert (quorum.runs, quorum.deliveries) == (f"{plain.runs}.quorum", f"{plain.deliveries}.quorum")
    app = application(Settings(broker_url="amqp://h//", broker_queue_type="quorum"))
    for name in ("runyard.runs.quorum", quorum.runs):  # the second is made when it is first sent to
        assert app.amqp.queues[name].queue_arguments == {"x-queue-type": "quorum"}
    with pytest.raises(ConfigurationError, match="RUNYARD_BROKER_QUEUE_TYPE"):
        application(Settings(broker_url="redis://h/0", broker_queue_type="quorum"))


def test_a_redis_for_streams_is_no_rabbitmq() -> None:
    with pytest.raises(ConfigurationError, match="RUNYARD_REDIS_URL"):
        broker_urls.redis("amqp://h//")


def test_a_sentinel_url_without_a_name_ends_the_process_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from runyard_common.environment import load

    monkeypatch.chdir(tmp_path)
    for name in ("RUNYARD_BROKER_URL", "RUNYARD_REDIS_URL"):
        with monkeypatch.context() as given:
            given.setenv(name, "sentinel://h:26379/0")
            with pytest.raises(ConfigurationError, match=name):
                load()


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (Exception("OOM command not allowed when used memory > 'maxmemory'."), Outage.FULL),
        (Exception("You can't write against a read only replica."), Outage.READ_ONLY),
        (
            Exception("UNBLOCKED force unblock from blocking operation, instance state changed"),
            Outage.READ_ONLY,
        ),
        (Exception("MASTERDOWN Link with MASTER is down"), Outage.READ_ONLY),
        (Exception("LOADING Redis is loading the dataset in memory"), Outage.LOADING),
        (Exception("invalid username-password pair or user is disabled."), Outage.CREDENTIALS),
        (Exception("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), Outage.CERTIFICATE),
        (ConnectionRefusedError("refused"), Outage.AWAY),
    ],
)
def test_what_is_wrong_with_a_server_is_known_by_its_clients_error(error: Exception, outage: Outage) -> None:
    assert diagnose(error).outage is outage
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = error
    assert diagnose(wrapped).outage is outage


def test_workers_obey_the_remote_control_only_where_it_is_asked_for() -> None:
    url = "redis://localhost"
    assert application(Settings(broker_url=url)).conf.worker_enable_remote_control is False
    assert (
        application(Settings(broker_url=url, remote_control=True)).conf.worker_enable_remote_control is True
    )
