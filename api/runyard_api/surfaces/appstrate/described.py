"""What documents show of the contract: what its groups are for, and examples that a test sends to a server."""

from __future__ import annotations

from typing import Final

from runyard_api.http.operations import Described, Header
from runyard_api.surfaces.appstrate.surface import API_VERSION
from runyard_common.values import bounds

DESCRIBED: Final = Described(
    tags={
        "appstrate runs": "The API of Appstrate: runs and their logs.",
        "appstrate realtime": "The API of Appstrate: runs as event streams.",
        "appstrate schedules": "The API of Appstrate: schedules of agents.",
        "appstrate webhooks": "The API of Appstrate: webhooks.",
        "appstrate end-users": "The API of Appstrate: the end-users on whose behalf keys call.",
        "appstrate applications": "The API of Appstrate: applications.",
        "appstrate keys": "The API of Appstrate: API keys and their scopes.",
        "appstrate packages": "The API of Appstrate: agents as packages, and their versions.",
        "appstrate system": "The API of Appstrate: whether the server works.",
    },
    headers={
        "Appstrate-User": Header(
            "The end-user (eu_…) on whose behalf a key calls.", {"pattern": "^eu_"}, "eu_019c1f2b"
        ),
        "Appstrate-Version": Header("The API version, YYYY-MM-DD.", {"enum": [API_VERSION]}, API_VERSION),
        "Idempotency-Key": Header(shape={"maxLength": bounds.IDEMPOTENCY_KEY.most}),  # an empty one is none
        "X-Org-Id": Header(),  # not looked at where a key calls
    },
    examples={
        "ApplicationBody": {"name": "shop", "settings": {"region": "eu"}},
        "ApplicationChange": {"name": "shop, Europe"},
        "AppstrateKeyBody": {"applicationId": "app_019c1f2b", "name": "ci", "scopes": ["agents:run"]},
        "AppstrateScheduleBody": {
            "connectionProfileId": "0b0e7f7e-8c1c-4b7e-9a54-0d6c4ab7c2f1",
            "cronExpression": "0 9 * * 1-5",
            "name": "Every working day",
            "timezone": "Europe/Berlin",
        },
        "AppstrateScheduleChange": {"cronExpression": "0 7 * * 1-5", "enabled": True},
        "AppstrateWebhookBody": {
            "url": "https://example.com/hooks/runyard",
            "events": ["run.completed", "run.failed"],
            "scope": "organization",
        },
        "AppstrateWebhookChange": {"active": False},
        "EndUserBody": {
            "name": "Ada Lovelace",
            "email": "ada@example.com",
            "externalId": "customer-17",
            "metadata": {"plan": "pro"},
        },
        "EndUserChange": {"name": "Ada King", "metadata": {"plan": None}},
        "PackageBody": {
            "manifest": {"name": "@example/writer", "version": "1.0.0"},
            "content": "You write short reports.",
        },
        "PackageChange": {
            "manifest": {"name": "@example/writer", "version": "1.1.0"},
            "content": "You write very short reports.",
            "lockVersion": 1,
        },
        "PackageVersionBody": {"version": "1.1.0"},
        "RunBody": {"input": {"topic": "sales in January"}},
    },
    forms={"appstrate.start_run": {"input": '{"topic": "sales in January"}'}},
)
