"""How long an organisation keeps what has ended, set over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.api_server import Api

PATH = "/api/v1/organisation"


def test_an_organisation_sets_how_long_it_keeps_what_has_ended(tmp_path: Path) -> None:
    with Api(tmp_path / "home") as api, api.client() as client:
        kept = client.get(PATH).json()["retention"]
        assert kept == {"completed": 30, "failed": 30, "stopped": 30, "sessions": 30, "usage": 400}
        changed = client.patch(PATH, json={"retention": {"failed": None, "completed": 7}})
        assert changed.status_code == 200, changed.text
        assert changed.json()["retention"] == kept | {"failed": None, "completed": 7}
        assert client.patch(PATH, json={"name": "other"}).json()["retention"]["completed"] == 7
        for wrong, field in (({"running": 5}, "retention.running"), ({"failed": 0}, "retention.failed")):
            refused = client.patch(PATH, json={"retention": wrong})
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_retention")
            assert refused.json()["field"] == field
        assert client.get(PATH).json()["retention"]["failed"] is None
        assert client.patch(PATH, json={"retention": None}).json()["retention"] == kept
