"""Who may do what: the table of docs/security.md against every route of every service."""

import re
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.importing.page import COOKIE as IMPORT_COOKIE
from services.ingest.wiring import wire
from services.nurture.api import create_app as nurture
from services.nurture.calls import Calls
from services.nurture.library import ContentLibrary
from services.nurture.planned import PlannedTouches
from services.nurture.rules.decision import Rules
from services.scorer.api import create_app as scorer
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.http.sessions import Sessions
from services.shared.http.signin import COOKIE, PageSessions
from services.shared.messaging.kafka import Publisher
from services.shared.people import sign_in, store
from services.shared.people.audit import command_line
from services.shared.people.roles import ROLES
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT, Settings

ROUTE = re.compile(r"`(GET|POST|OPTIONS) (/[^`]*)`")
SCOPES = ("public", "secret", "query")
SERVICES = ("ingest", "scorer", "nurture")
DISABLED, SIGN_IN = "disabled", 0
# forms that would do something without a field; what is in them is looked at after who sends them
WRONG = {"/rehearsal": {"leads": "none"}}


class Row(NamedTuple):
    """What the table says of a route: the keys that it takes, and the people."""

    service: str
    method: str
    path: str
    keys: str
    people: str

    @property
    def is_open(self) -> bool:
        """Whether nothing depends on who is signed in, or on a key in the header."""
        return not self.admitted

    @property
    def admitted(self) -> set[str]:
        """Scopes and roles that pass."""
        scopes = set(self.keys.split(", ")) & set(SCOPES)
        return (scopes if scopes == set(self.keys.split(", ")) else set()) | (
            set(self.people.split(", ")) & set(ROLES)
        )


def table() -> Iterator[Row]:
    """The rows, one for each route that they name."""
    text = (ROOT / "docs" / "security.md").read_text()
    _, _, rest = text.partition("| service | routes | keys | people |\n")
    for line in rest.partition("\n\n")[0].splitlines()[1:]:
        service, routes, keys, people = (cell.strip() for cell in line.strip("|").split("|"))
        for method, path in ROUTE.findall(routes):
            yield Row(service, method, path, keys, people)


ROWS = list(table())


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every method and path that an application serves."""
    return set(_walk(app.routes, ""))


def _walk(found: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for route in found:
        if hasattr(route, "original_router"):
            inner = prefix + route.include_context.prefix
            yield from _walk(route.original_router.routes, inner)
        else:
            for method in set(route.methods or ()) - {"HEAD"}:
                yield method, prefix + route.path


class Bench:
    """The applications, and one of everybody."""

    def __init__(self, settings: Settings, engine: AsyncEngine, playbook: Playbook) -> None:
        self._engine, self._pepper = engine, settings.pepper.get_secret_value().encode()
        self._keys, self._ingest = ApiKeys(engine), wire(settings)
        settings = settings.model_copy(update={"nurture_url": ""})  # pages that ask it say so
        scoring, publisher = Scoring.of(playbook, Clock()), Publisher(settings)
        calls = Calls(engine, Clock(), lambda: None)
        rules = Rules.of(playbook, sink=True)
        planned = PlannedTouches(engine, rules, Clock(), self._pepper, lambda: None)
        library = ContentLibrary(settings, engine, playbook, Clock())
        self.apps = {
            "ingest": self._ingest.app(),
            "scorer": scorer(settings, engine, scoring, self._keys, dict, publisher),
            "nurture": nurture(settings, engine, self._keys, dict, calls, planned, library),
        }
        page = PageSessions(self._keys, self._pepper)
        self._sessions = Sessions(page, self._pepper, engine)
        self._given: dict[str, str] = {}
        self._people: dict[str, store.Person] = {}

    async def open(self) -> None:
        """Makes a key of each scope, a person of each role, and one who is disabled."""
        for scope in SCOPES:
            self._given[scope] = new_key()
            await register(self._engine, self._given[scope], scope, scope)
        for keys in (self._keys, self._ingest.parts.keys, self._ingest.parts.secrets):
            await keys.load()
        for name in (*ROLES, DISABLED):
            role = name if name in ROLES else "admin"
            async with self._engine.begin() as connection:
                self._people[name] = await store.add(
                    connection, command_line(), name, f"{name}@firm.example", role
                )
        async with self._engine.begin() as connection:
            await store.disable(connection, command_line(), f"{DISABLED}@firm.example")

    async def statuses(self, service: str, method: str, path: str) -> dict[str, int]:
        """The status that everybody gets; SIGN_IN where they are sent to sign in."""
        place = re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
        found = {}
        for name in ("nobody", *self._given, *self._people):
            if path == "/stream" and name in (*ROLES, "query"):
                continue  # it does not end
            key = self._given.get(name, "")
            cookies = await self._cookies(name, key)
            shown = self._sessions.ticket(cookies[COOKIE]) if name in self._people else key
            headers = {"Sec-Fetch-Site": "same-origin"}
            headers |= {"Authorization": f"Bearer {shown}"} if shown else {}
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.apps[service]),
                base_url="http://page",
                headers=headers,
                cookies=cookies,
            ) as http:
                answer = await http.request(method, place, data=WRONG.get(path))
            sent_away = answer.headers.get("location", "").startswith(("/sign-in", "/import/sign"))
            found[name] = SIGN_IN if sent_away else answer.status_code
        return found

    async def _cookies(self, name: str, key: str) -> dict[str, str]:
        """Those of a session that begins now: some routes end it."""
        if name == "query":
            return {COOKIE: PageSessions(self._keys, self._pepper).sign_in(key)}
        if name == "secret":
            return {IMPORT_COOKIE: PageSessions(self._keys, self._pepper, "secret").sign_in(key)}
        if name not in self._people:
            return {}
        async with self._engine.begin() as connection:
            # of the disabled person too, as if the end of one had been missed
            person = self._people[name].id
            session = await sign_in.begin_session(connection, person, "link", "")
        return {COOKIE: self._sessions.cookie(session)}


@pytest.mark.parametrize("service", SERVICES)
async def test_every_route_admits_whom_the_table_names_and_nobody_else(
    service: str, settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """Every route of the application has a row, every row a route; then everybody asks."""
    bench = Bench(settings, engine, default_playbook)
    await bench.open()
    rows = {(row.method, row.path): row for row in ROWS if row.service == service}
    assert routes(bench.apps[service]) == set(rows), "the table of docs/security.md"
    wrong = []
    for (method, path), row in rows.items():
        statuses = await bench.statuses(service, method, path)
        if row.is_open:  # to all alike: what counts is in the request, not who sends it
            if len(set(statuses.values()) - {429}) != 1:
                wrong.append((method, path, statuses))
            continue
        admitted = {name for name, status in statuses.items() if status not in (SIGN_IN, 401, 403)}
        if admitted != row.admitted & set(statuses):
            wrong.append((method, path, statuses))
    assert wrong == []


def test_the_table_names_every_role_and_scope() -> None:
    """A word that means nothing would let a row say less than it seems to."""
    for row in ROWS:
        assert row.service in SERVICES
        assert row.people in ("–", "anybody") or set(row.people.split(", ")) <= set(ROLES), row
    assert len({row[:3] for row in ROWS}) == len(ROWS)
