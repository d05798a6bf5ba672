"""Signing in by name, the pages of people and of the audit log, on a real database and a real mail
server, in process.
"""

import asyncio
import csv
import io
import re
import uuid
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.api import create_app
from services.scorer.scoring import Scoring
from services.scorer.ui.sign_in import USED
from services.shared.db import rows
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging.kafka import Publisher
from services.shared.people import sign_in, store
from services.shared.people.audit import Actor, command_line, record
from services.shared.people.store import Person
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present
from tests.support.smtp_server import SmtpServer

WORDS, OTHER_WORDS = "garden winter bicycle seven", "lantern river copper noon"
LINK = re.compile(rb"http://127\.0\.0\.1:8081(/sign-in/link\?\S+)")
AT = re.compile(r'data-now="\d+"')  # when the page was made
OWN = {"Sec-Fetch-Site": "same-origin"}


class Site:
    """A scorer with its page, a mail server, and browsers that visit."""

    def __init__(self, settings: Settings, engine: AsyncEngine, playbook: Playbook) -> None:
        self.engine, self.keys, self.key = engine, ApiKeys(engine), new_key()
        scoring = Scoring.of(playbook, present.CLOCK)
        self.app = create_app(settings, engine, scoring, self.keys, dict, Publisher(settings))
        self._browsers: list[httpx.AsyncClient] = []

    def browser(self, **options: Any) -> httpx.AsyncClient:
        """A browser in which nobody is signed in."""
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=options.pop("client", ("127.0.0.1", 1))),
            base_url="http://page",
            headers=OWN | options,
        )
        self._browsers.append(client)
        return client

    async def open(self) -> None:
        await register(self.engine, self.key, "first hour", "query")
        await self.keys.load()

    async def close(self) -> None:
        for browser in self._browsers:
            await browser.aclose()

    async def person(self, role: str = "sales", name: str = "Anna Berg") -> Person:
        mail = f"{uuid.uuid4().hex[:8]}@firm.example"
        async with self.engine.begin() as connection:
            return await store.add(connection, command_line(), name, mail, role)

    async def signed_in(self, person: Person, mails: SmtpServer) -> httpx.AsyncClient:
        """A browser in which this person has signed in by a link."""
        browser = self.browser()
        before = len(mails.mails)
        await browser.post("/sign-in/mail", data={"mail": person.mail})
        place = urlsplit(await arrived(mails, person.mail, before))
        token = parse_qs(place.query)["token"][0]
        assert (await browser.post("/sign-in/link", data={"token": token})).status_code == 303
        return browser

    async def log(self) -> list[tuple[str, str, str]]:
        async with self.engine.connect() as connection:
            found = await rows(connection, "SELECT actor, action, subject FROM access.audit")
        return [tuple(row) for row in found]


async def arrived(mails: SmtpServer, address: str, before: int = 0) -> str:
    """The address of the newest link that was mailed to somebody after the first mails."""
    async with asyncio.timeout(10):
        while True:
            for raw in reversed(mails.mails[before:]):
                if f"To: {address}".encode() in raw and (link := LINK.search(raw)):
                    return link[1].decode()
            await asyncio.sleep(0.02)


@pytest.fixture
async def mails() -> AsyncIterator[SmtpServer]:
    server = SmtpServer()
    server.url = f"smtp://{await server.start()}"  # type: ignore[attr-defined]
    yield server
    server.close()


@pytest.fixture
async def site(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook, mails: SmtpServer
) -> AsyncIterator[Site]:
    by_mail = Settings(**(settings.model_dump() | {"smtp_url": mails.url}))  # type: ignore[attr-defined]
    site = Site(by_mail, engine, default_playbook)
    await site.open()
    yield site
    await site.close()


