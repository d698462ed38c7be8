"""What `runyard agents` does on this machine's installation: list what is published, and publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from runyard_common.agents.queries import agents
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.identity.service.identity import secret_key
from runyard_common.settings import Settings, load
from runyard_common.values.errors import ConfigurationError, NotFound, Unavailable
from runyard_workers.agent_code import catalogue


@dataclass(frozen=True)
class Published:
    """What a source held: how many were published, the names of all, and which of them are code."""

    count: int
    names: list[str]
    python: list[str]


@contextmanager
def _opened() -> Iterator[tuple[Store, str, Settings]]:
    """The store, the operator's organisation and the settings. Raises `RunyardError`s."""
    settings = load()
    db = Database(settings.database)
    try:
        store = Store(db)
        with store.read() as conn:
            found = identity.organisation_named(conn, "default")
        if found is None:
            raise NotFound(
                "There is no organisation yet: start the api once, it makes the first.",
                code="organisation_not_found",
            )
        yield store, str(found["id"]), settings
    except SQLAlchemyError as error:
        raise Unavailable(
            f"The database does not answer, or has no tables (`runyard migrate`): {type(error).__name__}.",
            code="database_unavailable",
        ) from None
    finally:
        db.close()


def listed() -> list[dict[str, str]]:
    """The agents of the operator's organisation: what is published for everybody, and its own."""
    found: list[dict[str, str]] = []
    with _opened() as (store, org_id, _), store.read() as conn:
        for row in agents.with_manifests(conn, org_id):
            version = str((row["manifest"] or {}).get("version") or "—")
            whose = "everybody's" if row["shared"] else "its own"
            shown = {"agent": row["name"], "version": version, "kind": row["kind"], "whose": whose}
            found.append(shown | {"id": row["id"]})
    return found


def publish(source: str) -> Published:
    """Publish what a manifest, Python file, folder or module holds, for every organisation."""
    definitions, manifests = catalogue.load([source])
    with _opened() as (store, org_id, settings):
        _, unknown = catalogue.split_known(store, org_id, definitions.values(), manifests)
        if unknown:
            raise ConfigurationError("; ".join(unknown))
        rules = PublishRules.of(settings, Sealer(secret_key(settings)))
        count = catalogue.publish(store, org_id, definitions.values(), manifests, rules)
    names = [*definitions, *(manifest.name for manifest in manifests)]
    return Published(count, sorted(names), sorted(definitions))
