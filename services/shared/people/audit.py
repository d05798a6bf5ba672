"""The audit log: who did what to what. Lines are appended; a trigger of the database refuses every
other statement.
"""

import getpass
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.people.roles import Role

ActorKind = Literal["person", "key", "command line"]
Action = Literal[
    "answer",
    "assertion",
    "brake",
    "hold",
    "import",
    "key",
    "note",
    "pause",
    "person",
    "publish",
    "release",
    "send",
    "send-test",
    "session",
    "sign-in",
    "skip",
]
ACTIONS: tuple[Action, ...] = get_args(Action)
MAX_NAME = 200  # characters of the name of an actor or of a subject


class Actor(NamedTuple):
    """Who acts: a person or an API key with its id, or the command line with the name of its
    account. `role` is None where none is checked: of keys and of the command line.
    """

    kind: ActorKind
    id: str
    name: str
    role: Role | None = None

    def __str__(self) -> str:
        return self.name if self.kind == "person" else f"{self.kind} {self.name}".rstrip()


def command_line() -> Actor:
    """Whoever runs a command here."""
    try:
        return Actor("command line", "", getpass.getuser())
    except (KeyError, OSError):  # an account without a name
        return Actor("command line", "", "")


async def record(
    connection: AsyncConnection,
    actor: Actor,
    action: Action,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Appends a line, in the transaction of what it tells of.

    `subject` is a kind and an id (`lead 0190…`, `key 1a2b…`, `content guide`), or a kind alone
    (`sending`). `details` are what was chosen, as JSON has it; no personal data of leads, for
    nothing takes a line out again.
    """
    await connection.execute(
        text(
            "INSERT INTO access.audit (actor_kind, actor_id, actor, action, subject, details) "
            "VALUES (:kind, :id, :name, :action, :subject, CAST(:details AS jsonb))"
        ),
        {
            "kind": actor.kind,
            "id": actor.id,
            "name": str(actor)[:MAX_NAME],
            "action": action,
            "subject": subject[:MAX_NAME],
            "details": msgspec.json.encode(details or {}).decode(),
        },
    )
