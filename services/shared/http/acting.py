"""Who acts in a request: the person who is signed in, or the key that it came with. Whatever
authorises a request says so here; routes that record what was done ask for `Acting`, and those that
not every role may use depend on `only`.
"""

from typing import Annotated, Any

from fastapi import Depends, Request

from services.shared.errors import Reject
from services.shared.http.keys import ApiKey
from services.shared.people.audit import Actor
from services.shared.people.roles import Role


def acts(request: Request, who: Actor | ApiKey) -> Actor:
    """Remembers who acts in this request, and returns it."""
    actor = who if isinstance(who, Actor) else Actor("key", who.id, who.name)
    request.state.actor = actor
    return actor


async def acting(request: Request) -> Actor:
    """Who acts in a request that was authorised before."""
    actor: Actor = request.state.actor
    return actor


Acting = Annotated[Actor, Depends(acting)]


def only(*roles: Role, keys: bool = True) -> Any:
    """A dependency that lets people of these roles pass, and keys unless said otherwise; what a key
    may do is in its scope. Raises Reject `forbidden`.
    """

    async def check(actor: Acting) -> None:
        check_role(actor, *roles, keys=keys)

    return Depends(check)


def check_role(actor: Actor, *roles: Role, keys: bool = True) -> None:
    """Raises Reject `forbidden` for a person of another role, and for a key where none may."""
    if actor.role in roles or (keys and actor.kind == "key"):
        return
    who = f"a person of the role {actor.role}" if actor.role else "a key"
    raise Reject(
        f"{who} may not do this",
        where="role",
        remedy=f"ask somebody of the role {' or '.join(roles)}",
        kind="forbidden",
    )
