"""People: added, listed, disabled; links and passwords for them."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.clock import rfc3339
from services.shared.errors import Reject, Retry
from services.shared.people import sign_in, store
from services.shared.people.audit import command_line, record
from services.shared.people.mail import SignInMail, address_of
from services.shared.people.passwords import Passwords, check_password
from services.shared.people.store import Person
from services.shared.settings import Settings


class KnownPerson(NamedTuple):
    """What is shown of a person; times as RFC 3339, `sessions` those in force."""

    id: str
    name: str
    mail: str
    role: str
    has_password: bool
    sessions: int
    created_at: str | None
    signed_in_at: str | None
    disabled_at: str | None


class Invited(NamedTuple):
    """A person with a link, '' where it went by mail alone, and why it did not."""

    person: KnownPerson
    link: str
    mailed: bool
    why_not: str = ""


async def add(
    engine: AsyncEngine, settings: Settings, name: str, mail: str, role: str, *, by_mail: bool
) -> Invited:
    """Adds a person with a link to sign in. Raises Reject."""
    async with engine.begin() as connection:
        added = await store.add(connection, command_line(), name, mail, role)
    return await invite(engine, settings, str(added.id), by_mail=by_mail)


async def invite(
    engine: AsyncEngine, settings: Settings, reference: str, *, by_mail: bool
) -> Invited:
    """Makes a link for a person, and mails it where a server takes it; a sink's mail reaches
    nobody, so that the link is returned as well. Raises Reject.
    """
    async with engine.begin() as connection:
        person = await store.person(connection, reference)
        store.check_enabled(person)
        link = address_of(settings, await sign_in.make_link(connection, person.id))
        if not by_mail:  # whoever reads it here can sign in with it
            details = {"change": "link shown", "name": person.name}
            await record(connection, command_line(), "person", f"person {person.id}", details)
    known = _known(person, 0)
    if not by_mail:
        return Invited(known, link, mailed=False)
    try:
        await SignInMail(settings).send(person.name, person.mail, link)
    except (Reject, Retry) as away:
        return Invited(known, link, mailed=False, why_not=str(away))
    return Invited(known, link if settings.smtp_is_sink else "", mailed=True)


async def everybody(engine: AsyncEngine) -> list[KnownPerson]:
    """All people by name, those who are disabled last."""
    async with engine.connect() as connection:
        people = await store.everybody(connection)
        sessions = [session.person_id for session in await sign_in.sessions_of(connection)]
    return [_known(person, sessions.count(person.id)) for person in people]


async def disable(engine: AsyncEngine, reference: str) -> KnownPerson:
    """Disables a person of this mail address or id. Raises Reject."""
    async with engine.begin() as connection:
        return _known(await store.disable(connection, command_line(), reference), 0)


async def set_role(engine: AsyncEngine, reference: str, role: str) -> KnownPerson:
    """Gives a person another role. Raises Reject."""
    async with engine.begin() as connection:
        return _known(await store.set_role(connection, command_line(), reference, role), 0)


async def set_password(engine: AsyncEngine, reference: str, password: str) -> KnownPerson:
    """Sets a person's password, which ends their sessions. Raises Reject."""
    async with engine.connect() as connection:
        person = await store.person(connection, reference)
    store.check_enabled(person)
    check_password(password, person.mail)
    stored = await Passwords().hash(password)
    async with engine.begin() as connection:
        await store.set_password(connection, command_line(), person, stored)
    return _known(person, 0)


def _known(person: Person, sessions: int) -> KnownPerson:
    return KnownPerson(
        str(person.id),
        person.name,
        person.mail,
        person.role,
        person.has_password,
        sessions,
        _time(person.created_at),
        _time(person.signed_in_at),
        _time(person.disabled_at),
    )


def _time(at: datetime | None) -> str | None:
    return rfc3339(at) if at else None
