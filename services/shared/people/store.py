"""People: who may sign in, and in which role."""

import uuid
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.db import rows
from services.shared.errors import Reject
from services.shared.people.audit import Actor, record
from services.shared.people.roles import ROLES, Role
from services.shared.people.sign_in import end_sessions
from services.shared.urls import read_sender

MAX_NAME, MAX_MAIL = 200, 320  # characters
SEE = "`ripeline people list` names everybody"


class Person(NamedTuple):
    """Somebody who may sign in unless `disabled_at` says since when not; `mail` in lower case."""

    id: uuid.UUID
    name: str
    mail: str
    role: Role
    has_password: bool
    created_at: datetime
    signed_in_at: datetime | None
    disabled_at: datetime | None


async def everybody(connection: AsyncConnection) -> list[Person]:
    """All people by name, those who are disabled last."""
    found = await rows(connection, f"{_PEOPLE} ORDER BY disabled_at IS NOT NULL, lower(name), id")
    return [Person(*row) for row in found]


async def is_anybody(connection: AsyncConnection) -> bool:
    """Whether anybody may sign in by name."""
    return bool(
        await rows(connection, "SELECT 1 FROM access.person WHERE disabled_at IS NULL LIMIT 1")
    )


async def by_mail(connection: AsyncConnection, mail: str) -> Person | None:
    """Who has this address, unless disabled."""
    statement = f"{_PEOPLE} WHERE mail = :mail AND disabled_at IS NULL"
    found = await rows(connection, statement, mail=mail.strip().lower()[:MAX_MAIL])
    return Person(*found[0]) if found else None


async def person(connection: AsyncConnection, reference: str | uuid.UUID) -> Person:
    """The person of an id or a mail address. Raises Reject `not-found`."""
    statement = f"{_PEOPLE} WHERE mail = :reference OR CAST(id AS text) = :reference"
    found = await rows(connection, statement, reference=str(reference).strip().lower())
    if not found:
        raise Reject(
            f"no person {str(reference)[:100]!r}", where="person", remedy=SEE, kind="not-found"
        )
    return Person(*found[0])


def check_enabled(of: Person) -> None:
    """Raises Reject for somebody who is disabled."""
    if of.disabled_at:
        raise Reject(
            f"{of.name} is disabled",
            where="person",
            remedy="`ripeline people add` lets them sign in again",
        )


async def add(connection: AsyncConnection, actor: Actor, name: str, mail: str, role: str) -> Person:
    """Adds a person, or lets one who was disabled sign in again, with this name and role. Raises
    Reject for no name, address or role, and for somebody who may sign in already.
    """
    name, mail = _name(name), _mail(mail)
    values = {"name": name, "mail": mail, "role": _role(role)}
    found = await rows(connection, _ADD, **values)
    if not found:
        raise Reject(f"{mail} may sign in already", where="mail", remedy=SEE)
    added = Person(*found[0])
    await record(connection, actor, "person", _subject(added), {"change": "added"} | values)
    return added


async def set_role(
    connection: AsyncConnection, actor: Actor, reference: str | uuid.UUID, role: str
) -> Person:
    """Gives a person another role. Raises Reject for an unknown person or role, and for the last
    admin.
    """
    role = _role(role)
    await connection.execute(text(_LOCK_ADMINS))
    found = await person(connection, reference)
    if found.role == role:
        return found
    if role != "admin":
        await _check_not_last(connection, found)
    await _change(connection, "role = :role", found, role=role)
    details = {"change": "role", "name": found.name, "from": found.role, "to": role}
    await record(connection, actor, "person", _subject(found), details)
    return found._replace(role=role)


async def disable(connection: AsyncConnection, actor: Actor, reference: str | uuid.UUID) -> Person:
    """Ends a person's sessions at once and lets nobody sign in as them. Raises Reject for an
    unknown person and for the last admin; one who is disabled already stays so.
    """
    await connection.execute(text(_LOCK_ADMINS))
    found = await person(connection, reference)
    if found.disabled_at:
        return found
    await _check_not_last(connection, found)
    await _change(connection, "disabled_at = clock_timestamp(), password = NULL", found)
    await end_sessions(connection, found.id)
    await record(
        connection, actor, "person", _subject(found), {"change": "disabled", "name": found.name}
    )
    return await person(connection, found.id)


async def set_password(
    connection: AsyncConnection, actor: Actor, of: Person, stored: str, but: uuid.UUID | None = None
) -> None:
    """Stores the hash of a password; sessions of the person end, all but one."""
    await _change(connection, "password = :password", of, password=stored)
    await end_sessions(connection, of.id, but)
    await record(connection, actor, "person", _subject(of), {"change": "password", "name": of.name})


async def renew_password(connection: AsyncConnection, of: Person, stored: str) -> None:
    """Stores another hash of the same password."""
    await _change(connection, "password = :password", of, password=stored)


async def password_of(connection: AsyncConnection, of: uuid.UUID | None) -> str | None:
    """The hash of a person's password, None where there is no person or no password."""
    statement = "SELECT password FROM access.person WHERE id = :id AND disabled_at IS NULL"
    found = await rows(connection, statement, id=of)
    return found[0].password if found else None


async def _change(connection: AsyncConnection, what: str, of: Person, **values: str) -> None:
    await connection.execute(
        text(f"UPDATE access.person SET {what} WHERE id = :id"), {"id": of.id, **values}
    )


async def _check_not_last(connection: AsyncConnection, leaving: Person) -> None:
    """Raises Reject where nobody would be left who can add people."""
    if leaving.role == "admin" and not await rows(connection, _OTHER_ADMINS, id=leaving.id):
        raise Reject(
            f"{leaving.name} is the last admin",
            where="person",
            remedy="make somebody else an admin first",
        )


def _subject(of: Person) -> str:
    return f"person {of.id}"


def _name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise Reject("no name", where="name", remedy=f"write 1 to {MAX_NAME} characters")
    return name


def _mail(mail: str) -> str:
    try:
        sender = read_sender(mail)
    except ValueError:
        sender = None
    if sender is None or sender.display_name or len(mail) > MAX_MAIL:
        raise Reject("no mail address", where="mail", remedy="write it like anna@example.com")
    return sender.addr_spec.lower()


def _role(role: str) -> Role:
    found = next((known for known in ROLES if known == role), None)
    if found is None:
        raise Reject(
            f"no role {role[:40]!r}", where="role", remedy=f"use one of {', '.join(ROLES)}"
        )
    return found


_COLUMNS = """id, name, mail, role, password IS NOT NULL AS has_password, created_at, signed_in_at,
    disabled_at"""
_PEOPLE = f"SELECT {_COLUMNS} FROM access.person"
_ADD = f"""INSERT INTO access.person AS p (name, mail, role) VALUES (:name, :mail, :role)
    ON CONFLICT (mail) DO UPDATE SET name = excluded.name, role = excluded.role, disabled_at = NULL
    WHERE p.disabled_at IS NOT NULL RETURNING {_COLUMNS}"""
_LOCK_ADMINS = """SELECT 1 FROM access.person WHERE role = 'admin' AND disabled_at IS NULL
    ORDER BY id FOR UPDATE"""
_OTHER_ADMINS = """SELECT 1 FROM access.person
    WHERE role = 'admin' AND disabled_at IS NULL AND id <> :id"""
