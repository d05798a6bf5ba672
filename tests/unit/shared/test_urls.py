"""Addresses as people write them: each is understood, or refused without showing a secret."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared import urls

SIGNS = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F), min_size=1, max_size=30)
SECRET = "s3cret"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("postgresql://u:p@h:5433/db", "postgresql://u:p@h:5433/db"),
        ("postgres://u:p@h/db", "postgresql://u:p@h/db"),
        ("postgresql+asyncpg://u:p@h/db/", "postgresql://u:p@h/db"),
        ("u:p@h/db", "postgresql://u:p@h/db"),
        ("postgresql://h/db", "postgresql://h/db"),
        ("postgresql://u:a@b/c?d#e%f@h/db", "postgresql://u:a%40b%2Fc%3Fd%23e%25f@h/db"),
        ("postgresql://u:a%40b@h/db", "postgresql://u:a%40b@h/db"),
        ("postgresql://u:12?a=b@h/db", "postgresql://u:12%3Fa%3Db@h/db"),
        ("postgresql://u:5432/x@h/db", "postgresql://u:5432%2Fx@h/db"),
        ("postgresql://u@h1:1,h2:2/db", "postgresql://u@h1:1,h2:2/db"),
        ("postgresql://u@[::1]:5432/db", "postgresql://u@[::1]:5432/db"),
        ("postgresql://h/db?sslmode=require", "postgresql://h/db?sslmode=require"),
        ("postgresql://h/db?ssl=true", "postgresql://h/db?sslmode=require"),
        ("postgresql://h/db?sslmode=&keepalives=1&gssencmode=disable", "postgresql://h/db"),
        ("postgresql://h/db?channel_binding=prefer", "postgresql://h/db"),
        ("postgresql://u@h/db?application_name=a@b", "postgresql://u@h/db?application_name=a%40b"),
        ("postgresql:///db?host=/run/pg", "postgresql:///db?host=%2Frun%2Fpg"),
    ],
)
def test_a_database_is_found_where_it_is_meant(written: str, meant: str) -> None:
    assert urls.normal_database(written) == meant
    assert urls.normal_database(meant) == meant


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        (f"mysql://u:{SECRET}@h/db", "begin it with postgresql://"),
        (f"postgresql://u:{SECRET}@h:99999/db", "the port as a number"),
        (f"postgresql://u:{SECRET}@h:port/db", "the port as a number"),
        (f"postgresql://u:{SECRET} @h/db", "without blanks"),
        (f"postgresql://u:{SECRET}@h/db?pool=3", "take out pool; after the ? may stand"),
        (f"postgresql://u:{SECRET}@h/db?sslmode=on", "sslmode takes disable, allow"),
        (f"postgresql://u:{SECRET}@h/db?target_session_attrs=x", "takes any, read-write"),
        (f"postgresql://u:{SECRET}@h/db?connect_timeout=soon", "takes whole seconds"),
        (f"postgresql://u:{SECRET}@h/db?sslrootcert=/no/file", "names a file that is not there"),
        (f"postgresql://u:{SECRET}@h/db?channel_binding=require", "take out channel_binding"),
    ],
)
def test_what_is_no_database_is_refused_with_a_remedy(written: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy)) as refused:
        urls.normal_database(written)
    assert SECRET not in str(refused.value)


@given(user=SIGNS.filter(lambda text: ":" not in text), password=SIGNS)
def test_any_user_and_password_survive_being_encoded(user: str, password: str) -> None:
    address = urls.Address("postgresql", user, password, "h:1", "/db?sslmode=require")
    assert urls.read_address(str(address), ("postgresql",), "postgresql") == address


@given(password=SIGNS.filter(lambda text: "%" not in text))
def test_any_raw_password_is_understood_before_a_host_with_a_name(password: str) -> None:
    """But for an `@` that a host could follow, and its rest, it is what a strict reader takes."""
    written = f"postgresql://owner:{password}@db.example:5432/leads"
    found = urls.read_address(written, ("postgresql",), "postgresql")
    assert (found.user, found.password, found.place) == ("owner", password, "db.example:5432")


def test_what_asyncpg_does_not_read_is_taken_out_of_its_address() -> None:
    normal = urls.normal_database("postgresql://u@h/db?connect_timeout=3&application_name=x")
    assert urls.DatabaseAddress.of(normal, "p@") == (
        "postgresql://u:p%40@h/db?application_name=x",
        3,
        True,
    )
    given = urls.normal_database("postgresql://u:own@h/db")
    assert urls.DatabaseAddress.of(given, "other").dsn == "postgresql://u:own@h/db"


@pytest.mark.parametrize(
    ("read", "written", "meant"),
    [
        (urls.normal_mail, "mail.example.com:587", "smtp://mail.example.com:587"),
        (urls.normal_mail, "mail.example.com:465", "smtps://mail.example.com:465"),
        (urls.normal_mail, "smtp://mail.example.com:465", "smtp://mail.example.com:465"),
        (urls.normal_mail, "ann@a.example:p/w@m.example", "smtp://ann%40a.example:p%2Fw@m.example"),
        (urls.normal_http, "example.com", "https://example.com"),
        (urls.normal_http, "localhost:8080/", "http://localhost:8080"),
        (urls.normal_http, "http://example.com/a/", "http://example.com/a"),
        (urls.normal_servers, "a", "a:9092"),
        (urls.normal_servers, " a:1, b:2,", "a:1,b:2"),
        (urls.normal_servers, "PLAINTEXT://kafka:9092/", "kafka:9092"),
        (urls.normal_mailbox, "ann@a.example:p@m.example/IN", "imaps://ann%40a.example:p@m.example/IN"),
    ],
)  # fmt: skip
def test_an_address_without_scheme_has_the_usual_one(
    read: Callable[[str], str], written: str, meant: str
) -> None:
    assert read(written) == read(meant) == meant


@pytest.mark.parametrize(
    ("read", "written"),
    [
        (urls.normal_mail, "smtp://"),
        (urls.normal_mail, "http://mail.example.com"),
        (urls.normal_mail, "smtp://h:70000"),
        (urls.normal_http, "ftp://example.com"),
        (urls.normal_http, "https://"),
        (urls.normal_http, "exa mple.com"),
        (urls.normal_servers, "a b"),
        (urls.normal_servers, ","),
        (urls.normal_mailbox, "mail.example"),
    ],
)
def test_what_leads_nowhere_is_refused(read: Callable[[str], str], written: str) -> None:
    with pytest.raises(ValueError, match=r"write|begin"):
        read(written)
