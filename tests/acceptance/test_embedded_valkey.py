"""The Valkey that the launcher brings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from runyard_launch.supervisor import parts
from runyard_launch.supervisor.valkey import Valkey, no_retry
from tests import servers
from tests.ports import free_port
from tests.waiting import wait_until


class TestValkey:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[servers.ValkeyServer]:
        server = servers.ValkeyServer(tmp_path / "valkey folder")
        yield server
        server.stop()

    def test_it_keeps_its_data_through_a_crash(self, server: servers.ValkeyServer) -> None:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") == b"value"

    def test_strangers_on_this_machine_need_its_password(self, server: servers.ValkeyServer) -> None:
        server.start()
        with (
            redis.Redis(port=server.valkey.port, retry=no_retry()) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        assert (server.folder / "valkey.conf").stat().st_mode & 0o077 == 0

    def test_data_it_cannot_read_is_moved_away(self, server: servers.ValkeyServer) -> None:
        server.start()
        server.kill()
        for file in (server.folder / "appendonlydir").glob("*.manifest"):
            file.write_text("not a manifest\n")
        with pytest.raises(servers.ServerMissing):
            server.start()
        moved = server.valkey.move_data()
        assert moved
        assert moved.exists()
        server.start()

    def test_one_that_an_earlier_launcher_left_is_stopped(
        self, server: servers.ValkeyServer, home: Path
    ) -> None:
        server.start()
        parts.write_private(home / "valkey.url", server.url)
        parts.end_orphan(home / "valkey.url")
        wait_until(lambda: not server.valkey.ready())
        assert not (home / "valkey.url").exists()

    def test_a_stale_address_is_removed(self, home: Path) -> None:
        parts.write_private(home / "valkey.url", Valkey(home, port=free_port()).url)
        parts.end_orphan(home / "valkey.url")
        assert not (home / "valkey.url").exists()
