"""All settings of all services: `RIPELINE_…` variables or secret files of the same name in lower
case.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, Self

from limits import parse
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from services.shared import urls
from services.shared.clock import Clock
from services.shared.errors import Reject
from services.shared.setting_texts import SecretFiles, Variables, as_meant, listed, receiver

PORTS = {"ingest": 8080, "scorer": 8081, "nurture": 8082}
ROOT = Path(__file__).resolve().parents[2]  # the folder that holds services and deploy
SECRETS = Path("/run/secrets")
NAMED = re.compile(r'"(\w+)"')
DNS_NAME = re.compile(r"[\w.-]{0,253}", re.ASCII)


class Settings(BaseSettings):
    """Read once in `__main__` and passed on; `ripeline settings` lists them with their values."""

    model_config = SettingsConfigDict(
        env_prefix="RIPELINE_",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        extra="ignore",
        enable_decoding=False,
        hide_input_in_errors=True,
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
    database_pool: int = Field(8, ge=1, description="connections a process")
    database_idle_s: float = Field(
        20, gt=0, description="a transaction that does nothing for this long is ended by PostgreSQL"
    )
    database_lock_s: float = Field(
        10, gt=0, description="a statement that waits longer for another's lock is tried again"
    )
    database_statement_s: float = Field(
        60, gt=0, description="a statement that takes longer is ended by PostgreSQL"
    )
    migration_wait_s: float = Field(
        300, gt=0, description="how long `provision` waits for locks of others before it gives up"
    )
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="host:port, comma-separated")
    kafka_session_timeout_ms: int = Field(
        10_000, ge=1, description="after this silence a consumer's partitions move on"
    )
    kafka_partitions: int = Field(
        8, ge=1, description="partitions of a topic that provision creates"
    )
    kafka_replication: int = Field(1, ge=1, description="copies of a topic that provision creates")
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
        0,
        ge=0,
        le=65535,
        description=f"port a service listens on; 0 takes the service's own: {PORTS}",
    )
    public_url: str = Field(
        "http://127.0.0.1:8080",
        description="where people's browsers reach ingest, for links in mails",
    )
    page_url: str = Field(
        "http://127.0.0.1:8081",
        description="where people's browsers reach the scorer's page, for links in mails to them",
    )
    ingest_url: str = Field(
        "", description="where `ripeline sources test` reaches ingest, if not at public_url"
    )
    nurture_url: str = Field(
        f"http://127.0.0.1:{PORTS['nurture']}",
        description="where the scorer reaches nurture, for what is planned and for programs",
    )
    allowed_pages: list[str] = Field(
        [], description="list (a, b or JSON) of address prefixes that a form's `_next` may name"
    )
    allowed_origins: list[str] = Field(
        ["*"], description="list (a, b or JSON) of origins whose pages may post by script"
    )
    trusted_proxies: list[str] = Field(
        [], description="list (a, b or JSON) of networks whose X-Forwarded-For is believed"
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
    dkim_domain: str = Field("", description="domain for which mails are signed (DKIM)")
    dkim_selector: str = Field("", description="selector under which its DKIM key stands in DNS")
    dkim_key_file: Path | None = Field(
        None, description="private key in PEM, RSA or Ed25519, that signs mails; none signs nothing"
    )
    resolver: str = Field(
        "", description="host:port of the DNS server that `ripeline mail check` asks; '' = system's"
    )
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
    handoff_url: str = Field(
        "", description="where steps of hand-offs go as signed webhooks, http(s)"
    )
    handoff_secret: SecretStr = Field(
        SecretStr(""), description="whsec_… that signs them (Standard Webhooks)"
    )
    private_receivers: list[str] = Field(
        [],
        description="list (a, b or JSON) of host, host:port or network inside our own network "
        "that webhooks may go to",
    )
    clock: str = Field(
        "", description="ORIGIN,DAYS,SECONDS[,AHEAD]: compressed or moved time; demo and test only"
    )
    batch: int = Field(4_000, ge=1, description="most records of one consumed batch")
    poll_ms: int = Field(
        500,
        ge=1,
        description="longest wait between looks at the outbox, due touches and due reviews",
    )
    sending_timeout_s: float = Field(
        20, gt=0, description="a touch still on the wire after this is given up"
    )
    watchdog_s: float = Field(
        60, gt=0, description="a loop without a turn for this long ends its process"
    )
    fault: str = Field(
        "", description="NAME:N, the named point at which a test kills the process; test only"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the JSON log"
    )

    @field_validator(
        "allowed_pages", "allowed_origins", "trusted_proxies", "private_receivers", mode="before"
    )
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A list as JSON, or with commas between."""
        return listed(value) if isinstance(value, str) else value

    @field_validator("environment", "kafka_compression", "form_tokens", "log_level", mode="before")
    @classmethod
    def _in_lower_case(cls, value: Any) -> Any:
        value = value.lower() if isinstance(value, str) else value
        return "warning" if value == "warn" else value

    @field_validator("database_url", "smtp_url", "imap_url", "crm_url")
    @classmethod
    def _secret_address(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        text = value.get_secret_value()
        return SecretStr(_ADDRESSES[str(info.field_name)](text)) if text else value

    @field_validator(
        "kafka_bootstrap", "public_url", "page_url", "ingest_url", "nurture_url", "webhook_url",
        "handoff_url",
    )  # fmt: skip
    @classmethod
    def _address(cls, value: str, info: ValidationInfo) -> str:
        return _ADDRESSES.get(str(info.field_name), urls.normal_http)(value) if value else value

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        urls.read_sender(value)
        return value

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
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(
                    "write networks such as 10.0.0.0/8, no bit set behind the length"
                ) from None
        return value

    @field_validator("private_receivers")
    @classmethod
    def _receivers(cls, value: list[str]) -> list[str]:
        for each in value:
            receiver(each)
        return value

    @model_validator(mode="after")
    def _only_in_tests(self) -> "Settings":
        if self.environment == "production" and (self.clock or self.fault):
            raise ValueError(
                "RIPELINE_CLOCK and RIPELINE_FAULT are for demo and test; unset "
                "them or RIPELINE_ENVIRONMENT"
            )
        return self

    @field_validator("dkim_key_file", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _whole_dkim(self) -> "Settings":
        given = (self.dkim_domain, self.dkim_selector, self.dkim_key_file)
        if any(given) and not all(given):
            raise ValueError(
                "RIPELINE_DKIM_DOMAIN, RIPELINE_DKIM_SELECTOR and RIPELINE_DKIM_KEY_FILE belong "
                "together; set all three or none"
            )
        for name in (self.dkim_domain, self.dkim_selector):
            if not DNS_NAME.fullmatch(name):
                raise ValueError(
                    "RIPELINE_DKIM_DOMAIN and RIPELINE_DKIM_SELECTOR are names of DNS, such as "
                    "mail.example.com and 2030a"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then variables, then files of secrets."""
        return init_settings, Variables(settings_cls), SecretFiles(settings_cls)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """The settings of the environment and the files of secrets. Raises Reject, with a sentence
        that names the variable and how to mend it, and shows no value.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            raise Reject("; ".join(map(_sentence, error.errors(include_input=False)))) from None
        except SettingsError as error:  # names the field, and shows nothing of it
            name = "".join(NAMED.findall(str(error))[:1])
            raise Reject(
                f"its file cannot be read ({type(error.__cause__).__name__})",
                where=f"RIPELINE_{name.upper()}",
                remedy=f"let this user read {SECRETS}/ripeline_{name}, as UTF-8",
            ) from None

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Self:
        """The settings that these RIPELINE_ variables make, over those of our own environment.
        Raises Reject like `read`.
        """
        names = {f"RIPELINE_{name.upper()}": name for name in cls.model_fields}
        return cls.read(
            **as_meant({names[name]: value for name, value in variables.items() if name in names})
        )

    def require_pepper(self) -> None:
        """Raises Reject in production without a pepper: whoever reads the source could sign
        links.
        """
        if self.environment == "production" and not self.pepper.get_secret_value():
            remedy = "set 32 random bytes as text (`openssl rand -base64 32`) and keep them"
            raise Reject("it is empty", where="RIPELINE_PEPPER", remedy=remedy)

    def port_of(self, service: str) -> int:
        """The port this service listens on."""
        return self.port or PORTS[service]


_ADDRESSES: dict[str, Callable[[str], str]] = {
    "database_url": urls.normal_database,
    "smtp_url": urls.normal_mail,
    "imap_url": urls.normal_mailbox,
    "crm_url": urls.normal_http,
    "kafka_bootstrap": urls.normal_servers,
}


def _sentence(error: Any) -> str:
    """One of pydantic's errors with its variable and what that takes."""
    name, message = "".join(map(str, error["loc"][:1])), str(error["msg"])
    if error["type"] == "value_error":
        message = message.removeprefix("Value error, ")
    else:
        meaning = Settings.model_fields[name].description
        message = f"{message[:1].lower()}{message[1:]}; it is: {meaning}"
    return f"RIPELINE_{name.upper()}: {message}" if name else message
