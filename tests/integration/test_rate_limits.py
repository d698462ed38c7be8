"""Rate limits on fakeredis, Valkey and Redis: shared by processes, per caller and route, open when it is away."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
from redis.exceptions import RedisError

from runyard_api.access import rate_limits
from runyard_api.access.rate_limits import RateLimits
from runyard_api.access.request_rates import RequestRates
from runyard_common.values.errors import TooManyRequests
from runyard_common.values.ids import uuid7
from tests.servers.valkey import ValkeyServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def limits(any_redis_url: str) -> AsyncIterator[RateLimits]:
    made = RateLimits(any_redis_url)
    yield made
    await made.close()


@pytest.fixture
def who() -> str:
    """A caller that was not counted yet."""
    return uuid7()


async def test_requests_beyond_the_limit_are_refused_with_the_time_when_to_come_back(
    limits: RateLimits, who: str
) -> None:
    seen = [await limits.hit(who, "POST /a", 3) for _ in range(4)]

    assert [s.allowed for s in seen] == [True, True, True, False]
    assert [s.remaining for s in seen] == [2, 1, 0, 0]
    assert all(s.reset_s is not None and 30 <= s.reset_s <= 60 for s in seen)
    assert seen[0].headers() == {
        "ratelimit": f"limit=3, remaining=2, reset={seen[0].reset_s}",
        "ratelimit-policy": "3;w=60",
    }


async def test_callers_and_routes_count_apart(limits: RateLimits, who: str) -> None:
    for caller, route in ((who, "POST /a"), (uuid7(), "POST /a"), (who, "POST /b"), (who, "GET /a")):
        assert (await limits.hit(caller, route, 1)).allowed
    assert not (await limits.hit(who, "POST /a", 1)).allowed


async def test_processes_share_the_count(limits: RateLimits, any_redis_url: str, who: str) -> None:
    other = RateLimits(any_redis_url)
    assert (await limits.hit(who, "POST /a", 1)).allowed
    assert not (await other.hit(who, "POST /a", 1)).allowed
    await other.close()


async def test_without_redis_one_process_counts_alone() -> None:
    local = RateLimits("")
    assert [(await local.hit("k", "POST /a", 1)).allowed for _ in range(2)] == [True, False]
    await local.close()


async def test_while_redis_is_away_everybody_passes_quickly_and_the_log_has_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "BACKOFF_S", 600.0)  # it is not asked again
    server = ValkeyServer()
    server.start()
    limits = RateLimits(server.url)
    assert (await limits.hit("k", "POST /a", 1)).allowed
    server.stop()

    with structlog.testing.capture_logs() as logs:
        seen = [await limits.hit("k", "POST /a", 1) for _ in range(50)]

    assert all(s.allowed and s.remaining is None for s in seen)
    assert seen[0].headers() == {"ratelimit-policy": "1;w=60"}
    assert [(log["action"], log["log_level"]) for log in logs] == [("rate_limit", "warning")]
    await limits.close()


async def test_organisations_are_counted_together_by_all_processes(any_redis_url: str, who: str) -> None:
    one, two = (RequestRates(any_redis_url, 10, "operator") for _ in range(2))
    for rates in (one, two):
        for _ in range(5):
            rates.check(who)
    for rates in (one, two, one):  # the first learns what the second has added
        await rates.share()
    for rates in (one, two):
        with pytest.raises(TooManyRequests) as refused:
            rates.check(who)
        assert refused.value.retry_after
        await rates.close()


async def test_without_redis_each_process_counts_organisations_alone() -> None:
    rates = RequestRates("redis://127.0.0.1:1", 2, "operator")
    rates.check("org-2")
    with pytest.raises(RedisError):
        await rates.share()
    rates.check("org-2")
    with pytest.raises(TooManyRequests):
        rates.check("org-2")
    await rates.close()