async def test_a_mailed_link_signs_in_once_and_looking_at_it_does_not(
    site: Site, mails: SmtpServer
) -> None:
    anna, browser = await site.person(), site.browser()
    data = {"mail": anna.mail.upper(), "to": "/mail"}
    assert (await browser.post("/sign-in/mail", data=data)).status_code == 200
    place = await arrived(mails, anna.mail)
    mail = message_from_bytes(mails.mails[-1], policy=policy.default)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "Hello Anna Berg" in mail.get_content()
    for scanner in range(3):  # what looks into mails fetches links
        looked = await site.browser(**{"User-Agent": f"scanner {scanner}"}).get(place)
        assert looked.status_code == 200
        assert "set-cookie" not in looked.headers
    form = {name: values[0] for name, values in parse_qs(urlsplit(place).query).items()}
    answer = await browser.post("/sign-in/link", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/mail")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie, "over http"
    assert form["token"] not in cookie
    assert "Anna Berg" in (await browser.get("/people")).text
    again = await site.browser().post("/sign-in/link", data=form)
    assert again.status_code == 401
    assert USED.title[1:] in again.text
    assert (anna.name, "sign-in", f"person {anna.id}") in await site.log()


async def test_the_answer_does_not_tell_who_is_known(site: Site, mails: SmtpServer) -> None:
    """Neither for links nor for passwords, and not for somebody who is disabled."""
    anna, bert = await site.person("admin"), await site.person(name="Bert")
    async with site.engine.begin() as connection:
        await store.disable(connection, command_line(), bert.id)
    answers = []
    for address in (anna.mail, bert.mail, "nobody@firm.example", "no address", ""):
        browser = site.browser()
        link = await browser.post("/sign-in/mail", data={"mail": address})
        tried = await browser.post(
            "/sign-in/password", data={"mail": address, "password": "not the password"}
        )
        answers.append(
            [(one.status_code, AT.sub("", one.text), sorted(one.headers)) for one in (link, tried)]
        )
    assert all(answer == answers[0] for answer in answers)
    assert [status for status, _, _ in answers[0]] == [200, 401]
    await arrived(mails, anna.mail)
    await asyncio.sleep(0.1)
    assert len(mails.mails) == 1


async def test_a_password_is_set_on_the_page_and_signs_in(site: Site, mails: SmtpServer) -> None:
    anna = await site.person()
    browser = await site.signed_in(anna, mails)
    short = await browser.post("/people/password", data={"password": "short"})
    assert (short.status_code, "12 to 200 characters" in short.text) == (400, True)
    assert (await browser.post("/people/password", data={"password": WORDS})).status_code == 303
    other = site.browser()
    wrong = await other.post("/sign-in/password", data={"mail": anna.mail, "password": "x" * 12})
    assert (wrong.status_code, other.cookies) == (401, httpx.Cookies())
    right = {"mail": anna.mail, "password": WORDS, "to": "//evil.example"}
    answer = await other.post("/sign-in/password", data=right)
    assert (answer.status_code, answer.headers["location"]) == (303, "/today")
    assert (await other.get("/people")).status_code == 200
    # signed in by the password, its change asks for it, and ends the session that began by link
    unproved = await other.post("/people/password", data={"password": OTHER_WORDS})
    assert (unproved.status_code, "current password" in unproved.text) == (400, True)
    proved = {"password": OTHER_WORDS, "current": WORDS}
    assert (await other.post("/people/password", data=proved)).status_code == 303
    assert (await other.get("/people")).status_code == 200
    assert (await browser.get("/people")).headers["location"] == "/sign-in?to=/people"
    async with site.engine.connect() as connection:
        (stored,) = await rows(connection, "SELECT password FROM access.person")
    assert stored.password.startswith("$argon2id$")


async def test_who_is_disabled_is_signed_out_at_once(site: Site, mails: SmtpServer) -> None:
    anna, boss = await site.person(), await site.person("admin", "Ida Boss")
    browser, of_boss = await site.signed_in(anna, mails), await site.signed_in(boss, mails)
    assert (await browser.get("/")).status_code == 200
    done = await of_boss.post(f"/people/{anna.id}/disable")
    assert (done.status_code, done.headers["location"]) == (303, "/people")
    assert (await browser.get("/")).headers["location"] == "/sign-in?to=/"
    assert (await browser.get("/stream")).status_code == 401
    refused = await of_boss.post(f"/people/{boss.id}/disable")
    assert (refused.status_code, "is the last admin" in refused.text) == (400, True)
    assert (boss.name, "person", f"person {anna.id}") in await site.log()


async def test_sessions_are_shown_and_ended_by_whom_they_belong_to(
    site: Site, mails: SmtpServer
) -> None:
    anna, bert = await site.person(), await site.person(name="Bert Klein")
    boss = await site.person("admin", "Ida Boss")
    first, second = await site.signed_in(anna, mails), await site.signed_in(anna, mails)
    of_bert, of_boss = await site.signed_in(bert, mails), await site.signed_in(boss, mails)
    page = (await second.get("/people")).text
    ends = re.findall(r'action="(/people/sessions/[0-9a-f-]{36}/end)"', page)
    assert len(ends) == 2, "one's own only"
    assert len(re.findall(r"/end\"", (await of_boss.get("/people")).text)) == 4
    async with site.engine.connect() as connection:
        (older,) = await rows(
            connection,
            "SELECT id FROM access.session WHERE person_id = :id ORDER BY began_at LIMIT 1",
            id=anna.id,
        )
    end = f"/people/sessions/{older.id}/end"
    assert end in ends
    assert (await of_bert.post(end)).status_code == 404
    assert (await first.get("/mail")).status_code == 200
    assert (await second.post(end)).status_code == 303
    assert (await first.get("/mail")).status_code == 303
    await second.post("/sign-out")
    async with site.engine.connect() as connection:
        assert len(await rows(connection, "SELECT 1 FROM access.session")) == 2


async def test_an_admin_adds_people_who_get_a_link(site: Site, mails: SmtpServer) -> None:
    browser = await site.signed_in(await site.person("admin", "Ida Boss"), mails)
    page = (await browser.get("/people")).text
    assert "Add somebody" in page
    added = {"name": "<b>Carl</b>", "mail": "carl@firm.example", "role": "marketing"}
    assert (await browser.post("/people", data=added)).status_code == 303
    assert "&lt;b&gt;Carl&lt;/b&gt;" in (await browser.get("/people")).text
    await arrived(mails, "carl@firm.example")
    twice = await browser.post("/people", data=added)
    assert (twice.status_code, "may sign in already" in twice.text) == (400, True)
    async with site.engine.connect() as connection:
        carl = await store.person(connection, "carl@firm.example")
    await browser.post(f"/people/{carl.id}/role", data={"role": "sales"})
    async with site.engine.connect() as connection:
        assert (await store.person(connection, carl.id)).role == "sales"
    wrong = await browser.post(f"/people/{carl.id}/role", data={"role": "boss"})
    assert (wrong.status_code, "Add somebody" in wrong.text) == (400, True)
    unknown = await browser.post(f"/people/{uuid.uuid4()}/disable")
    assert (unknown.status_code, "Add somebody" in unknown.text) == (404, True)


@pytest.mark.parametrize(
    "path",
    [
        "/sign-in",
        "/sign-in/mail",
        "/sign-in/link",
        "/sign-in/password",
        "/sign-out",
        "/people",
        "/find",
        "/sending",
        "/planned",
    ],
)
async def test_forms_of_other_sites_are_refused(site: Site, path: str) -> None:
    browser = site.browser(**{"Sec-Fetch-Site": "cross-site"})
    await browser.get("/sign-in", params={"key": site.key})
    answer = await browser.post(path, data={"mail": "a@firm.example", "token": "x"})
    assert answer.status_code == 403


def guess(site: Site, path: str, mail: str, host: str) -> Any:
    """Somebody at a host asks for a link, or tries a password."""
    browser = site.browser(client=(host, 1))
    return browser.post(path, data={"mail": mail, "password": "not it, surely"})


async def test_guessing_ends_for_an_address_and_for_a_client(site: Site) -> None:
    def ask(path: str, mail: str, host: str) -> Any:
        return guess(site, path, mail, host)

    by_link = [(await ask("/sign-in/mail", "A@x.example", "10.0.0.1")) for _ in range(6)]
    assert [answer.status_code for answer in by_link] == [200] * 5 + [429]
    assert "quarter of an hour" in by_link[-1].text
    tries = [(await ask("/sign-in/password", "a@x.example", "10.1.0.1")) for _ in range(11)]
    assert [answer.status_code for answer in tries] == [401] * 10 + [429]
    assert (await ask("/sign-in/mail", "b@x.example", "10.0.0.1")).status_code == 200
    client = [(await ask("/sign-in/mail", f"{n}@x.example", "10.9.9.9")) for n in range(101)]
    assert [answer.status_code for answer in client] == [200] * 100 + [429]


async def test_guessing_elsewhere_locks_nobody_out(site: Site, mails: SmtpServer) -> None:
    """Neither from signing in nor from changing the password; many networks together end it."""
    anna = await site.person()
    owner = await site.signed_in(anna, mails)
    assert (await owner.post("/people/password", data={"password": WORDS})).status_code == 303
    for _ in range(10):
        await guess(site, "/sign-in/password", anna.mail, "10.0.0.1")
    right = {"mail": anna.mail, "password": WORDS}
    browser = site.browser(client=("10.0.0.2", 1))
    assert (await browser.post("/sign-in/password", data=right)).status_code == 303
    same = site.browser(client=("10.0.0.1", 1))
    assert (await same.post("/sign-in/password", data=right)).status_code == 429
    change = {"password": OTHER_WORDS, "current": "not it, surely"}
    tries = [await browser.post("/people/password", data=change) for _ in range(11)]
    assert [answer.status_code for answer in tries] == [400] * 10 + [429]
    links = [
        (await guess(site, "/sign-in/mail", "a@x.example", f"10.2.{n}.1")).status_code
        for n in range(11)
        for _ in range(5)
    ]
    assert links == [200] * 50 + [429] * 5


@pytest.mark.parametrize("path", ["/sign-in/mail", "/sign-in/password"])
async def test_what_no_text_of_the_database_holds_is_refused_signed_out(
    site: Site, path: str
) -> None:
    data = {"mail": "anna\x00@firm.example", "password": "not it, surely"}
    assert (await site.browser().post(path, data=data)).status_code == 404


async def test_what_no_text_of_the_database_holds_is_refused_on_pages(site: Site) -> None:
    browser = site.browser()
    await browser.get("/sign-in", params={"key": site.key})
    for path, params in (
        ("/model", {"company": "a\x00"}), ("/audit", {"actor": "a\x00"}),
        ("/audit.csv", {"subject": "a\x00"}),
    ):  # fmt: skip
        assert (await browser.get(path, params=params)).status_code == 404, path
    hold = {"touch": str(uuid.uuid4()), "action": "hold", "reason": "a\x00"}
    assert (await browser.post("/planned", data=hold)).status_code == 404


async def test_a_link_survives_a_failure_to_sign_in(
    site: Site, mails: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, browser = await site.person(), site.browser()
    await browser.post("/sign-in/mail", data={"mail": anna.mail})
    token = parse_qs(urlsplit(await arrived(mails, anna.mail)).query)["token"][0]

    async def fail(*_: Any) -> None:
        raise OSError

    with monkeypatch.context() as broken:
        broken.setattr("services.scorer.ui.sign_in.record", fail)
        answer = await browser.post("/sign-in/link", data={"token": token})
        assert (answer.status_code, browser.cookies) == (503, httpx.Cookies())
    assert (await browser.post("/sign-in/link", data={"token": token})).status_code == 303


async def test_a_request_looks_its_session_up_once(
    site: Site, mails: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in(await site.person("marketing"), mails)
    asked, find = [], sign_in.find_session

    async def count(connection: AsyncConnection, session: uuid.UUID) -> sign_in.Session | None:
        asked.append(session)
        return await find(connection, session)

    monkeypatch.setattr("services.shared.http.sessions.find_session", count)
    for path in ("/people", "/import"):
        asked.clear()
        assert (await browser.get(path)).status_code in (200, 303)
        assert len(asked) == 1, path


async def test_forged_and_foreign_cookies_sign_nobody_in(site: Site, mails: SmtpServer) -> None:
    browser = await site.signed_in(await site.person(), mails)
    (right,) = browser.cookies.values()
    session, mac = right.removeprefix("p-").split(".")
    other = uuid.uuid4().hex
    for cookie in (
        f"p-{session}.{'0' * 64}",
        f"p-{other}.{mac}",
        "p-",
        "p-.",
        f"p-x.{mac}",
        "p-é.",
    ):
        forged = httpx.AsyncClient(
            transport=httpx.ASGITransport(site.app),
            base_url="http://page",
            headers={"Cookie": f"ripeline_session={cookie}".encode()},  # type: ignore[dict-item]
        )
        assert (await forged.get("/people")).status_code == 303
        await forged.aclose()


async def test_a_person_goes_on_to_imports_by_a_ticket(site: Site, mails: SmtpServer) -> None:
    marketing = await site.signed_in(await site.person("marketing"), mails)
    where = (await marketing.get("/import")).headers["location"]
    assert re.fullmatch(r"http://127\.0\.0\.1:8080/import/sign-in\?ticket=p-[0-9a-f.]+", where)
    sales = await site.signed_in(await site.person("sales"), mails)
    refused = await sales.get("/import")
    assert refused.status_code == 403
    assert "role sales may not" in refused.text


async def test_no_mail_server_is_no_other_answer(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    site = Site(settings, engine, default_playbook)  # nothing listens at its address
    await site.open()
    anna = await site.person()
    answer = await site.browser().post("/sign-in/mail", data={"mail": anna.mail})
    assert answer.status_code == 200
    async with asyncio.timeout(5):
        while [task for task in asyncio.all_tasks() if "SignIn._send" in repr(task)]:
            await asyncio.sleep(0.02)
    await site.close()


async def test_the_first_hour_needs_no_mail(site: Site) -> None:
    """A key signs in as before; the log names it; it manages nobody."""
    browser = site.browser()
    shown = (await browser.get("/sign-in")).text
    assert "mail address" not in shown, "while there is nobody"
    await browser.get("/sign-in", params={"key": site.key})
    page = (await browser.get("/people")).text
    assert "ripeline people add" in page
    assert "first hour" in page
    assert (await browser.post("/sending", data={"brake": "on"})).status_code == 303
    assert ("key first hour", "brake", "sending") in await site.log()
    assert (await browser.post("/people", data={"name": "x"})).status_code == 403
    await site.person()
    assert "Your mail address" in (await browser.get("/sign-in")).text


# -- the audit log --------------------------------------------------------------------------------


async def written(site: Site, count: int = 7) -> None:
    async with site.engine.begin() as connection:
        for number in range(count):
            actor = Actor("person", f"id-{number % 2}", ("Anna Berg", "=Bert")[number % 2])
            details = {"number": number}
            await record(connection, actor, "note", f"lead {number % 3}", details)
        await record(connection, Actor("key", "1a", "crm"), "brake", "sending", {"to": "on"})


async def asked(site: Site, path: str = "/v1/audit", **params: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {site.key}"}
    return await site.browser().get(path, params=params, headers=headers)


async def test_the_log_is_paged_and_filtered_over_http(site: Site) -> None:
    await written(site)
    answer = (await asked(site, limit=3)).json()
    assert [line["subject"] for line in answer["audit"]] == ["sending", "lead 0", "lead 2"]
    first = answer["audit"][0]
    assert (first["actor_kind"], first["actor"], first["details"]) == (
        "key", "key crm", {"to": "on"},
    )  # fmt: skip
    seen = [line["id"] for line in answer["audit"]]
    while answer["next"]:
        answer = (await asked(site, limit=3, cursor=answer["next"])).json()
        seen += [line["id"] for line in answer["audit"]]
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 8
    for filter_, count in (
        ({"actor": "Anna Berg"}, 4), ({"actor": "id-1"}, 3), ({"action": "brake"}, 1),
        ({"subject": "lead"}, 7), ({"subject": "lead 0"}, 3), ({"subject": "le"}, 0),
        ({"since": "2100-01-01T00:00:00Z"}, 0), ({"until": "2100-01-01T00:00:00Z"}, 8),
        ({"subject": "lead%"}, 0), ({"actor": "Anna Berg", "subject": "lead 2"}, 1),
    ):  # fmt: skip
        found = (await asked(site, **filter_)).json()["audit"]
        assert len(found) == count, filter_


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"action": "juggle"}, 422), ({"since": "yesterday"}, 400), ({"cursor": "x"}, 400),
        ({"limit": "0"}, 422), ({"actor": "a\x00"}, 422), ({"colour": "red"}, 400),
    ],
)  # fmt: skip
async def test_what_is_asked_wrongly_is_a_problem(
    site: Site, params: dict[str, str], status: int
) -> None:
    answer = await asked(site, **params)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_cursor_is_of_its_list(site: Site) -> None:
    await written(site)
    cursor = (await asked(site, limit=1)).json()["next"]
    assert (await asked(site, limit=1, cursor=cursor, action="note")).status_code == 400


async def test_the_log_as_a_table_has_no_formulas(site: Site, mails: SmtpServer) -> None:
    await written(site)
    boss = await site.signed_in(await site.person("admin", "Ida Boss"), mails)
    for answer in (
        await asked(site, "/v1/audit.csv", action="note"),
        await boss.get("/audit.csv", params={"action": "note"}),
    ):
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(table) == 7
        assert {row["actor"] for row in table} == {"Anna Berg", "'=Bert"}
        assert table[0]["details"] == '{"number":6}'


async def test_the_page_of_the_log_is_for_admins(site: Site, mails: SmtpServer) -> None:
    await written(site, 60)
    boss = await site.signed_in(await site.person("admin", "Ida Boss"), mails)
    page = await boss.get("/audit", params={"action": "note"})
    assert page.text.count("<li>") == 50
    older = re.search(r'href="(/audit\?[^"]+before=\d+)"', page.text)
    assert older
    assert (await boss.get(older[1].replace("&amp;", "&"))).text.count("<li>") == 10
    assert "no such day" in (await boss.get("/audit", params={"since": "soon"})).text.lower()
    none = await boss.get("/audit", params={"actor": "Nobody"})
    assert "Nothing of this kind yet" in none.text
    for role in ("sales", "marketing"):
        browser = await site.signed_in(await site.person(role), mails)
        assert (await browser.get("/audit")).status_code == 403


async def test_what_people_do_carries_their_name(site: Site, mails: SmtpServer) -> None:
    anna = await site.person("marketing")
    browser = await site.signed_in(anna, mails)
    await browser.post("/sending", data={"brake": "on"})
    await browser.post("/sending", data={"brake": "off"})
    async with site.engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT actor, actor_id, details FROM access.audit WHERE action = 'brake' ORDER BY id",
        )
    assert [(row.actor, row.actor_id) for row in found] == [(anna.name, str(anna.id))] * 2
    assert [row.details for row in found] == [{"to": "on"}, {"to": "off"}]


async def test_a_link_of_long_ago_is_not_taken(site: Site, mails: SmtpServer) -> None:
    anna, browser = await site.person(), site.browser()
    await browser.post("/sign-in/mail", data={"mail": anna.mail})
    place = await arrived(mails, anna.mail)
    async with site.engine.begin() as connection:
        old = "UPDATE access.sign_in_link SET expires_at = clock_timestamp() - interval '1 second'"
        await connection.execute(text(old))
    token = parse_qs(urlsplit(place).query)["token"][0]
    assert (await browser.post("/sign-in/link", data={"token": token})).status_code == 401
