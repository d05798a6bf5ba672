"""All settings of all services: `RIPELINE_…` variables or secret files of the same name in lower
case.
"""

import json
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, get_origin

from limits import parse
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.shared.clock import Clock

PORTS = {"ingest": 8080, "scorer": 8081, "nurture": 8082}
ROOT = Path(__file__).resolve().parents[2]  # the folder that holds services and deploy
SECRETS = Path("/run/secrets")


class Settings(BaseSettings):
    """Read once in `__main__` and passed on; `ripeline settings` lists them with their values."""

    model_config = SettingsConfigDict(
        env_prefix="RIPELINE_", secrets_dir=SECRETS if SECRETS.is_dir() else None, extra="ignore"
    )

    environment: Literal["production", "demo", "test"] = Field(
        "production", description="demo and test may set a clock"
    )
    database_url: SecretStr = Field(
        SecretStr("postgresql://ripeline@127.0.0.1:5432/ripeline"),
        description="PostgreSQL 18, postgresql://user@host/db",
    )
    database_password: SecretStr = Field(
        SecretStr(""), description="put into database_url where that names none"
    )
    database_pool: int = Field(8, description="connections a process")
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="host:port, comma-separated")
    kafka_session_timeout_ms: int = Field(
        10_000, description="after this silence a consumer's partitions move on"
    )
    kafka_partitions: int = Field(8, description="partitions of a topic that provision creates")
    kafka_replication: int = Field(1, description="copies of a topic that provision creates")
    kafka_compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        "zstd", description="of produced batches"
    )
    pepper: SecretStr = Field(
        SecretStr(""), description="secret of HMACs and link signatures; 32 random bytes, any text"
    )
    secret_key: SecretStr = Field(
        SecretStr(""), description="rl_… of scope `secret` that provision registers"
    )
    public_key: SecretStr = Field(
        SecretStr(""), description="rl_… of scope `public` that provision registers"
    )
    query_key: SecretStr = Field(
        SecretStr(""), description="rl_… of scope `query` that provision registers"
    )
    playbook: Path = Field(ROOT / "deploy" / "playbook", description="folder of the playbook")
    host: str = Field("127.0.0.1", description="address a service listens on")
    port: int = Field(
        0, description=f"port a service listens on; 0 takes the service's own: {PORTS}"
    )
    public_url: str = Field(
        "http://127.0.0.1:8080",
        description="where people's browsers reach ingest, for links in mails",
    )
    ingest_url: str = Field(
        "", description="where `ripeline sources test` reaches ingest, if not at public_url"
    )
    allowed_pages: list[str] = Field(
        [], description="JSON list of address prefixes that a form's `_next` may name"
    )
    allowed_origins: list[str] = Field(
        ["*"], description="JSON list of origins whose pages may post by script"
    )
    trusted_proxies: list[str] = Field(
        [], description="JSON list of networks whose X-Forwarded-For is believed"
    )
    rate_per_key: str = Field(
        "20000/10seconds", description="requests of one key that are taken; '' sets no limit"
    )
    rate_per_address: str = Field(
        "1000/10seconds",
        description="requests of one address with a public key, or without a valid one",
    )
    header_seconds: float = Field(
        10, gt=0, description="a request whose headers take longer is cut off, and then a slow body"
    )
    form_tokens: Literal["optional", "required"] = Field(
        "optional", description="whether forms bring a signed `_token`"
    )
    imap_url: SecretStr = Field(
        SecretStr(""),
        description="imap[s]://user:password@host[:port]/FOLDER whose mail is read as replies",
    )
    imap_poll_s: float = Field(30, description="seconds between looks into that mailbox")
    spool_dir: Path = Field(
        Path("/var/lib/ripeline/spool"), description="where forms wait while the broker is away"
    )
    spool_max_bytes: int = Field(
        256 * 1024 * 1024, description="room of the spool; a full one answers 503"
    )
    smtp_url: SecretStr = Field(
        SecretStr("smtp://127.0.0.1:1025"), description="smtp[s]://[user:password@]host[:port]"
    )
    smtp_is_sink: bool = Field(
        False, description="true where that server is a local sink; `sample` items go only there"
    )
    mail_from: str = Field("Ripeline <nurture@localhost>", description="sender of mails")
    webhook_url: str = Field("", description="where touches of the channel `webhook` go, http(s)")
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="whsec_… that signs them (Standard Webhooks)"
    )
    crm_url: SecretStr = Field(
        SecretStr(""), description="where scores are written back to a CRM's flow, http(s)"
    )
    crm_secret: SecretStr = Field(
        SecretStr(""), description="whsec_… that signs them (Standard Webhooks)"
    )
    clock: str = Field(
        "", description="ORIGIN,DAYS,SECONDS[,AHEAD]: compressed or moved time; demo and test only"
    )
    batch: int = Field(4_000, description="most records of one consumed batch")
    poll_ms: int = Field(
        500, description="longest wait between looks at the outbox, due touches and due reviews"
    )
    sending_timeout_s: float = Field(
        20, description="a touch still on the wire after this is given up"
    )
    watchdog_s: float = Field(
        60, description="a loop without a turn for this long ends its process"
    )
    fault: str = Field(
        "", description="NAME:N, the named point at which a test kills the process; test only"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the JSON log"
    )

    @field_validator("clock")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            Clock.parse(value)
        except (TypeError, ValueError):
            raise ValueError(
                "write ORIGIN,DAYS,SECONDS or ORIGIN,DAYS,SECONDS,AHEAD, all numbers"
            ) from None
        return value

    @field_validator("rate_per_key", "rate_per_address")
    @classmethod
    def _countable(cls, value: str) -> str:
        try:
            sound = not value or parse(value).amount > 0
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(
                "write N/second, N/10seconds or N/minute, N at least 1, or nothing for no limit"
            )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ip_network(network)
        return value

    @model_validator(mode="after")
    def _only_in_tests(self) -> "Settings":
        if self.environment == "production" and (self.clock or self.fault):
            raise ValueError(
                "RIPELINE_CLOCK and RIPELINE_FAULT are for demo and test; unset "
                "them or RIPELINE_ENVIRONMENT"
            )
        return self

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "Settings":
        """The settings that these RIPELINE_ variables make, over those of our own environment."""
        given: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if (value := variables.get(f"RIPELINE_{name.upper()}")) is not None:
                given[name] = json.loads(value) if get_origin(field.annotation) is list else value
        return cls(**given)

    def port_of(self, service: str) -> int:
        """The port this service listens on."""
        return self.port or PORTS[service]
