"""People, links and sessions in the database."""

import asyncio
import re
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import rows, value
from services.shared.errors import Reject
from services.shared.people import sign_in, store
from services.shared.people.audit import command_line
from services.shared.people.audit_log import _CONDITIONS
from services.shared.people.store import Person

ME = command_line()


async def added(engine: AsyncEngine, role: str = "sales", name: str = "Anna Berg") -> Person:
    async with engine.begin() as connection:
        mail = f"{uuid.uuid4().hex[:8]}@firm.example"
        return await store.add(connection, ME, name, mail, role)


async def link(engine: AsyncEngine, person: Person) -> str:
    async with engine.begin() as connection:
        return await sign_in.make_link(connection, person.id)


async def used(engine: AsyncEngine, token: str) -> uuid.UUID | None:
    async with engine.begin() as connection:
        return await sign_in.use_link(connection, token)


async def begun(engine: AsyncEngine, person: Person) -> uuid.UUID:
    async with engine.begin() as connection:
        return await sign_in.begin_session(connection, person.id, "link", "Firefox")


async def found(engine: AsyncEngine, session: uuid.UUID) -> sign_in.Session | None:
    async with engine.begin() as connection:
        return await sign_in.find_session(connection, session)


@pytest.mark.parametrize(
    ("name", "mail", "role", "says"),
    [
        (" ", "a@firm.example", "sales", "no name"),
        ("A\nB\x00", "a@firm.example", "sales", "no name"),
        ("x" * 201, "a@firm.example", "sales", "no name"),
        ("Anna", "no address", "sales", "no mail address"),
        ("Anna", "Anna <a@firm.example>", "sales", "no mail address"),
        ("Anna", "a@firm.example\r\nBcc: b@x.example", "sales", "no mail address"),
        ("Anna", "a@firm.example", "boss", "no role 'boss'"),
    ],
)
async def test_what_is_wrong_is_said_and_adds_nobody(
    engine: AsyncEngine, name: str, mail: str, role: str, says: str
) -> None:
    with pytest.raises(Reject, match=says):
        async with engine.begin() as connection:
            await store.add(connection, ME, name, mail, role)
    async with engine.connect() as connection:
        assert not await store.everybody(connection)
        assert not await rows(connection, "SELECT 1 FROM access.audit")


async def test_an_address_is_one_person_in_any_case(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        anna = await store.add(connection, ME, "Anna  Berg", "Anna@Firm.example", "admin")
    assert (anna.name, anna.mail) == ("Anna Berg", "anna@firm.example")
    with pytest.raises(Reject, match="may sign in already"):
        async with engine.begin() as connection:
            await store.add(connection, ME, "Other", "ANNA@firm.example", "sales")
    async with engine.connect() as connection:
        assert await store.by_mail(connection, " anna@FIRM.example ") == anna
        assert await store.person(connection, str(anna.id)) == anna
        with pytest.raises(Reject, match="no person 'bert'"):
            await store.person(connection, "bert")


async def test_a_link_works_once_and_only_its_hash_is_kept(engine: AsyncEngine) -> None:
    anna = await added(engine)
    first, second = await link(engine, anna), await link(engine, anna)
    async with engine.connect() as connection:
        kept = await rows(connection, "SELECT * FROM access.sign_in_link")
    assert len(kept) == 2
    assert all(first.encode() not in row.hash and len(row.hash) == 32 for row in kept)
    assert all(row.expires_at - row.made_at < timedelta(minutes=15, seconds=1) for row in kept)
    assert len(first) >= 43
    results = await asyncio.gather(*(used(engine, first) for _ in range(8)))
    assert sorted(results, key=str) == sorted([anna.id, *[None] * 7], key=str)
    assert await used(engine, second) is None, "whoever is signed in needs no other link"
    assert await used(engine, "") is None


async def test_a_link_that_is_too_old_or_of_somebody_disabled_signs_nobody_in(
    engine: AsyncEngine,
) -> None:
    anna, bert = await added(engine), await added(engine)
    old, of_bert = await link(engine, anna), await link(engine, bert)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE access.sign_in_link SET expires_at = now() WHERE person_id = :id"),
            {"id": anna.id},
        )
        await connection.execute(
            text("UPDATE access.person SET disabled_at = now() WHERE id = :id"), {"id": bert.id}
        )
    assert await used(engine, old) is None
    assert await used(engine, of_bert) is None
    await link(engine, anna)
    async with engine.connect() as connection:
        count = "SELECT count(*) FROM access.sign_in_link WHERE person_id = :id"
        assert await value(connection, count, id=anna.id) == 1, "old ones are taken out"


async def test_links_and_sessions_of_a_person_are_bounded(engine: AsyncEngine) -> None:
    anna = await added(engine)
    tokens = [await link(engine, anna) for _ in range(sign_in.MOST_LINKS + 3)]
    for _ in range(sign_in.MOST_SESSIONS + 3):
        last = await begun(engine, anna)
    async with engine.connect() as connection:
        links = await value(connection, "SELECT count(*) FROM access.sign_in_link")
        sessions = await sign_in.sessions_of(connection, anna.id)
    assert (links, len(sessions)) == (sign_in.MOST_LINKS, sign_in.MOST_SESSIONS)
    assert last in {session.id for session in sessions}
    assert await used(engine, tokens[0]) is None
    assert await used(engine, tokens[-1]) == anna.id


