"""`python -m runyard_workers.publish SOURCE`: publish agents for every organisation, for `runyard agents publish`.

It is a process of its own, as it runs the agents' code. The last line of standard output is one JSON object: what was
published, or the error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from runyard_common.agents.service.manifests import PublishRules
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.environment import load
from runyard_common.identity.queries import identity
from runyard_common.identity.service.identity import sealer
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError, NotFound, RunyardError, Unavailable
from runyard_workers.agent_code import catalogue


def publish(source: str, settings: Settings) -> dict[str, Any]:
    """Publish what a manifest, Python file, folder or module holds. Raises `RunyardError`s."""
    definitions, manifests = catalogue.load([source])
    db = Database(settings.database)
    try:
        store = Store(db)
        with store.read() as conn:
            org = identity.organisation_named(conn, "default")
        if org is None:
            raise NotFound(
                "There is no organisation yet: start the api once, it makes the first.",
                code="organisation_not_found",
            )
        _, unknown = catalogue.split_known(store, org.id, definitions.values(), manifests)
        if unknown:
            raise ConfigurationError("; ".join(unknown))
        rules = PublishRules.of(settings, sealer(settings))
        count = catalogue.publish(store, org.id, definitions.values(), manifests, rules)
    except SQLAlchemyError as error:
        raise Unavailable(
            f"The database does not answer, or has no tables (`runyard migrate`): {type(error).__name__}.",
            code="database_unavailable",
        ) from None
    finally:
        db.close()
    python = sorted({definition.name for definition in definitions.values()})
    names = [*python, *(manifest.name for manifest in manifests)]
    return {"count": count, "names": sorted(names), "python": python}


def main() -> None:
    """Entry point of the process."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as report:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what agents' code prints is no report
        try:
            answer = publish(sys.argv[1], load())
        except RunyardError as error:
            status = None if isinstance(error, ConfigurationError) else error.status
            answer = {
                "error": {
                    "message": error.message,
                    "code": error.code,
                    "status": status,
                    "field": error.field,
                }
            }
        print(json.dumps(answer), file=report)


if __name__ == "__main__":
    main()
