"""The operator's commands: keys, members, agents and the doctor, on a real database."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runyard import authoring
from runyard_common.credentials.queries import key_files
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity, second_factors
from runyard_common.identity.queries import members as member_rows
from runyard_common.identity.rules import passwords
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity as service
from runyard_common.identity.service import logins, members, organisations
from runyard_common.privacy.service import erasures
from runyard_common.settings import Settings
from runyard_common.webhooks.queries import endpoints
from runyard_launch.cli import doctor
from runyard_launch.cli.doctor import Verdict
from runyard_launch.cli.main import app

Run = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that the settings name."""
    home = tmp_path / "home"
    monkeypatch.setenv("RUNYARD_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "220")
    return home


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    """The database of an installation that was started once."""
    home.mkdir(mode=0o700)
    settings = Settings(home=home)
    db = Database(settings.database)
    migrate.upgrade(db)
    service.bootstrap(Store(db), settings)
    yield Store(db)
    db.close()


@pytest.fixture
def run() -> Run:
    """Runs a command: its result."""

    def invoke(*arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(app, list(arguments), **options)

    return invoke


def one_key(store: Store, key: str) -> identity.PresentedKey:
    with store.read() as conn:
        found = identity.key_by_hash(conn, service.hash_of(key))
    assert found is not None
    return found


def test_a_key_is_made_shown_once_listed_and_revoked(store: Store, run: Run) -> None:
    made = run("keys", "create", "ci", "--role", "viewer", "--scope", "runs:read", "--days", "1")
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    row = one_key(store, key)
    assert (row.name, row.role, row.scopes, row.created_by) == (
        "ci",
        "viewer",
        ["runs:read"],
        "operator",
    )
    assert row.expires_at is not None
    listed = run("keys", "list")
    assert row.id in listed.stdout
    assert key not in listed.stdout
    assert run("keys", "revoke", row.id).exit_code == 0
    assert one_key(store, key).revoked_at is not None
    assert row.id not in run("keys", "list").stdout
    assert row.id in run("keys", "list", "--revoked").stdout
    again = run("keys", "revoke", row.id)
    assert (again.exit_code, "There is no such key" in again.stderr) == (2, True)
    with store.read() as conn:
        noted = [entry.action for entry in identity.audit_page(OrgScope(conn, row.org_id), 10)]
    assert noted[:2] == ["key.revoke", "key.create"]


def test_a_scope_that_is_none_and_an_organisation_that_is_none_are_refused(store: Store, run: Run) -> None:
    bad = run("keys", "create", "x", "--scope", "runs:fly")
    assert (bad.exit_code, "runs:fly" in bad.stderr) == (2, True)
    free = run("keys", "list", "--org", "free")
    assert (free.exit_code, "no organisation 'free'" in free.stderr) == (2, True)


def test_the_admin_key_is_renewed_and_the_old_one_ends(store: Store, home: Path, run: Run) -> None:
    before = (home / "admin.key").read_text().strip()
    assert run("keys", "renew-admin").exit_code == 0
    after = (home / "admin.key").read_text().strip()
    assert (home / "admin.key").stat().st_mode & 0o777 == 0o600
    assert one_key(store, before).revoked_at is not None
    assert one_key(store, after).revoked_at is None


def test_without_tables_a_sentence_names_what_to_do(home: Path, run: Run) -> None:
    home.mkdir()
    refused = run("keys", "list")
    assert (refused.exit_code, "runyard migrate" in refused.stderr) == (1, True)
    assert "Traceback" not in refused.output


def test_the_first_owner_is_invited_and_a_password_is_set_by_the_operator(store: Store, run: Run) -> None:
    invited = run("members", "invite", "Boss@Example.com", "--role", "owner")
    assert invited.exit_code == 0, invited.output
    token = re.findall(r"/console#/invitation/(\S+)", invited.stdout)[0]
    with store.begin() as tx:
        user_id = members.accept(tx, token, None, "Boss", passwords.hashed("the first password"))
        joined = member_rows.person(tx.conn, user_id)
        assert joined is not None
        assert not joined.must_change_password
        logins.begin(tx, user_id, joined.password_hash)
    assert "boss@example.com" in run("members", "list").stdout
    typed = "a heron that wades\na heron that wades\n"
    assert run("members", "set-password", "boss@example.com", input=typed).exit_code == 0
    with store.read() as conn:
        person = member_rows.person(conn, user_id)
        assert person is not None
        assert passwords.matches("a heron that wades", person.password_hash)
        assert person.must_change_password  # the operator knows it
        assert member_rows.organisations_of(conn, user_id)[0].role == Role.OWNER
    assert run("members", "set-password", "free@example.com", input=typed).exit_code == 2
    guessed = run("members", "set-password", "boss@example.com", input="qwertyuiop\nqwertyuiop\n")
    assert (guessed.exit_code, "guessed" in guessed.stderr) == (2, True)


def test_the_operator_resets_a_second_factor(store: Store, run: Run) -> None:
    with store.begin() as tx:
        user_id = member_rows.insert_person(tx, "lost@example.com", "Lost", "kept")
        second_factors.put(tx, user_id, b"sealed")
    assert run("members", "reset-second-factor", "Lost@example.com").exit_code == 0
    with store.read() as conn:
        assert second_factors.get(conn, user_id) is None
    again = run("members", "reset-second-factor", "lost@example.com")
    assert (again.exit_code, "no second factor" in again.stderr) == (2, True)
    assert run("members", "reset-second-factor", "free@example.com").exit_code == 2


@pytest.mark.processes
def test_manifests_and_python_files_are_published_and_listed(
    store: Store, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authoring, "_registry", {})
    manifest = tmp_path / "greeter.yaml"
    manifest.write_text('name: "@cli/greeter"\nversion: 1.0.0\ninstructions: Greet.\n')
    code = tmp_path / "cli_adder.py"
    code.write_text(
        "from runyard import agent\n\n"
        '@agent("@cli/adder", version="2.0.0")\n'
        "async def add(ctx, args: dict) -> dict:\n    return args\n"
    )
    published = run("agents", "publish", str(manifest))
    assert (published.exit_code, published.stdout) == (0, "1 published: @cli/greeter.\n"), published.output
    published = run("agents", "publish", str(code))
    assert published.exit_code == 0, published.output
    assert f"RUNYARD_AGENTS names {code}" in published.stderr
    listed = run("agents", "list").stdout
    assert re.search(r"@cli/greeter\s+1\.0\.0\s+declared", listed)
    assert re.search(r"@cli/adder\s+2\.0\.0\s+python", listed)
    manifest.write_text("name: nothing at all: [")
    broken = run("agents", "publish", str(manifest))
    assert (broken.exit_code, "greeter.yaml" in broken.stderr) == (2, True)
    assert run("agents", "publish", "no_such_module_anywhere").exit_code == 2


def finding_of(name: str) -> doctor.Finding:
    return next(finding for finding in doctor.findings() if finding.part == name)


def test_the_doctor_finds_a_sound_installation_sound(store: Store, run: Run) -> None:
    found = {finding.part: finding.verdict for finding in doctor.findings()}
    assert list(found) == [
        "settings",
        "home",
        "database",
        "secrets",
        "broker",
        "redis",
        "files",
        "datastores",
        "model",
        "open",
    ]
    assert Verdict.BAD not in found.values()
    assert run("doctor").exit_code == 0


def test_the_doctor_makes_nothing_where_nothing_was_started(home: Path) -> None:
    found = {finding.part: finding.verdict for finding in doctor.findings()}
    assert Verdict.BAD not in found.values()
    assert found["home"] is found["database"] is found["files"] is Verdict.ODD
    assert not home.exists()


@pytest.mark.parametrize("impossible", ["/proc/runyard-home", "/dev/null", "/dev/null/home"])
def test_the_doctor_fails_for_a_home_that_cannot_be_made(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch, impossible: str
) -> None:
    monkeypatch.setenv("RUNYARD_HOME", impossible)
    found = finding_of("home")
    assert (found.verdict, "RUNYARD_HOME" in found.text) == (Verdict.BAD, True)
    assert run("doctor").exit_code == 1


def test_the_doctor_names_a_setting_that_does_not_exist(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_PROT", "1")
    found = run("doctor")
    assert (found.exit_code, "RUNYARD_PROT" in found.stdout) == (1, True)


def test_the_doctor_sees_secrets_that_others_can_read(store: Store, home: Path) -> None:
    (home / "admin.key").chmod(0o644)
    assert finding_of("home").verdict is Verdict.BAD
    assert "chmod 600" in finding_of("home").text


def test_the_doctor_sees_tables_of_another_version(store: Store) -> None:
    migrate.downgrade(store.db, "0003")
    found = finding_of("database")
    assert (found.verdict, "runyard migrate" in found.text) == (Verdict.BAD, True)


def test_the_doctor_calls_at_every_server(store: Store, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    monkeypatch.setenv("RUNYARD_BROKER_URL", f"redis://127.0.0.1:{free}/0")
    monkeypatch.setenv("RUNYARD_MODEL", "some-model")
    monkeypatch.setenv("RUNYARD_MODEL_BASE_URL", f"http://127.0.0.1:{free}/v1")
    found = {finding.part: finding for finding in doctor.findings()}
    for part in ("broker", "redis", "model"):
        assert found[part].verdict is Verdict.BAD, found[part]
        assert "RUNYARD_" in found[part].text
    assert run("doctor").exit_code == 1


def test_commands_are_listed_without_loading_them(run: Run) -> None:
    shown = run("--help").stdout
    for name in ("up", "doctor", "keys", "members", "agents"):
        assert name in shown


def test_programs_read_every_list_as_json(store: Store, run: Run, tmp_path: Path) -> None:
    made = json.loads(run("keys", "create", "ci", "--role", "viewer", "--json").stdout)
    keys = {row["id"]: row for row in json.loads(run("keys", "list", "--json").stdout)}
    listed = keys[made["id"]]
    assert (listed["name"], listed["role"], listed["scopes"], listed["expires_at"]) == (
        "ci",
        "viewer",
        "all",
        None,
    )
    assert one_key(store, made["key"]).id == made["id"]
    assert json.loads(run("members", "list", "--json").stdout) == []
    assert json.loads(run("agents", "list", "--json").stdout) == []
    lines = json.loads(run("doctor", "--json").stdout)
    assert all(line.keys() == {"part", "verdict", "text"} and line["text"] for line in lines)
    found = {line["part"]: line["verdict"] for line in lines}
    assert found["settings"] == found["database"] == "ok"


def test_secrets_are_resealed_by_a_command_that_fails_when_one_cannot_be_opened(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = "an-old-key-of-the-installation", "a-new-key-of-the-installation"
    org_id = identity_id(store)
    with store.begin() as tx:
        endpoints.ensure_callbacks(tx, org_id, Sealer(old).seal("whsec_x"))
    monkeypatch.setenv("RUNYARD_SECRET_KEY", new)
    refused = run("secrets", "reseal")
    assert refused.exit_code == 1
    assert "1 secrets were sealed with a key that is not named" in refused.output
    monkeypatch.setenv("RUNYARD_SECRET_KEY", f"{new},{old}")
    done = run("secrets", "reseal", "--json")
    assert done.exit_code == 0
    shown = {line["column"]: line for line in json.loads(done.stdout)}
    assert shown["endpoints.secret"] == {"column": "endpoints.secret", "sealed": 1, "kept": 0, "broken": []}
    monkeypatch.setenv("RUNYARD_SECRET_KEY", new)
    assert run("secrets", "reseal").exit_code == 0, "the old key can go"


def test_the_key_in_the_home_is_replaced_by_a_command_and_the_doctor_knows_what_needs_the_old_one(
    store: Store, run: Run, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home)
    with store.begin() as tx:
        endpoints.ensure_callbacks(tx, identity_id(store), key_files.sealer(settings).seal("whsec_x"))
    first, new = key_files.secret_key(settings), "a-new-key-of-the-installation"

    def of_doctor() -> dict[str, str]:
        lines = json.loads(run("doctor", "--json").stdout)
        return next(line for line in lines if line["part"] == "secrets")

    assert of_doctor()["verdict"] == "ok"
    key_files.write(home / "secret.key", f"{new},{first}", replace=True)
    assert of_doctor()["verdict"] == "warning"
    assert "1 need an old key (endpoints.secret 1)" in of_doctor()["text"]
    done = json.loads(run("keys", "rotate-secret", "--wait", "0", "--json").stdout)
    assert (done["resealed"], done["old_keys"]) == (1, str(home / "secret.key.old"))
    assert (home / "secret.key").read_text().strip() == new, "it goes on with the key that was begun with"
    assert of_doctor()["verdict"] == "ok"
    key_files.write(home / "secret.key", "another-key-altogether", replace=True)
    assert of_doctor()["verdict"] == "failed"
    refused = run("keys", "rotate-secret", "--wait", "0", "--json")
    assert (refused.exit_code, json.loads(refused.stderr)["error"]["code"]) == (1, "secrets_not_opened")


def identity_id(store: Store) -> str:
    with store.read() as conn:
        found = identity.organisation_named(conn, "default")
    assert found is not None
    return str(found.id)


def test_an_organisation_is_exported_by_its_name(store: Store, run: Run, tmp_path: Path) -> None:
    assert "default" in run("orgs", "list").stdout
    done = run("orgs", "export", "default", "--to", "default.zip", "--json")
    made = json.loads(done.stdout)
    assert (made["organisation"], made["counts"]["api_keys"]) == (identity_id(store), 1)
    again = run("orgs", "export", "default", "--to", "default.zip", "--json")
    assert (again.exit_code, json.loads(again.stderr)["error"]["code"]) == (2, "files_exist")
    assert run("orgs", "export", "unknown", "--to", "n.zip").exit_code == 2


def test_an_organisation_is_erased_when_its_name_is_given_again(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "SETTLE", 0.0)
    with store.begin() as tx:
        ids = [organisations.create(tx, name, "operator", None).id for name in ("acme", "twins", "twins")]
    planned = json.loads(run("orgs", "erase", "acme", "--dry-run", "--json").stdout)
    assert planned["counts"]["organisations"] == 1
    for wrong in ([], ["--yes", "acne"]):
        refused = run("orgs", "erase", "acme", *wrong, "--json")
        assert (refused.exit_code, json.loads(refused.stderr)["error"]["code"]) == (2, "not_confirmed")
    twins = run("orgs", "erase", "twins", "--yes", "twins", "--json")
    assert json.loads(twins.stderr)["error"]["code"] == "organisation_ambiguous"
    done = json.loads(run("orgs", "erase", "acme", "--yes", "acme", "--json").stdout)
    assert (done["organisation"], done["counts"]["audit"]) == (ids[0], 1)
    assert run("orgs", "erase", ids[1], "--yes", "twins").exit_code == 0
    left = {row["id"] for row in json.loads(run("orgs", "list", "--json").stdout)}
    assert left == {identity_id(store), ids[2]}
    own = run("orgs", "erase", "default", "--yes", "default", "--json")
    assert json.loads(own.stderr)["error"]["code"] == "own_organisation"


def test_a_person_is_exported_and_erased(store: Store, run: Run, tmp_path: Path) -> None:
    with store.begin() as tx:
        member_rows.insert_person(tx, "ann@example.com", "Ann", None)
    assert run("users", "export", "ann@example.com", "--to", "ann.zip").exit_code == 0
    assert (tmp_path / "ann.zip").stat().st_mode & 0o777 == 0o600
    refused = run("users", "erase", "ann@example.com", "--json")
    assert json.loads(refused.stderr)["error"]["code"] == "not_confirmed"
    done = run("users", "erase", "ann@example.com", "--yes", "ann@example.com", "--json")
    assert json.loads(done.stdout)["counts"] == {"users": 1}
    gone = run("users", "export", "ann@example.com", "--to", "again.zip", "--json")
    assert json.loads(gone.stderr)["error"]["code"] == "account_not_found"