async def test_a_session_ends_by_time_by_hand_and_with_its_person(engine: AsyncEngine) -> None:
    anna = await added(engine)
    by_time, by_hand, with_person = [await begun(engine, anna) for _ in range(3)]
    session = await found(engine, by_time)
    assert session
    assert (session.name, session.role, session.way) == ("Anna Berg", "sales", "link")
    assert (str(session.actor), session.actor.id) == ("Anna Berg", str(anna.id))
    assert session.ends_at - session.began_at == timedelta(days=sign_in.SESSION_DAYS)
    async with engine.begin() as connection:
        statement = "UPDATE access.session SET ends_at = now() WHERE id = :id"
        await connection.execute(text(statement), {"id": by_time})
        assert await sign_in.end_session(connection, by_hand) == anna.id
        assert await sign_in.end_session(connection, by_hand) is None
    assert await found(engine, by_time) is None
    assert await found(engine, by_hand) is None
    assert await found(engine, with_person)
    async with engine.begin() as connection:
        gone = await store.disable(connection, ME, anna.mail)
        assert gone.disabled_at
        assert await store.disable(connection, ME, anna.id) == gone
    assert await found(engine, with_person) is None
    async with engine.connect() as connection:
        assert await store.by_mail(connection, anna.mail) is None


async def test_a_new_password_ends_the_other_sessions(engine: AsyncEngine) -> None:
    anna = await added(engine)
    this, other, token = (
        await begun(engine, anna),
        await begun(engine, anna),
        await link(engine, anna),
    )
    async with engine.begin() as connection:
        await store.set_password(connection, ME, anna, "a hash", this)
        assert await store.password_of(connection, anna.id) == "a hash"
    assert await found(engine, this)
    assert await found(engine, other) is None
    assert await used(engine, token) is None


async def test_whoever_comes_back_has_no_password_and_a_new_role(engine: AsyncEngine) -> None:
    anna = await added(engine)
    async with engine.begin() as connection:
        await store.set_password(connection, ME, anna, "a hash")
        await store.disable(connection, ME, anna.mail)
        again = await store.add(connection, ME, "Anna Wolf", anna.mail, "marketing")
    assert (again.id, again.name, again.role) == (anna.id, "Anna Wolf", "marketing")
    assert not again.has_password
    assert again.disabled_at is None


async def test_the_last_admin_stays(engine: AsyncEngine) -> None:
    """Also where two admins disable each other at one moment."""
    one, two = await added(engine, "admin", "One"), await added(engine, "admin", "Two")

    async def disabled(who: Person) -> str:
        try:
            async with engine.begin() as connection:
                await store.disable(connection, ME, who.id)
                await asyncio.sleep(0.05)
        except Reject as error:
            return error.title
        return "disabled"

    results = await asyncio.gather(disabled(one), disabled(two))
    assert sorted(results)[1] == "disabled"
    assert sorted(results)[0] in ("One is the last admin", "Two is the last admin")
    async with engine.connect() as connection:
        (left,) = [person for person in await store.everybody(connection) if not person.disabled_at]
    with pytest.raises(Reject, match="is the last admin"):
        async with engine.begin() as connection:
            await store.set_role(connection, ME, left.id, "sales")
    three = await added(engine)
    async with engine.begin() as connection:
        await store.set_role(connection, ME, three.id, "admin")
        assert (await store.set_role(connection, ME, left.id, "sales")).role == "sales"


async def test_what_happens_to_people_is_in_the_log(engine: AsyncEngine) -> None:
    anna, boss = await added(engine), await added(engine, "admin")
    async with engine.begin() as connection:
        await store.set_role(connection, boss_of(boss), anna.id, "marketing")
        await store.set_role(connection, boss_of(boss), anna.id, "marketing")
        await store.disable(connection, boss_of(boss), anna.id)
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT actor, details FROM access.audit WHERE subject = :subject ORDER BY id",
            subject=f"person {anna.id}",
        )
    assert [row.details["change"] for row in found] == ["added", "role", "disabled"]
    assert found[1].details == {
        "change": "role", "name": "Anna Berg", "from": "sales", "to": "marketing",
    }  # fmt: skip
    assert [row.actor for row in found[1:]] == [boss.name] * 2


@pytest.mark.parametrize(
    ("asked", "indexes"),
    [("actor", {"audit_actor", "audit_actor_id"}), ("subject", {"audit_subject"})],
)
async def test_the_log_is_filtered_by_its_indexes(
    engine: AsyncEngine, asked: str, indexes: set[str]
) -> None:
    """Where a table is large; one without rows is read as a whole unless that is forbidden."""
    statement = f"EXPLAIN (COSTS OFF) SELECT id FROM access.audit WHERE {_CONDITIONS[asked]}"
    async with engine.connect() as connection:
        for way in ("seqscan", "indexscan"):
            await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        plan = "\n".join(row[0] for row in await rows(connection, statement, **{asked: "lead"}))
    assert set(re.findall(r"Index Scan on (\w+)", plan)) == indexes, plan
    assert "Index Cond: (subject = " in plan or asked != "subject", plan


def boss_of(person: Person) -> sign_in.Actor:
    return sign_in.Actor("person", str(person.id), person.name, person.role)
