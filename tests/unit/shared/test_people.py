"""Rules for people: passwords, roles, the addresses of links, cells of the audit log's CSV."""

import asyncio
import csv
import io
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import Request

from services.scorer.ui.frame import own_path
from services.shared.errors import Reject
from services.shared.http.acting import acting, acts, check_role
from services.shared.http.keys import ApiKey
from services.shared.people.audit import Actor, command_line
from services.shared.people.audit_log import AuditLine, _cells
from services.shared.people.mail import address_of
from services.shared.people.passwords import AT_ONCE, WAITING, Passwords, check_password
from services.shared.people.roles import ROLES, Role
from services.shared.settings import Settings
from services.shared.spreadsheet import csv_of

ANNA = "01900000-0000-7000-8000-000000000001"
WORDS = "garden winter bicycle seven"


async def test_a_password_is_kept_as_argon2id_and_known_again() -> None:
    passwords = Passwords()
    stored = await passwords.hash(WORDS)
    assert re.fullmatch(r"\$argon2id\$v=19\$m=65536,t=3,p=4\$.+", stored)
    assert stored != await passwords.hash(WORDS), "salted"
    assert await passwords.is_right(stored, WORDS)
    assert not await passwords.is_right(stored, WORDS.upper())
    assert not passwords.is_outdated(stored)
    assert passwords.is_outdated("$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA")


async def test_it_is_the_same_however_a_keyboard_composes_it() -> None:
    passwords = Passwords()
    stored = await passwords.hash("caf\u00e9 winter seven")
    assert await passwords.is_right(stored, "cafe\u0301 winter seven")


async def test_nobodys_password_is_never_right_and_costs_as_much() -> None:
    """A hash of the same parameters is tried, so that time tells nothing of who is known."""
    passwords = Passwords()
    made_up, stored = passwords._nobodys, await passwords.hash(WORDS)
    assert made_up.rpartition("$")[0].rpartition("$")[0] == "$argon2id$v=19$m=65536,t=3,p=4"
    assert len(made_up) == len(stored)
    for given in ("", WORDS, made_up):
        assert not await passwords.is_right(None, given)
    assert passwords._nobodys != Passwords()._nobodys


async def test_only_so_many_wait() -> None:
    """Whoever comes beyond is told so, and the event loop goes on meanwhile."""
    passwords = Passwords()
    tries = [passwords.is_right(None, str(n)) for n in range(AT_ONCE + WAITING + 3)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    refused = [one for one in found if isinstance(one, Reject)]
    assert [error.kind for error in refused] == ["too-many"] * 3
    assert found.count(False) == AT_ONCE + WAITING
    assert not await passwords.is_right(None, "later")


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("eleven char", "12 to 200 characters, this one 11"),
        ("", "this one 0"),
        ("x" * 201, "this one 201"),
        ("Anna.Berg@firm.example", "the mail address"),
        ("aaaaaaaaaaaa", ""),
        ("twelve chars", ""),
        ("пароль из слов", ""),
    ],
)
def test_a_password_is_long_and_otherwise_free(password: str, says: str) -> None:
    if not says:
        return check_password(password, "anna.berg@firm.example")
    with pytest.raises(Reject, match=says):
        check_password(password, "anna.berg@firm.example")
    return None


def test_a_link_leads_to_the_page_of_the_settings_and_on_to_a_page_of_ours() -> None:
    settings = Settings(page_url="https://leads.firm.example/")
    plain = urlsplit(address_of(settings, "abc"))
    assert (plain.netloc, plain.path, plain.query) == (
        "leads.firm.example", "/sign-in/link", "token=abc",
    )  # fmt: skip
    onward = parse_qs(urlsplit(address_of(settings, "abc", "/mail?before=1&x=2")).query)
    assert onward == {"token": ["abc"], "to": ["/mail?before=1&x=2"]}


@pytest.mark.parametrize(
    "place", ["https://evil.example", "//evil.example", "/\\evil.example", "/people/../x", "/leads"]
)
def test_no_link_leads_elsewhere(place: str) -> None:
    assert own_path(place) == "/"


@pytest.mark.parametrize(
    ("place", "page"),
    [
        (f"/people/{ANNA}/role", "/people"),
        (f"/people/{ANNA}/disable", "/people"),
        (f"/people/sessions/{ANNA}/end", "/people"),
        ("/people/password", "/people"),
        (
            "/reports/content/leads?table=items&cursor=a",
            "/reports/content/leads?table=items&cursor=a",
        ),
    ],
)
def test_a_form_leads_back_to_its_page(place: str, page: str) -> None:
    assert own_path(place) == page


@pytest.mark.parametrize("role", ROLES)
def test_a_role_passes_where_it_is_named(role: Role) -> None:
    actor = Actor("person", "1", "Anna", role)
    check_role(actor, role, keys=False)
    others = [other for other in ROLES if other != role]
    with pytest.raises(Reject, match=f"a person of the role {role} may not do this") as refused:
        check_role(actor, *others)
    assert refused.value.kind == "forbidden"


def test_a_key_passes_unless_only_people_may() -> None:
    key = Actor("key", "1a", "crm")
    check_role(key, "admin")
    with pytest.raises(Reject, match="a key may not do this"):
        check_role(key, "admin", keys=False)
    with pytest.raises(Reject):
        check_role(command_line(), "admin")


async def test_who_acts_is_named_as_the_log_shows_it() -> None:
    request = Request({"type": "http", "headers": []})
    acts(request, ApiKey("1a2b", "crm", "query", b"", None))
    actor = await acting(request)
    assert (str(actor), actor.id, actor.role) == ("key crm", "1a2b", None)
    assert str(Actor("person", "1", "Anna Berg", "sales")) == "Anna Berg"
    assert str(command_line()).startswith("command line")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_cell_is_a_formula(name: str) -> None:
    line = AuditLine(1, "2026-11-02T09:14:31Z", "person", "1", name, "note", "lead 1", {})
    [read] = csv.reader(io.StringIO(csv_of([_cells(line)]), newline=""))
    assert read[4] == f"'{name}"
    assert read[7] == "{}"
