"""Who acts in a request: the person who is signed in, or the key that it came with. Whatever
authorises a request says so here; routes that record what was done ask for `Acting`.
"""

from typing import Annotated

from fastapi import Depends, Request

from services.shared.http.keys import ApiKey
from services.shared.people.audit import Actor


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
