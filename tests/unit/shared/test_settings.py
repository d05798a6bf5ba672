"""Settings as people write them in a shell, in `.env` and in files of secrets: each works, or ends
in one sentence with its variable and a remedy, and no part of a secret.
"""

from pathlib import Path
from typing import Any

import pytest

from services.shared.errors import Reject
from services.shared.settings import Settings

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("PORT", "", 0),
        ("PORT", "  ", 0),
        ("PORT", '""', 0),
        ("PORT", " 8080 ", 8080),
        ("PORT", "'8080'", 8080),
        ("BATCH", '"100"', 100),
        ("WATCHDOG_S", "", 60),
        ("SMTP_IS_SINK", '"yes"', True),
        ("SMTP_IS_SINK", "", False),
        ("LOG_LEVEL", "INFO", "info"),
        ("LOG_LEVEL", "warn", "warning"),
        ("ENVIRONMENT", "Test", "test"),
        ("PLAYBOOK", "'/a/b'", Path("/a/b")),
        ("ALLOWED_PAGES", "", []),
        ("ALLOWED_PAGES", "https://a.example/x, 'https://b.example'", ["https://a.example/x", "https://b.example"]),
        ("ALLOWED_ORIGINS", '["https://a.example"]', ["https://a.example"]),
        ("ALLOWED_ORIGINS", "", ["*"]),
        ("TRUSTED_PROXIES", "10.0.0.0/8,::1", ["10.0.0.0/8", "::1"]),
        ("RATE_PER_KEY", "", ""),
        ("RATE_PER_ADDRESS", "' '", ""),
        ("PUBLIC_URL", "example.com/", "https://example.com"),
        ("PUBLIC_URL", "", "http://127.0.0.1:8080"),
        ("KAFKA_BOOTSTRAP", "kafka", "kafka:9092"),
        ("HOST", "", "127.0.0.1"),
        ("WEBHOOK_URL", "", ""),
    ],
)  # fmt: skip
def test_a_value_is_taken_as_it_is_meant(
    name: str, written: str, meant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RIPELINE_{name}", written)
    assert getattr(Settings.read(), name.lower()) == meant
    monkeypatch.delenv(f"RIPELINE_{name}")
    assert getattr(Settings.of({f"RIPELINE_{name}": written}), name.lower()) == meant


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("DATABASE_URL", f"'postgres://u:{SECRET}/@h/db?sslmode=prefer'", f"postgresql://u:{SECRET}%2F@h/db?sslmode=prefer"),
        ("SMTP_URL", f"u:{SECRET}@mail.example.com:587", f"smtp://u:{SECRET}@mail.example.com:587"),
        ("SMTP_URL", "", "smtp://127.0.0.1:1025"),
        ("CRM_URL", "crm.example/flow", "https://crm.example/flow"),
        ("PEPPER", f'"{SECRET}"', SECRET),
        ("IMAP_URL", "", ""),
    ],
)  # fmt: skip
def test_a_secret_is_taken_as_it_is_meant(
    name: str, written: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RIPELINE_{name}", written)
    settings = Settings.read()
    assert getattr(settings, name.lower()).get_secret_value() == meant
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("name", "written", "remedy"),
    [
        ("PORT", f"80{SECRET}", "it is: port a service listens on"),
        ("PORT", "70000", "less than or equal to 65535"),
        ("PORT", "-1", "greater than or equal to 0"),
        ("DATABASE_POOL", "0", "connections a process"),
        ("WATCHDOG_S", "0", "greater than 0"),
        ("SMTP_IS_SINK", SECRET, "true where that server is a local sink"),
        ("LOG_LEVEL", SECRET, "'debug', 'info', 'warning' or 'error'"),
        ("ALLOWED_PAGES", f'["{SECRET}', "write a, b, c or a JSON list"),
        ("ALLOWED_PAGES", "[1]", "list (a, b or JSON)"),
        ("TRUSTED_PROXIES", SECRET, "write networks such as 10.0.0.0/8"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:x/db",
         "after postgresql:// write user:password@"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h/db?pool={SECRET}", "take out pool"),
        ("SMTP_URL", f"http://u:{SECRET}@h", "begin it with smtp://"),
        ("IMAP_URL", f"imaps://{SECRET}", "after imaps:// write user:password@host/FOLDER"),
        ("CRM_URL", f"ftp://{SECRET}", "begin it with https://"),
        ("PUBLIC_URL", "ftp://h", "begin it with https://"),
        ("KAFKA_BOOTSTRAP", "a b", "write host:port"),
        ("MAIL_FROM", "nobody", "write NAME <address@domain>"),
        ("RATE_PER_KEY", SECRET, "write N/second"),
        ("CLOCK", SECRET, "write ORIGIN,DAYS,SECONDS"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_ends_in_one_sentence(
    name: str, written: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RIPELINE_{name}", written)
    with pytest.raises(Reject) as refused:
        Settings.read()
    sentence = str(refused.value)
    assert sentence.startswith(f"RIPELINE_{name}: ")
    assert remedy in sentence
    assert SECRET not in sentence
    assert "\n" not in sentence


def test_each_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPELINE_PORT", "x")
    monkeypatch.setenv("RIPELINE_BATCH", "y")
    with pytest.raises(Reject, match=r"RIPELINE_PORT: .*; RIPELINE_BATCH: "):
        Settings.read()


@pytest.mark.parametrize("given", [{"RIPELINE_FAULT": "x:1"}, {"RIPELINE_CLOCK": "0,0,0"}])
def test_what_tests_need_is_refused_in_production(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RIPELINE_ENVIRONMENT", raising=False)
    with pytest.raises(Reject, match="RIPELINE_CLOCK and RIPELINE_FAULT are for demo and test"):
        Settings.of(given)


@pytest.mark.parametrize("blank", ["", " ", "''"])
def test_an_empty_pepper_is_refused_in_production_alone(
    blank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIPELINE_PEPPER", blank)
    monkeypatch.setenv("RIPELINE_ENVIRONMENT", "production")
    with pytest.raises(Reject, match="RIPELINE_PEPPER: it is empty: set 32 random bytes"):
        Settings.read().require_pepper()
    Settings.of({"RIPELINE_ENVIRONMENT": "demo"}).require_pepper()
    Settings.of({"RIPELINE_PEPPER": "p"}).require_pepper()


class InFiles(Settings):
    """Settings that look for secrets in a folder of the test."""


def test_files_of_secrets_may_end_in_a_line_end_and_count_where_a_variable_is_blank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ripeline_pepper").write_text(f"{SECRET}\n")
    (tmp_path / "ripeline_database_password").write_text('" p@ "\r\n')
    (tmp_path / "ripeline_crm_secret").write_text("")
    monkeypatch.setenv("RIPELINE_PEPPER", "")
    monkeypatch.setitem(InFiles.model_config, "secrets_dir", tmp_path)
    settings = InFiles.read()
    assert settings.pepper.get_secret_value() == SECRET
    assert settings.database_password.get_secret_value() == "p@"
    assert settings.crm_secret.get_secret_value() == ""
    monkeypatch.setenv("RIPELINE_PEPPER", "of the variable")
    assert InFiles.read().pepper.get_secret_value() == "of the variable"


def test_a_file_of_secrets_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ripeline_pepper").write_bytes(b"\xff\xfe\x80")
    monkeypatch.setitem(InFiles.model_config, "secrets_dir", tmp_path)
    with pytest.raises(Reject, match="RIPELINE_PEPPER: its file cannot be read"):
        InFiles.read()
