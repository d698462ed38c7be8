"""Settings: one frozen model, built in each `__main__` and passed down.

See `runyard_common.environment` for how it is read from the environment and from `.env`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from runyard_common.identity.rules.caps import CAPS
from runyard_common.identity.rules.retention import AUDIT_DAYS
from runyard_common.identity.rules.single_sign_on import SignOnRules
from runyard_common.values import addresses, bounds, broker_urls, networks
from runyard_common.values.errors import ConfigurationError

PREFIX = "RUNYARD_"
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def _cap(kind: str) -> Any:
    cap = CAPS[kind]
    per = " of one organisation" if cap.of == "organisation" else ""
    described = f"{cap.plural[0].upper()}{cap.plural[1:]}{per}; what goes over it gets 409 {cap.code}."
    return Field(cap.default, ge=0, description=described)


class Settings(BaseModel):
    """Every ``RUNYARD_*`` setting. Times are seconds, sizes bytes unless a name has another unit."""

    # Pydantic's own settings package would cost each process as much of its start as pydantic does.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    home: Path = Field(
        Path(".runyard"), description="Folder of the embedded database, files, secrets and logs."
    )
    host: str = Field("127.0.0.1", description="Address the api listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the api listens on; 0 takes a free one.")
    share_port: bool = Field(
        False,
        description="Let further apis of this user listen on the port of this one (SO_REUSEPORT); the system spreads "
        "the connections.",
    )
    public_url: str = Field(
        "",
        description="Base URL callers reach this server by, path prefix included; default http://host:port.",
    )
    trusted_proxies: str = Field(
        "",
        description="Comma-separated addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto "
        "count; none by default.",
    )
    database_pooler: str = Field(
        "",
        pattern="^(transaction)?$",
        description="transaction, where the database URL leads to a pooler in transaction mode (PgBouncer).",
    )
    database_url: str = Field(
        "", description="postgresql://… or sqlite:///…; default SQLite in the home.", repr=False
    )
    broker_url: str = Field("", description="redis://… or amqp://…; default the embedded Valkey.", repr=False)
    broker_queue_type: str = Field(
        "classic",
        pattern="^(classic|quorum)$",
        description="Type of the queues on RabbitMQ: classic, or quorum, which a cluster keeps on several nodes.",
    )
    remote_control: bool = Field(
        False,
        description="Whether workers obey Celery's remote control (inspect, control, Flower): anyone who can write to "
        "the broker can then stop them.",
    )
    redis_url: str = Field(
        "",
        repr=False,
        description="Redis for live streams and rate limits; default the broker, if it is Redis.",
    )
    files_url: str = Field(
        "", description="Folder or s3://bucket/prefix; default a folder in the home.", repr=False
    )
    agents: str = Field("", description="Comma-separated Python modules or folders of manifests to publish.")
    public_tools: str = Field(
        "",
        description="Comma-separated registered tools that every organisation's agents and requests may use, * for "
        "all; name@organisation-id opens one to one organisation.",
    )

    model: str = Field("", description="Default model: provider:name, or local.")
    model_flash: str = Field("", description="Model of mode flash; default RUNYARD_MODEL.")
    model_fast: str = Field("", description="Model of mode fast (base); default RUNYARD_MODEL.")
    model_max: str = Field("", description="Model of mode max; default RUNYARD_MODEL.")
    model_base_url: str = Field("", description="Base URL of an OpenAI-compatible endpoint.")
    model_api_key: str = Field("", description="Key for RUNYARD_MODEL_BASE_URL.", repr=False)
    anthropic_base_url: str = Field("", description="Base URL of anthropic models; default the provider's.")
    google_base_url: str = Field("", description="Base URL of google models; default the provider's.")
    model_fallbacks: str = Field(
        "", description="Comma-separated models tried in turn when the first is unavailable."
    )
    model_prices: str = Field(
        "", description="JSON {model: {input, output, cached}} in USD per million tokens."
    )

    jwt_secret: str = Field("", description="HS256 secret; default generated into the home.", repr=False)
    jwt_jwks_url: str = Field("", description="JWKS address for RS256/ES256 tokens.")
    jwt_issuer: str = Field("", description="Required issuer (iss), if set.")
    jwt_audience: str = Field("", description="Required audience (aud), if set.")
    jwt_max_seconds: float = Field(
        86_400.0, ge=60, description="How far ahead the expiry (exp) of a token may lie; later ones get 401."
    )
    oidc_issuer: str = Field("", description="Issuer of the OpenID provider people may sign in with.")
    oidc_client_id: str = Field("", description="This server's client id there.")
    oidc_client_secret: str = Field(
        "", description="Its client secret; none for a public client.", repr=False
    )
    oidc_scopes: str = Field("openid email profile", description="Scopes asked for.")
    oidc_allowed_domains: str = Field(
        "", description="Comma-separated domains of verified e-mail addresses that are let in; default all."
    )
    oidc_required_claims: str = Field(
        "", description="Comma-separated name=value of ID token claims; one value of each name is needed."
    )
    oidc_create_accounts: bool = Field(
        False, description="Make an account for who has none; needs allowed domains or required claims."
    )
    oidc_organisation: str = Field(
        "default", description="Organisation that made accounts join, by id or name."
    )
    oidc_role: str = Field("viewer", description="Role of made accounts there.")
    secret_key: str = Field(
        "", repr=False, description="Key that encrypts stored secrets; default generated into the home."
    )

    release: str = Field(
        "",
        max_length=64,
        description="What is deployed, such as an image's tag: workers show it; default Runyard's version.",
    )
    worker_concurrency: int = Field(
        200, ge=1, le=100_000, description="Runs one worker process holds at once."
    )
    worker_dedicated: bool = Field(
        False,
        description="Let a worker run its own Python agents and nothing else: no other runs, no webhooks.",
    )
    worker_organisation: str = Field(
        "", description="Organisation, by id, for which alone a worker publishes its agents; default for all."
    )
    lease_seconds: float = Field(
        10.0, gt=0.2, le=3600, description="How long a silent worker keeps its runs."
    )
    loop_block_seconds: float = Field(
        0.0, ge=0, le=3600, description="How long a run may hold a worker's event loop; default the lease."
    )
    drain_seconds: float = Field(20.0, ge=0, le=3600, description="Grace period of a stopping worker.")
    lame_duck_seconds: float = Field(
        0.0, ge=0, le=3600, description="How long an api serves on after SIGTERM, no longer ready."
    )
    alive_file: str = Field(
        "",
        description="File whose time a worker or a scheduler renews every 5 seconds while it works, for probes.",
    )
    pod_deletion_cost: bool = Field(
        False, description="Whether a worker in Kubernetes notes at its pod what its deletion would cost."
    )
    allow_private_urls: bool = Field(
        False, description="Let callbacks, MCP and file URLs reach private addresses."
    )
    allowed_hosts: str = Field(
        "", description="Comma-separated hosts or networks outbound calls may always reach."
    )
    max_queued: int = Field(
        bounds.WAITING_RUNS.most, ge=1, description="Waiting runs per organisation before submits get 429."
    )
    max_streams: int = Field(
        0,
        ge=0,
        description="Streams and waits an organisation may have open at one api process before it gets 429; by default "
        "half of the connections that the process takes.",
    )
    max_unread_bytes: int = Field(
        bounds.UNREAD.most,
        ge=2**20,
        description="Bytes of an organisation's answers that one api process holds because they are not read yet; "
        "then it gets 429.",
    )
    max_all_unread_bytes: int = Field(
        bounds.ALL_UNREAD.most,
        ge=2**20,
        description="The same of all organisations together; then callers get 503.",
    )
    allowed_origins: str = Field(
        "",
        description="Comma-separated origins (https://app.example.com) whose pages may call the api; * for any.",
    )
    max_schedules: int = Field(
        bounds.SCHEDULES.most,
        ge=0,
        description="Schedules per organisation that may still be due; more get 409.",
    )
    max_keys: int = _cap("keys")
    max_members: int = _cap("members")
    max_invitations: int = _cap("invitations")
    max_applications: int = _cap("applications")
    max_end_users: int = _cap("end_users")
    max_agents: int = _cap("agents")
    max_versions: int = _cap("versions")
    max_tags: int = _cap("tags")
    max_sessions: int = _cap("sessions")
    max_datastores: int = _cap("datastores")
    max_documents: int = _cap("documents")
    max_limits: int = _cap("limits")
    max_links: int = _cap("links")
    max_unread_messages: int = _cap("unread_messages")
    max_idempotent_answers: int = _cap("idempotent_answers")
    max_sent_events: int = _cap("sent_events")
    max_secrets: int = _cap("secrets")
    max_stored_files: int = _cap("stored_files")
    max_storage_bytes: int = _cap("storage_bytes")
    requests_per_minute: int = Field(
        bounds.REQUESTS.most,
        ge=0,
        description="Requests a minute per organisation on all surfaces together, but for the operator's own; more get "
        "429. 0 is no limit.",
    )
    open_requests_per_minute: int = Field(
        bounds.OPEN_REQUESTS.most,
        ge=0,
        description="Requests a minute of one address that need no key (metrics, documents, pages, sign-in; not health)"
        " at one api process; more get 429. 0 is no limit.",
    )
    surface_requests_per_minute: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {},
        description="Requests a minute per organisation on one API surface whose contract has such a rate, as JSON: "
        "the surface's name and the number. 0 is no limit; a surface that is not named keeps its own.",
    )
    max_output_bytes: int = Field(5 * 2**20, ge=1024, description="Largest output of a run, as JSON.")
    max_step_bytes: int = Field(5 * 2**20, ge=1024, description="Largest result of a step, as JSON.")
    max_event_bytes: int = Field(
        256 * 2**10, ge=1024, description="Largest event, question or review of a run, as JSON."
    )
    max_events: int = Field(10_000, ge=1, description="Events an agent may report in one run.")
    capture_output: bool = Field(
        True, description="Whether what agents print and log reaches their runs, too, as events `log`."
    )
    max_questions: int = Field(
        bounds.QUESTIONS.most, ge=1, description="Questions and reviews an agent may ask in one run."
    )
    max_open_questions: int = Field(
        bounds.OPEN_QUESTIONS.most, ge=1, description="Questions and reviews of a run that are open at once."
    )
    max_answer_bytes: int = Field(
        16 * 2**20,
        ge=65_536,
        description="Largest answer of an MCP server, a model provider (4 MiB at most) or a datastore.",
    )
    max_body_bytes: int = Field(bounds.JSON_BODY.most, ge=1024, description="Largest JSON request body.")
    max_upload_bytes: int = Field(bounds.UPLOAD.most, ge=1024, description="Largest multipart request body.")
    wait_seconds: float = Field(300.0, gt=0, le=3600, description="How long waiting fronts wait before 504.")
    retention_days: float = Field(30.0, gt=0, description="How long finished tasks are kept by default.")
    audit_days: float = Field(
        AUDIT_DAYS,
        ge=30,
        description="How long the audit log is kept, and keys that were revoked or have expired.",
    )
    metrics_token: str = Field(
        "",
        repr=False,
        description="What GET /metrics asks for as Authorization: Bearer; by default nothing.",
    )
    metrics_port: str = Field(
        "",
        pattern="^(auto|[0-9]{1,5})?$",
        description="Port on which each process (api, worker, scheduler) serves its own metrics: the first free one "
        "from this on, so that the processes of a host can share it, or auto for any. By default only the api has "
        "/metrics, on its own port.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address that RUNYARD_METRICS_PORT is opened on.")
    log_level: str = Field("info", description="debug, info, warning or error.")

    @field_validator("surface_requests_per_minute", mode="before")
    @classmethod
    def _parse_rates(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("it is no JSON object of names and numbers") from None

    @field_validator("home", mode="before")
    @classmethod
    def _expand_home(cls, value: Any) -> Any:
        return addresses.expanded(value) if isinstance(value, str) else value

    @field_validator("files_url", "database_url")
    @classmethod
    def _expand_folder(cls, value: str) -> str:
        """Folders may begin with ~ or hold variables; in a URL of a server both are left as they are."""
        scheme, found, path = value.partition("://")
        if not found:
            return addresses.expanded(value)
        if scheme not in ("sqlite", "file") or not path.startswith(("/~", "/$")):
            return value
        return f"{scheme}:///{addresses.expanded(path.removeprefix('/'))}"

    @field_validator("agents")
    @classmethod
    def _expand_agents(cls, value: str) -> str:
        return ",".join(addresses.expanded(part.strip()) for part in value.split(","))

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: str) -> str:
        return addresses.checked(value, addresses.DATABASES)

    @field_validator("broker_url", "redis_url")
    @classmethod
    def _check_readable(cls, value: str) -> str:
        for one in broker_urls.each_host(value):
            addresses.readable(one)
        return value  # their schemes: see `broker_urls`

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        return addresses.base_url(value)

    @field_validator("model_base_url", "anthropic_base_url", "google_base_url", "jwt_jwks_url")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return addresses.http_url(value)

    @field_validator("log_level")
    @classmethod
    def _check_level(cls, value: str) -> str:
        if value.lower() not in _LOG_LEVELS:
            raise ValueError(f"{value!r} is no level; write {', '.join(_LOG_LEVELS)}")
        return value.lower()

    @field_validator("metrics_port")
    @classmethod
    def _check_port(cls, value: str) -> str:
        if value.isdecimal() and int(value) > 65_535:
            raise ValueError("ports go up to 65535")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        networks.trusted_proxies(value)
        return value

    @field_validator("host", "metrics_host")
    @classmethod
    def _bare_host(cls, value: str) -> str:
        return value.removeprefix("[").removesuffix("]")

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database."""
        if not self.database_url:
            return f"sqlite:///{self.home.resolve() / 'runyard.db'}"
        url = self.database_url
        for plain in ("postgresql://", "postgres://"):
            if url.startswith(plain):
                url = "postgresql+psycopg://" + url.removeprefix(plain)
        if self.database_pooler and "pgbouncer=" not in url:
            url += ("&" if "?" in url else "?") + "pgbouncer=true"
        return url

    @property
    def metrics_listen(self) -> int | None:
        """The port for the metrics of each process; 0 for a free one, None for none."""
        return None if not self.metrics_port else 0 if self.metrics_port == "auto" else int(self.metrics_port)

    @property
    def embedded_broker(self) -> bool:
        """Whether `runyard up` starts the Valkey server itself."""
        return not self.broker_url

    @property
    def broker(self) -> str:
        """Broker URL; the embedded server's is read from the file it writes into the home."""
        return self.broker_url or self._embedded_redis()

    @property
    def redis(self) -> str:
        """Redis URL for streams, or an empty string where there is none (streams then read the database)."""
        if self.redis_url:
            return broker_urls.redis(self.redis_url)
        if not self.broker_url:
            return self._embedded_redis()
        if broker_urls.broker(self.broker_url).scheme not in broker_urls.REDIS:
            return ""
        return broker_urls.redis(self.broker_url, "RUNYARD_BROKER_URL")

    @property
    def files(self) -> str:
        """Where attachments are stored."""
        return self.files_url or str(self.home.resolve() / "files")

    @property
    def proxies(self) -> list[str]:
        """Addresses and networks whose X-Forwarded-For and X-Forwarded-Proto count."""
        return networks.trusted_proxies(self.trusted_proxies)

    @property
    def sign_on(self) -> SignOnRules | None:
        """The rules of single sign-on, where it is set up. Raises `ConfigurationError`."""
        if not self.oidc_issuer:
            return None
        return SignOnRules.of(
            self.oidc_issuer, self.oidc_client_id, self.oidc_allowed_domains, self.oidc_required_claims,
            self.oidc_create_accounts, self.oidc_organisation, self.oidc_role,
        )  # fmt: skip

    @property
    def agent_sources(self) -> list[str]:
        """The modules and folders named by RUNYARD_AGENTS."""
        return [part.strip() for part in self.agents.split(",") if part.strip()]

    @property
    def base_url(self) -> str:
        """The server's own address as callers see it, without a trailing slash."""
        host = "localhost" if self.host in addresses.EVERYWHERE else addresses.bracketed(self.host)
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def local_url(self) -> str:
        """Where this machine itself reaches the api, without a trailing slash."""
        host = addresses.EVERYWHERE.get(self.host, self.host)
        return f"http://{addresses.bracketed(host)}:{self.port}"

    @property
    def path_prefix(self) -> str:
        """The path of RUNYARD_PUBLIC_URL, without a trailing slash: what a proxy puts before every path."""
        return urlsplit(self.public_url).path

    def _embedded_redis(self) -> str:
        file = self.home / "valkey.url"
        if not file.exists():
            raise ConfigurationError(
                "No broker: set RUNYARD_BROKER_URL, or start everything with `runyard up`, which brings its own."
            )
        return file.read_text().strip()
